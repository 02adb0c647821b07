//! Consuming: the traits that open a consumer, and their options.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::capabilities::{Feature, Requirements};
use crate::consumer::Consumer;
use crate::error::Result;
use crate::name::{QueueName, SubscriptionName, TopicName};
use crate::subject::SubjectFilter;
use crate::undeclared::undeclared;

/// Opens consumers of queues.
#[async_trait]
pub trait QueueConsumer: Send + Sync {
    /// Starts to consume a queue, competing with its other consumers.
    ///
    /// Cancelling the future leaves no consumer behind.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with every unmet need, before any I/O;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) or [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) by the
    /// topology mode.
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer>;
}

/// Opens consumers of topics.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Subscribes to a topic.
    ///
    /// Once this has returned, no message published later is missed (within the capability
    /// [`readiness`](crate::Capabilities::readiness)). Cancelling the future may leave a durable subscription behind.
    ///
    /// # Errors
    /// As for [`QueueConsumer::consume`]. An adapter without topics inherits a refusal.
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        let _ = (topic, options);
        Err(undeclared(Feature::Topic))
    }
}

/// Order of messages of one key. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// No order is promised across consumers.
    #[default]
    None,
    /// Messages of one key are handled one after the other, in the order in which they were published.
    ByKey,
}

/// Treatment of other messages while one waits for its retry. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetryMode {
    /// Others go on; the order within the key is given up.
    #[default]
    Requeue,
    /// Later messages of the same key wait, so that key order is kept; other keys flow until the prefetch is full of
    /// waiting ones.
    Hold,
}

/// Time limits of a held delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long a consumer that gives no sign of life keeps a delivery; 30 s by default. Only brokers with
    /// [`Feature::Lease`](crate::Feature::Lease) have one.
    pub duration: Duration,
    /// How long a lease is renewed by itself while the delivery lives; 30 min by default.
    pub max: Duration,
}

impl Default for Lease {
    fn default() -> Self {
        Self { duration: Duration::from_secs(30), max: Duration::from_secs(30 * 60) }
    }
}

/// How a consumer behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumeOptions {
    /// The most deliveries this consumer holds unsettled, at least 1; 64 by default.
    pub prefetch: usize,
    /// Order of messages of one key; none by default.
    pub order: Order,
    /// Treatment of other messages while one waits for its retry.
    pub retry_mode: RetryMode,
    /// Time limits of a held delivery.
    pub lease: Lease,
    /// Further requirements, checked before anything is opened.
    pub requires: Requirements,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self {
            prefetch: 64,
            order: Order::None,
            retry_mode: RetryMode::Requeue,
            lease: Lease::default(),
            requires: Requirements::default(),
        }
    }
}

impl ConsumeOptions {
    /// Sets the most deliveries held unsettled.
    #[must_use]
    pub fn with_prefetch(mut self, prefetch: usize) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// Sets the order.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets what happens to other messages while one waits for its retry.
    #[must_use]
    pub fn with_retry_mode(mut self, mode: RetryMode) -> Self {
        self.retry_mode = mode;
        self
    }

    /// Sets the lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.lease = lease;
        self
    }

    /// Sets what else the broker must be able to do.
    #[must_use]
    pub fn with_requires(mut self, requires: Requirements) -> Self {
        self.requires = requires;
        self
    }
}

/// Durability of a subscription. Exhaustive on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It has a name; messages wait for it while it is away; several members share it like a queue.
    Durable(SubscriptionName),
    /// It has no name and sees only what is published while it is attached, at most once.
    Ephemeral,
}

/// Where a durable subscription begins; fixed when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Start {
    /// With what is published after it was made.
    #[default]
    New,
    /// With the oldest message the topic still has. Needs [`Feature::Replay`](crate::Feature::Replay).
    Earliest,
    /// With the first message published at this time or later. Needs [`Feature::Replay`](crate::Feature::Replay).
    At(SystemTime),
    /// At this offset of every partition. Needs [`Feature::Replay`](crate::Feature::Replay) and
    /// [`Feature::Positions`](crate::Feature::Positions).
    Offset(u64),
}

/// How a subscription behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscribeOptions {
    /// Durable with a name, or ephemeral.
    pub durability: Durability,
    /// Where a durable subscription begins when it is made now.
    pub start: Start,
    /// Which subjects it sees; all by default.
    pub filter: Option<SubjectFilter>,
    /// How its consumer behaves.
    pub consume: ConsumeOptions,
}

impl SubscribeOptions {
    /// A durable subscription.
    #[must_use]
    pub fn durable(name: SubscriptionName) -> Self {
        Self::of(Durability::Durable(name))
    }

    /// An ephemeral subscription.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self::of(Durability::Ephemeral)
    }

    fn of(durability: Durability) -> Self {
        Self { durability, start: Start::New, filter: None, consume: ConsumeOptions::default() }
    }

    /// Sets where a durable subscription begins.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets which subjects it sees.
    #[must_use]
    pub fn with_filter(mut self, filter: SubjectFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Sets how its consumer behaves.
    #[must_use]
    pub fn with_consume(mut self, consume: ConsumeOptions) -> Self {
        self.consume = consume;
        self
    }
}
