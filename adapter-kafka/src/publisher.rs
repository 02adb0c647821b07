//! Publishing: one record a message, confirmed when all in-sync replicas have it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use messaging_core::spi::{Permit, PublisherCore};
use messaging_core::wire::Facts;
use messaging_core::{Message, Outcome, PublishOptions, Publisher, Receipt, Scope};
use rdkafka::producer::BaseRecord;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::connection::{Connection, closed};
use crate::convert::{headers_of, key_of, payload_of, timestamp_of};
use crate::producer::Sender;

/// Interval between refreshes of the partition count; equals the consumers' metadata refresh.
const PARTITIONS_REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// One of the topics that a publisher writes to.
#[derive(Debug)]
pub(crate) struct TargetTopic {
    pub(crate) name: String,
    /// How many partitions there are, 0 if that is not known: messages without a key go to each in turn.
    partitions: AtomicUsize,
}

impl TargetTopic {
    pub(crate) fn new(name: String, partitions: i32) -> Self {
        Self { name, partitions: AtomicUsize::new(usize::try_from(partitions).unwrap_or(0)) }
    }
}

/// Where a publisher's records go.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) main: TargetTopic,
    /// Where delayed ones wait; none for replies.
    pub(crate) delayed: Option<TargetTopic>,
    /// The only partition and the requester's own key, for replies.
    pub(crate) reply: Option<(i32, String)>,
}

impl Target {
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TargetTopic> {
        std::iter::once(&self.main).chain(&self.delayed)
    }
}

/// A handle that publishes to one topic.
#[derive(Debug)]
pub(crate) struct KafkaPublisher {
    core: PublisherCore,
    target: Target,
    connection: Arc<Connection>,
    sender: Arc<Sender>,
    next: AtomicUsize,
    /// Looks up partitions; ends with the publisher.
    looking_up: OnceLock<JoinHandle<()>>,
}

impl KafkaPublisher {
    pub(crate) fn new(
        scope: Scope,
        target: Target,
        connection: Arc<Connection>,
        sender: Arc<Sender>,
        options: &PublishOptions,
        runtime: &Handle,
    ) -> Arc<Self> {
        let core = PublisherCore::new(scope, options).with_tickets(Arc::clone(sender.tickets()));
        // Handles begin at different partitions, or the first would get every handle's first message.
        let first =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos() as usize);
        let (next, looking_up) = (AtomicUsize::new(first), OnceLock::new());
        let publisher = Arc::new(Self { core, target, connection, sender, next, looking_up });
        // Replies go to the one partition that their address names.
        if publisher.target.reply.is_none() {
            let _ = publisher.looking_up.set(runtime.spawn(look_up(Arc::downgrade(&publisher))));
        }
        publisher
    }

    /// The partition of a message: by its key where it has one (Java's hash, in librdkafka), else each in turn, so that every
    /// member of a group gets work.
    fn partition(&self, topic: &TargetTopic, message: &Message) -> Option<i32> {
        if let Some((partition, _)) = &self.target.reply {
            return Some(*partition);
        }
        let partitions = topic.partitions.load(Ordering::Relaxed);
        if partitions == 0 || key_of(message).is_some() {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % partitions;
        i32::try_from(turn).ok()
    }

    /// Times that a record carries for this message; none for most.
    fn facts(message: &Message) -> Facts {
        if message.delay().is_none() && message.ttl().is_none() {
            return Facts::default();
        }
        let now = SystemTime::now();
        let later = |by: Duration| now.checked_add(by).unwrap_or(now);
        let delay = message.delay().filter(|delay| !delay.is_zero());
        Facts { due: delay.map(later), expires: message.ttl().map(later), ..Facts::default() }
    }
}

/// Takes up partitions that are added to the topics, as long as there is a publisher.
async fn look_up(publisher: Weak<KafkaPublisher>) {
    loop {
        tokio::time::sleep(PARTITIONS_REFRESH_INTERVAL).await;
        let Some(publisher) = publisher.upgrade().filter(|one| !one.connection.is_closed()) else { return };
        let topics: Vec<&TargetTopic> = publisher.target.topics().collect();
        let counts = publisher.sender.look_up(topics.iter().map(|topic| topic.name.clone()).collect()).await;
        for (topic, count) in topics.into_iter().zip(counts) {
            if let Some(count) = count {
                topic.partitions.store(count, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for KafkaPublisher {
    fn drop(&mut self) {
        if let Some(looking_up) = self.looking_up.get() {
            looking_up.abort();
        }
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    fn core(&self) -> &PublisherCore {
        &self.core
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        if self.connection.is_closed() {
            return Outcome::ready(Err(closed()));
        }
        let facts = Self::facts(&message);
        let topic = match &self.target.delayed {
            Some(delayed) if facts.due.is_some() => delayed,
            _ => &self.target.main,
        };
        self.sender.send(permit, |ticket| {
            let mut record = BaseRecord::with_opaque_to(&topic.name, ticket).timestamp(timestamp_of(&message));
            record.partition = self.partition(topic, &message);
            record.key = self.target.reply.as_ref().map(|(_, key)| key.as_bytes()).or_else(|| key_of(&message));
            record.payload = payload_of(&message);
            record.headers(headers_of(&message, &facts.entries()))
        })
    }
}
