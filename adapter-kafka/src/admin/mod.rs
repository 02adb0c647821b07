//! Planning, inspecting and repairing.

mod dead;
mod declare;
mod reader;
mod standing;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::{
    Browsed, Control as _, DeadLetter, Declaration, Depth, Error, ErrorKind, Inspect, Part, Plan, Redrive, Repair,
    Result, Source, SourcePosition, SubscriptionName, TopicName, Topology,
};
use rdkafka::admin::AdminOptions;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::Instant;

use self::reader::observer;
use self::standing::Standing;
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::{End, Ending, Intake, Metadata, PartitionId, commit_now};
use crate::error::{from_code, from_kafka};
use crate::topology::{Topics, partitions};

/// How long members may take to leave a group that is to be deleted.
const LEAVE: Duration = Duration::from_secs(10);

#[async_trait]
impl Topology for KafkaBroker {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.connection().check_open()?;
        Ok(self.planned(declarations).await?.plan())
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        self.connection().check_open()?;
        self.create_missing(declarations).await
    }
}

#[async_trait]
impl Inspect for KafkaBroker {
    async fn depth(&self, source: &Source) -> Result<Depth> {
        self.depth_of(source).await
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        self.lag_of(source).await
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        self.positions_of(source).await
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.browse_at(source, max).await
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let mut letters = self.letters(source).await?;
        letters.truncate(max);
        Ok(letters.into_iter().map(|one| one.letter).collect())
    }
}

#[async_trait]
impl Repair for KafkaBroker {
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        self.send_back(source, which).await
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        match part {
            Part::Dead => self.bury(source).await.map(Some),
            Part::Live => self.pass_over(source).await.map(|()| None),
        }
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        let source = Source::Subscription(topic.clone(), name.clone());
        // Fails if there is no such subscription.
        self.standing(&source).await?;
        self.end_consumers(&source).await;
        self.delete_group(&source).await?;
        let topics = Topics::of_source(self.names(), &source);
        self.delete_topics(&[topics.retry, topics.dead].into_iter().flatten().collect::<Vec<_>>()).await
    }
}

impl KafkaBroker {
    /// Has the group go on at the ends of its partitions.
    async fn pass_over(&self, source: &Source) -> Result<()> {
        let standing = self.standing(source).await?;
        let is_here =
            |one: &Arc<Intake>| one.settings.source.as_ref() == Some(source) && !one.progress.borrow().has_left;
        let here: Vec<_> = self.consumers().into_iter().filter(is_here).collect();
        if !here.is_empty() {
            let held: HashSet<PartitionId> = here.iter().flat_map(|one| one.places()).collect();
            if let Some(Standing { place: (topic, number), .. }) =
                standing.iter().find(|one| !held.contains(&one.place))
            {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "partition {topic}/{number} of {source} is a consumer's elsewhere, or nobody's yet: nothing was purged; \
                         try again, or stop the consumers first"
                    ),
                ));
            }
            let by = Instant::now() + REQUEST_TIMEOUT;
            for intake in here {
                intake.purge(by).await?;
                // A crash from here on brings nothing of it back.
                intake.flush(by).await?;
            }
            return Ok(());
        }
        let (connection, group) = (self.connection().clone(), self.names().source(source));
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
    async fn end_consumers(&self, source: &Source) {
        let text = format!("{source} was ended while it was consumed");
        for intake in self.consumers() {
            if intake.settings.source.as_ref() != Some(source) {
                continue;
            }
            let mut progress = intake.progress.subscribe();
            intake.end(End::new(ErrorKind::NotFound, text.clone()));
            intake.leave();
            // Past it the group is not empty, which is told.
            let _ = tokio::time::timeout(LEAVE, progress.wait_for(|progress| progress.has_left)).await;
        }
    }

    async fn delete_group(&self, source: &Source) -> Result<()> {
        let group = self.names().source(source);
        let admin = self.connection().admin()?;
        let Some(client) = admin.get() else { return Ok(()) };
        let begun = Instant::now();
        let what = format!("the group of {source} cannot be deleted");
        loop {
            let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
            let deleted = client.delete_groups(&[&group], &options).await;
            let result = deleted.map_err(|error| from_kafka(&what, &error))?.into_iter().next();
            match result {
                None | Some(Ok(_) | Err((_, Code::GroupIdNotFound))) => return Ok(()),
                Some(Err((_, Code::NonEmptyGroup))) if begun.elapsed() < LEAVE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Some(Err((_, code))) => return Err(from_code(&what, code)),
            }
        }
    }

    async fn delete_topics(&self, topics: &[String]) -> Result<()> {
        let admin = self.connection().admin()?;
        let Some(client) = admin.get() else { return Ok(()) };
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let deleted = client.delete_topics(&names, &options).await;
        for result in deleted.map_err(|error| from_kafka("topics cannot be deleted", &error))? {
            match result {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition)) => {}
                Err((name, code)) => return Err(from_code(&format!("topic {name:?} cannot be deleted"), code)),
            }
        }
        // A caller that makes them again at once must not find the old ones.
        let begun = Instant::now();
        while begun.elapsed() < LEAVE && partitions(self.connection(), &names).await?.iter().any(Option::is_some) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}
