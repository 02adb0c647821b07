//! The broker: one connection that opens publishers and consumers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    Admin, BrokerName, Capabilities, Delivery, Destination, DrainReport, Health, Message, PublishOptions, Publisher,
    QueueConsumer, QueueName, Result, Subscriber, Usage,
};

/// An opened broker. Applications hold `Arc<dyn Broker>`, because which broker it is is chosen by configuration.
///
/// It is also a [`QueueConsumer`] and a [`Subscriber`], and can be passed on as either.
///
/// # Requirements on implementors
/// * Everything opened here recovers by itself when the connection is lost; `health` tells the truth meanwhile.
/// * `capabilities` does no I/O.
/// * Calls after `close` fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed); a receive that waits wakes.
/// * Capability checks, limits and the context of errors are added by the core: see [`Checked`](crate::Checked).
#[async_trait]
pub trait Broker: QueueConsumer + Subscriber + fmt::Debug {
    /// The name under which the configuration knows it.
    fn name(&self) -> &BrokerName;

    /// The driver's name, such as `memory`.
    fn driver(&self) -> &'static str;

    /// What this broker can do for a destination with certain options.
    fn capabilities(&self, destination: &Destination, usage: Usage<'_>) -> Capabilities;

    /// Opens a publisher to a destination, creating or verifying it by the topology mode.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with every unmet need, before any I/O;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) or [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) by the
    /// topology mode.
    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>>;

    /// Opens a handle that sends requests and awaits their replies.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::RequestReply`](crate::Feature::RequestReply).
    async fn requester(&self) -> Result<Arc<dyn Requester>>;

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Transactions`](crate::Feature::Transactions).
    async fn begin(&self) -> Result<Box<dyn Transaction>>;

    /// Plans, inspects and repairs.
    fn admin(&self) -> &dyn Admin;

    /// How well the connection and all that was opened on it are.
    fn health(&self) -> Health;

    /// Stops all consumers, waits for the started deliveries until `by`, flushes and ends the connection. Closing twice is
    /// fine. Never takes longer than `by` allows, also when the broker is dead.
    async fn close(&self, by: Instant) -> DrainReport;
}

/// Sends requests and awaits their replies.
#[async_trait]
pub trait Requester: Send + Sync + fmt::Debug {
    /// Publishes `request` to a queue with a reply address and a correlation id, and waits for the reply.
    ///
    /// Whoever handles the request publishes the reply to [`Destination::Reply`] with the request's `reply_to`, and its
    /// `correlation_id`.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when no reply came in time; the request may still be handled.
    async fn request(&self, to: &QueueName, request: Message, timeout: Duration) -> Result<Message>;

    /// How many replies came after their request had timed out, and were dropped.
    fn late_replies(&self) -> u64;
}

/// Sends and acknowledgements that happen together or not at all.
///
/// Dropping it, or a commit that fails, rolls back: the deliveries are retried. After a commit that was cancelled it is not
/// known which of the two happened.
#[async_trait]
pub trait Transaction: Send + fmt::Debug {
    /// Adds a message.
    ///
    /// # Errors
    /// As for a publish before anything is sent.
    fn send(&mut self, to: &Destination, message: Message) -> Result<()>;

    /// Adds an acknowledgement.
    fn ack(&mut self, delivery: Delivery);

    /// Makes all of it happen.
    ///
    /// # Errors
    /// [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) if any delivery has moved on, and
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if a log broker would have to commit past a delivery that is not
    /// settled: nothing has happened then.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Makes none of it happen; the deliveries are retried.
    ///
    /// # Errors
    /// What kept the broker from knowing.
    async fn rollback(self: Box<Self>) -> Result<()>;
}
