//! Checks on what is published.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::capabilities::within;
use crate::{
    Broker, Capabilities, Delivery, Destination, Error, ErrorKind, Feature, InFlight, Message, Outcome, PublishOptions,
    Publisher, QueueName, Receipt, Requester, Result, Room, Scope, Transaction, Usage,
};

/// A publisher that refuses what was not declared before the adapter sees it.
pub(super) struct CheckedPublisher {
    inner: Arc<dyn Publisher>,
    capabilities: Capabilities,
}

impl CheckedPublisher {
    pub(super) fn new(inner: Arc<dyn Publisher>, capabilities: Capabilities) -> Self {
        Self { inner, capabilities }
    }

    fn refused(&self, error: Error) -> Outcome<Receipt> {
        Outcome::ready(Err(self.inner.scope().explain(error)))
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
    fn scope(&self) -> &Scope {
        self.inner.scope()
    }

    fn in_flight(&self) -> &InFlight {
        self.inner.in_flight()
    }

    fn send(&self, message: Message, room: Room) -> Outcome<Receipt> {
        match check_message(&message, &self.capabilities) {
            Ok(()) => self.inner.send(message, room),
            Err(error) => self.refused(error),
        }
    }

    fn send_many(&self, messages: Vec<Message>, mut room: Room) -> Vec<Outcome<Receipt>> {
        let verdicts: Vec<Option<Error>> =
            messages.iter().map(|message| check_message(message, &self.capabilities).err()).collect();
        if verdicts.iter().all(Option::is_none) {
            return self.inner.send_many(messages, room);
        }
        // One bad item has its own error; the others go on, in order.
        let mut good = Vec::with_capacity(messages.len());
        for (message, verdict) in messages.into_iter().zip(&verdicts) {
            match verdict {
                None => good.push(message),
                Some(_) => drop(room.split(message.size())),
            }
        }
        let mut sent = self.inner.send_many(good, room).into_iter();
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
        self.inner.flush(by).await.map_err(|error| self.inner.scope().explain(error))
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

/// What a broker must be able to do to be published to.
pub(super) fn feature_of(destination: &Destination) -> Feature {
    match destination {
        Destination::Queue(_) => Feature::Queue,
        Destination::Topic(_) => Feature::Topic,
        Destination::Reply(_) => Feature::RequestReply,
    }
}

/// A requester whose requests are checked like published messages.
pub(super) struct CheckedRequester {
    inner: Arc<dyn Requester>,
    broker: Arc<dyn Broker>,
}

impl CheckedRequester {
    pub(super) fn new(inner: Arc<dyn Requester>, broker: Arc<dyn Broker>) -> Self {
        Self { inner, broker }
    }
}

impl fmt::Debug for CheckedRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Requester for CheckedRequester {
    async fn request(&self, to: &QueueName, request: Message, timeout: Duration) -> Result<Message> {
        let destination = Destination::Queue(to.clone());
        let scope = Scope::new(self.broker.name().clone(), self.broker.driver(), &destination);
        let capabilities = self.broker.capabilities(&destination, Usage::Publish(&PublishOptions::default()));
        capabilities
            .check(Feature::Queue)
            .and_then(|()| check_message(&request, &capabilities))
            .map_err(|error| scope.explain(error))?;
        self.inner.request(to, request, timeout).await.map_err(|error| scope.explain(error))
    }

    fn late_replies(&self) -> u64 {
        self.inner.late_replies()
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
        let capabilities = self.broker.capabilities(to, Usage::Publish(&PublishOptions::default()));
        capabilities
            .check(feature_of(to))
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
