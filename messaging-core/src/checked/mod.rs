//! The one place where capabilities are checked and errors get their context, around every adapter.
//!
//! An adapter says what it can do; whether a call asks for more is decided here, before the adapter sees it, so that no
//! adapter can degrade silently and none repeats the checks.

mod admin;
mod publisher;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use self::admin::CheckedAdmin;
use self::publisher::{CheckedPublisher, CheckedReplies, CheckedTransaction, needs_of};
use crate::broker::{Broker, Transaction};
use crate::capabilities::{Capabilities, Feature, Place, Requirements};
use crate::consume::{
    ConsumeOptions, Durability, Order, QueueConsumer, RetryMode, Start, SubscribeOptions, Subscriber,
};
use crate::consumer::{Consumer, DrainReport};
use crate::error::{Error, ErrorKind, Result};
use crate::health::Health;
use crate::identity::Identity;
use crate::in_flight::IN_FLIGHT_MAX;
use crate::inbox::Inbox;
use crate::inspect::Inspect;
use crate::name::{Destination, QueueName, TopicName};
use crate::publisher::{PublishOptions, Publisher};
use crate::repair::Repair;
use crate::requester::Replies;
use crate::topology::Topology;

/// A broker with the core's checks around it.
pub struct Checked {
    inner: Arc<dyn Broker>,
    admin: CheckedAdmin,
}

impl Checked {
    /// Puts the checks around an adapter's broker.
    #[must_use]
    pub fn around(inner: Arc<dyn Broker>) -> Arc<dyn Broker> {
        Arc::new(Self { admin: CheckedAdmin::around(inner.clone()), inner })
    }

    /// Passes if a place has what is needed there.
    fn check(&self, of: Place<'_>, needs: &Requirements) -> Result<Capabilities> {
        let capabilities = self.inner.capabilities(of);
        needs.check(&capabilities).map(|()| capabilities)
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl QueueConsumer for Checked {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        let scope = self.inner.identity().scope(Destination::Queue(queue.clone()));
        let needs = Requirements::none().with(Feature::Queue).and(&Requirements::of_consume(&options));
        check_consume(&options)
            .and_then(|()| self.check(Place::Consume(queue, &options), &needs))
            .map_err(|error| scope.explain(error))?;
        self.inner.consume(queue, options).await.map_err(|error| scope.explain(error))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Subscriber for Checked {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        let scope = self.inner.identity().scope(Destination::Topic(topic.clone()));
        let needs = Requirements::none().with(Feature::Topic).and(&Requirements::of_subscribe(&options));
        check_subscribe(&options)
            .and_then(|()| self.check(Place::Subscribe(topic, &options), &needs))
            .map_err(|error| scope.explain(error))?;
        self.inner.subscribe(topic, options).await.map_err(|error| scope.explain(error))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Broker for Checked {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        self.inner.capabilities(of)
    }

    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        let scope = self.inner.identity().scope(destination);
        let needs = needs_of(destination).and(&Requirements::of_publish(&options));
        let capabilities = check_publish(&options)
            .and_then(|()| self.check(Place::Publish(destination, &options), &needs))
            .map_err(|error| scope.explain(error))?;
        let inner = self.inner.publisher(destination, options).await.map_err(|error| scope.explain(error))?;
        Ok(Arc::new(CheckedPublisher::new(inner, capabilities)))
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn close(&self, by: Instant) -> DrainReport {
        self.inner.close(by).await
    }

    fn topology(&self) -> &dyn Topology {
        &self.admin
    }

    fn inspect(&self) -> &dyn Inspect {
        &self.admin
    }

    fn repair(&self) -> &dyn Repair {
        &self.admin
    }

    async fn replies(&self, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        let scope = self.inner.identity().scope("request/reply");
        self.check(Place::Broker, &Requirements::none().with(Feature::RequestReply))
            .map_err(|error| scope.explain(error))?;
        let inner = self.inner.replies(inbox).await.map_err(|error| scope.explain(error))?;
        Ok(Arc::new(CheckedReplies::new(inner, self.inner.clone())))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let scope = self.inner.identity().scope("transaction");
        self.check(Place::Broker, &Requirements::none().with(Feature::Transactions))
            .map_err(|error| scope.explain(error))?;
        let inner = self.inner.begin().await.map_err(|error| scope.explain(error))?;
        Ok(Box::new(CheckedTransaction::new(inner, self.inner.clone(), scope)))
    }
}

fn check_publish(options: &PublishOptions) -> Result<()> {
    let PublishOptions { in_flight, in_flight_bytes, timeout, no_subscriber: _ } = options;
    positive("in_flight", *in_flight)?;
    positive("in_flight_bytes", *in_flight_bytes)?;
    if *in_flight > IN_FLIGHT_MAX {
        return Err(invalid(format!("in_flight {in_flight} is over the limit of {IN_FLIGHT_MAX}")));
    }
    if timeout.is_zero() {
        return Err(invalid(
            "the publish timeout is zero: nothing could be confirmed; use for example 30 s".to_owned(),
        ));
    }
    Ok(())
}

fn check_consume(options: &ConsumeOptions) -> Result<()> {
    let ConsumeOptions { prefetch, order: _, retry_mode: _, lease, requires: _ } = options;
    positive("prefetch", *prefetch)?;
    if lease.duration.is_zero() || lease.max < lease.duration {
        return Err(invalid(format!(
            "a lease of {:?} renewed up to {:?} cannot be held: it must be over zero, and max at least the duration",
            lease.duration, lease.max
        )));
    }
    check_order(options)
}

fn check_order(options: &ConsumeOptions) -> Result<()> {
    match (options.order, options.retry_mode) {
        (Order::ByKey, RetryMode::Requeue) => Err(invalid(
            "order_by = key with retry_mode = requeue would break the order at the first retry: use retry_mode = hold, or give up the order".to_owned(),
        )),
        (Order::None, RetryMode::Hold) => Err(invalid(
            "retry_mode = hold keeps the order of a key and needs order_by = key: set it, or use retry_mode = requeue".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn check_subscribe(options: &SubscribeOptions) -> Result<()> {
    if options.durability == Durability::Ephemeral && options.start != Start::New {
        return Err(invalid(
            "an ephemeral subscription sees only what is published while it is attached: give it a name, or start = new"
                .to_owned(),
        ));
    }
    check_consume(&options.consume)
}

fn positive(what: &str, given: usize) -> Result<()> {
    if given > 0 { Ok(()) } else { Err(invalid(format!("{what} is 0: it must be at least 1"))) }
}

#[cold]
fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Config, text)
}
