//! Repairing: redrive, purge, and the end of a subscription.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use adapter_kit::{EndReason, Feeder as _};
use async_trait::async_trait;
use messaging_core::{Error, ErrorKind, Part, Redrive, Repair, Result, Source, SubscriptionName, TopicName};
use rdkafka::admin::AdminOptions;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use super::dead::{send_back, take_out_all};
use super::reader::observer;
use super::standing::{Standing, standing};
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::{Ending, Metadata, PartitionId, Shared, commit_now};
use crate::error::{from_code, from_kafka};
use crate::topology::{Topics, partitions};

/// Time in which members leave a group that is to be deleted.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

#[async_trait]
impl Repair for KafkaBroker {
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        send_back(self, source, which).await
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        match part {
            Part::Dead => take_out_all(self, source).await.map(Some),
            Part::Live => pass_over(self, source).await.map(|()| None),
        }
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        let source = Source::Subscription(topic.clone(), name.clone());
        // Fails if there is no such subscription.
        standing(self, &source).await?;
        end_consumers(self, &source).await;
        delete_group(self, &source).await?;
        let topics = Topics::of_source(self.names(), &source);
        delete_topics(self, &[topics.retry, topics.dead].into_iter().flatten().collect::<Vec<_>>()).await
    }
}

/// Has the group go on at the ends of its partitions.
async fn pass_over(broker: &KafkaBroker, source: &Source) -> Result<()> {
    let standing = standing(broker, source).await?;
    let is_here =
        |one: &Arc<Shared>| one.settings.source.as_ref() == Some(source) && !one.feed.progress.borrow().has_left;
    let here: Vec<_> = broker.consumers().into_iter().filter(is_here).collect();
    if !here.is_empty() {
        let held: HashSet<PartitionId> = here.iter().flat_map(|one| one.ids()).collect();
        if let Some(Standing { place: (topic, number), .. }) = standing.iter().find(|one| !held.contains(&one.place)) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "partition {topic}/{number} of {source} is a consumer's elsewhere, or nobody's yet: nothing was purged; \
                     try again, or stop the consumers first"
                ),
            ));
        }
        let by = Instant::now() + REQUEST_TIMEOUT;
        for shared in here {
            shared.purge(by).await?;
            // A crash from here on brings nothing of it back.
            shared.feed.flush(by).await?;
        }
        return Ok(());
    }
    let (connection, group) = (broker.connection().clone(), broker.names().source(source));
    let ends: Vec<_> = standing.into_iter().map(|one| (one.place, one.end, Metadata::new(Ending::Clean))).collect();
    let commit = move || commit_now(&observer(&connection.options, &group)?, &ends);
    blocking("passing over what waits", REQUEST_TIMEOUT * 2, commit).await?.map_err(|error| match error.kind() {
        ErrorKind::StaleDelivery => Error::new(
            ErrorKind::Conflict,
            format!("{source} has consumers elsewhere: stop them before it is purged, or purge it there"),
        ),
        _ => error,
    })
}

/// Ends what this handle consumes of a source that is going.
async fn end_consumers(broker: &KafkaBroker, source: &Source) {
    let text = format!("{source} was ended while it was consumed");
    for shared in broker.consumers() {
        if shared.settings.source.as_ref() != Some(source) {
            continue;
        }
        let mut progress = shared.feed.progress.subscribe();
        shared.outlet.end(EndReason::new(ErrorKind::NotFound, text.clone()));
        shared.feed.leave();
        // Past it the group is not empty, and deleting it returns that error.
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, progress.wait_for(|progress| progress.has_left)).await;
    }
}

async fn delete_group(broker: &KafkaBroker, source: &Source) -> Result<()> {
    let group = broker.names().source(source);
    let admin = broker.connection().admin()?;
    let Some(client) = admin.get() else { return Ok(()) };
    let begun = Instant::now();
    let what = format!("the group of {source} cannot be deleted");
    loop {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let deleted = client.delete_groups(&[&group], &options).await;
        let result = deleted.map_err(|error| from_kafka(&what, &error))?.into_iter().next();
        match result {
            None | Some(Ok(_) | Err((_, Code::GroupIdNotFound))) => return Ok(()),
            Some(Err((_, Code::NonEmptyGroup))) if begun.elapsed() < LEAVE_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some(Err((_, code))) => return Err(from_code(&what, code)),
        }
    }
}

async fn delete_topics(broker: &KafkaBroker, topics: &[String]) -> Result<()> {
    let admin = broker.connection().admin()?;
    let Some(client) = admin.get() else { return Ok(()) };
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let deleted = client.delete_topics(&names, &options).await;
    for result in deleted.map_err(|error| from_kafka("topics cannot be deleted", &error))? {
        match result {
            Ok(_) | Err((_, Code::UnknownTopicOrPartition)) => {}
            Err((name, code)) => return Err(from_code(&format!("topic {name:?} cannot be deleted"), code)),
        }
    }
    // A caller that makes them again at once must not find the old ones.
    let begun = Instant::now();
    while begun.elapsed() < LEAVE_TIMEOUT && partitions(broker.connection(), &names).await?.iter().any(Option::is_some)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
