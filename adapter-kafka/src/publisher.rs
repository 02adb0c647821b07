//! Publishing: one record a message, confirmed when all in-sync replicas have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use messaging_core::wire::{self, to_millis};
use messaging_core::{
    Error, ErrorKind, ErrorOutcome, InFlight, Message, Outcome, PublishOptions, Publisher, Receipt, Result, Room, Scope,
};
use rdkafka::producer::BaseRecord;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::convert::{headers_of, key_of, payload_of, timestamp_of};
use crate::producer::Sender;

/// Where a publisher's records go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) topic: String,
    /// Where delayed ones wait; none for replies.
    pub(crate) delayed: Option<String>,
    /// How many partitions there are, if that is known: messages without a key go to each in turn.
    pub(crate) partitions: usize,
    /// The only partition and the requester's own key, for replies.
    pub(crate) reply: Option<(i32, String)>,
}

/// A handle that publishes to one topic.
#[derive(Debug)]
pub(crate) struct KafkaPublisher {
    scope: Scope,
    target: Target,
    connection: Arc<Connection>,
    sender: Arc<Sender>,
    pub(crate) in_flight: InFlight,
    next: AtomicUsize,
}

impl KafkaPublisher {
    pub(crate) fn new(
        scope: Scope,
        target: Target,
        connection: Arc<Connection>,
        sender: Arc<Sender>,
        options: &PublishOptions,
    ) -> Arc<Self> {
        let in_flight = InFlight::new(options.in_flight, options.in_flight_bytes);
        // Handles begin at different partitions, or the first would get every handle's first message.
        let first =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos() as usize);
        Arc::new(Self { scope, target, connection, sender, in_flight, next: AtomicUsize::new(first) })
    }

    /// The partition of a message: by its key where it has one (Java's hash, in librdkafka), else each in turn, so that every
    /// member of a group gets work.
    fn partition(&self, message: &Message) -> Option<i32> {
        if let Some((partition, _)) = &self.target.reply {
            return Some(*partition);
        }
        if self.target.partitions == 0 || key_of(message).is_some() {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.target.partitions;
        i32::try_from(turn).ok()
    }

    fn extra(&self, message: &Message) -> Vec<(&'static str, String)> {
        if message.delay().is_none() && message.ttl().is_none() {
            return Vec::new();
        }
        let now = SystemTime::now();
        // Milliseconds are cut off, and nothing may be early.
        let later = |by: Duration| (to_millis(now.checked_add(by).unwrap_or(now)) + 1).to_string();
        let delay = message.delay().filter(|delay| !delay.is_zero());
        let due = delay.map(|delay| (wire::DUE, later(delay)));
        let expires = message.ttl().map(|ttl| (wire::EXPIRES, later(ttl)));
        due.into_iter().chain(expires).collect()
    }

    fn closed() -> Error {
        Error::new(ErrorKind::Closed, "the broker was closed: open it again")
    }
}

#[async_trait]
impl Publisher for KafkaPublisher {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    fn send(&self, message: Message, room: Room) -> Outcome<Receipt> {
        if self.connection.is_closed() {
            return Outcome::ready(Err(Self::closed()));
        }
        let extra = self.extra(&message);
        let is_delayed = extra.iter().any(|(name, _)| *name == wire::DUE);
        let topic = match &self.target.delayed {
            Some(delayed) if is_delayed => delayed,
            _ => &self.target.topic,
        };
        self.sender.send(room, |ticket| {
            let mut record = BaseRecord::with_opaque_to(topic, ticket).timestamp(timestamp_of(&message));
            record.partition = self.partition(&message);
            record.key = self.target.reply.as_ref().map(|(_, key)| key.as_bytes()).or_else(|| key_of(&message));
            record.payload = payload_of(&message);
            record.headers(headers_of(&message, &extra))
        })
    }

    fn send_many(&self, messages: Vec<Message>, mut room: Room) -> Vec<Outcome<Receipt>> {
        messages
            .into_iter()
            .map(|message| {
                let part = room.split(message.size());
                self.send(message, part)
            })
            .collect()
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        tokio::time::timeout_at(by, self.sender.tickets().flushed()).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, "the broker did not confirm all messages in time")
                .with_outcome(ErrorOutcome::Unknown)
        })
    }
}
