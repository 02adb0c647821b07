//! Checks on what is published.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::broker::{Broker, Transaction};
use crate::capabilities::{Capabilities, Feature, Place, Requirements, within};
use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};
use crate::in_flight::Permit;
use crate::message::Message;
use crate::name::{Destination, QueueName, ReplyAddress};
use crate::outcome::Outcome;
use crate::publisher::{PublishOptions, Publisher, PublisherCore, Receipt};
use crate::requester::Replies;
use crate::scope::Scope;

/// A publisher that refuses what was not declared before the adapter sees it.
pub(super) struct CheckedPublisher {
    inner: Arc<dyn Publisher>,
    /// The adapter's own, kept here to spare a virtual call for each message.
    core: PublisherCore,
    capabilities: Capabilities,
}

impl CheckedPublisher {
    pub(super) fn new(inner: Arc<dyn Publisher>, capabilities: Capabilities) -> Self {
        Self { core: inner.core().clone(), inner, capabilities }
    }

    fn refused(&self, error: Error) -> Outcome<Receipt> {
        Outcome::ready(Err(self.core.scope().explain(error)))
    }
}

impl fmt::Debug for CheckedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Publisher for CheckedPublisher {
    fn core(&self) -> &PublisherCore {
        &self.core
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        match check_message(&message, &self.capabilities) {
            Ok(()) => self.inner.send(message, permit),
            Err(error) => self.refused(error),
        }
    }

    fn send_many(&self, messages: Vec<Message>, mut permit: Permit) -> Vec<Outcome<Receipt>> {
        let verdicts: Vec<Option<Error>> =
            messages.iter().map(|message| check_message(message, &self.capabilities).err()).collect();
        if verdicts.iter().all(Option::is_none) {
            return self.inner.send_many(messages, permit);
        }
        // One bad item has its own error; the others go on, in order.
        let mut good = Vec::with_capacity(messages.len());
        for (message, verdict) in messages.into_iter().zip(&verdicts) {
            match verdict {
                None => good.push(message),
                Some(_) => drop(permit.split(message.size())),
            }
        }
        let mut sent = self.inner.send_many(good, permit).into_iter();
        let lost = || Error::new(ErrorKind::Internal, "the adapter returned fewer outcomes than messages");
        verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Some(error) => self.refused(error),
                None => sent.next().unwrap_or_else(|| self.refused(lost())),
            })
            .collect()
    }

    fn send_now(&self, message: Message) -> std::result::Result<Result<Receipt>, Message> {
        match check_message(&message, &self.capabilities) {
            Ok(()) => self.inner.send_now(message),
            Err(error) => Ok(Err(error)),
        }
    }

    fn send_many_now(&self, messages: &mut IntoIter<Message>, receipts: &mut Vec<Result<Receipt>>) {
        if messages.as_slice().iter().all(|message| check_message(message, &self.capabilities).is_ok()) {
            self.inner.send_many_now(messages, receipts);
        }
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        self.inner.flush(by).await.map_err(|error| self.core.scope().explain(error))
    }
}

/// Passes if the message asks for nothing but what is declared.
#[inline]
fn check_message(message: &Message, capabilities: &Capabilities) -> Result<()> {
    let limits = &capabilities.limits;
    if message.size() > limits.message_bytes {
        return Err(too_large("the message", message.size(), limits.message_bytes, "bytes"));
    }
    if message.headers().len() > limits.headers {
        return Err(too_large("the message", message.headers().len(), limits.headers, "headers"));
    }
    if message.has_rare() { check_rare(message, capabilities) } else { Ok(()) }
}

fn check_rare(message: &Message, capabilities: &Capabilities) -> Result<()> {
    let limits = &capabilities.limits;
    let timed = |feature, what, given: Option<Duration>, limit| match given {
        Some(given) if !given.is_zero() => capabilities.check(feature).and_then(|()| within(what, given, limit)),
        _ => Ok(()),
    };
    timed(Feature::DelayedPublish, "a delay", message.delay(), limits.publish_delay)?;
    timed(Feature::Ttl, "a time to live", message.ttl(), limits.ttl)?;
    if message.ttl() == Some(Duration::ZERO) {
        return Err(Error::new(
            ErrorKind::InvalidMessage,
            "a time to live of zero expires at once: leave it out, or make it longer",
        ));
    }
    if message.priority().is_some() {
        capabilities.check(Feature::Priority)?;
    }
    Ok(())
}

#[cold]
fn too_large(what: &str, given: usize, limit: usize, unit: &str) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "{what} has {given} {unit}, the limit here is {limit}: send a reference to the data instead, or raise the broker's limit"
        ),
    )
}

/// The feature that publishing to a destination needs.
pub(super) fn needs_of(destination: &Destination) -> Requirements {
    Requirements::none().with(match destination {
        Destination::Queue(_) => Feature::Queue,
        Destination::Topic(_) => Feature::Topic,
        Destination::Reply(_) => Feature::RequestReply,
    })
}

/// Replies whose requests are checked like published messages.
pub(super) struct CheckedReplies {
    inner: Arc<dyn Replies>,
    broker: Arc<dyn Broker>,
}

impl CheckedReplies {
    pub(super) fn new(inner: Arc<dyn Replies>, broker: Arc<dyn Broker>) -> Self {
        Self { inner, broker }
    }
}

impl fmt::Debug for CheckedReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Replies for CheckedReplies {
    fn address(&self) -> &ReplyAddress {
        self.inner.address()
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        let destination = Destination::Queue(to.clone());
        let scope = self.broker.identity().scope(&destination);
        let capabilities = self.broker.capabilities(Place::Publish(&destination, &PublishOptions::default()));
        needs_of(&destination).check(&capabilities).map_err(|error| scope.explain(error))?;
        let inner = self.inner.publisher(to).await.map_err(|error| scope.explain(error))?;
        Ok(Arc::new(CheckedPublisher::new(inner, capabilities)))
    }
}

/// A transaction whose messages are checked like published ones.
pub(super) struct CheckedTransaction {
    inner: Box<dyn Transaction>,
    broker: Arc<dyn Broker>,
    scope: Scope,
}

impl CheckedTransaction {
    pub(super) fn new(inner: Box<dyn Transaction>, broker: Arc<dyn Broker>, scope: Scope) -> Self {
        Self { inner, broker, scope }
    }
}

impl fmt::Debug for CheckedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Transaction for CheckedTransaction {
    fn send(&mut self, to: &Destination, message: Message) -> Result<()> {
        let capabilities = self.broker.capabilities(Place::Publish(to, &PublishOptions::default()));
        needs_of(to)
            .check(&capabilities)
            .and_then(|()| check_message(&message, &capabilities))
            .and_then(|()| self.inner.send(to, message))
            .map_err(|error| self.scope.explain(error))
    }

    fn ack(&mut self, delivery: Delivery) {
        self.inner.ack(delivery);
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { inner, broker: _, scope } = *self;
        inner.commit().await.map_err(|error| scope.explain(error))
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let Self { inner, broker: _, scope } = *self;
        inner.rollback().await.map_err(|error| scope.explain(error))
    }
}
