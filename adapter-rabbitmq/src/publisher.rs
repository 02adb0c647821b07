//! Publishers: a writer each, and the bound on what is in flight.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::{
    Destination, InFlight, Message, NoSubscriber, Outcome, PublishOptions, Publisher, Receipt, Result, Room, Scope,
};
use tokio::time::Instant;

use crate::layout::Target;
use crate::writer::{Purpose, Surroundings, Writer};

/// Publishes to a queue or topic.
pub(crate) struct RabbitPublisher {
    scope: Scope,
    in_flight: InFlight,
    writer: Writer,
}

impl RabbitPublisher {
    pub(crate) fn open(around: Surroundings, mut target: Target, options: &PublishOptions, scope: Scope) -> Self {
        let PublishOptions { in_flight, in_flight_bytes, timeout, no_subscriber } = options;
        if matches!(target.destination, Destination::Topic(_)) {
            target.mandatory = *no_subscriber == NoSubscriber::Refuse;
        }
        Self {
            scope,
            in_flight: InFlight::new(*in_flight, *in_flight_bytes),
            writer: Writer::start(around, Purpose::Destination(target), *in_flight, *timeout),
        }
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    fn send(&self, message: Message, room: Room) -> Outcome<Receipt> {
        self.writer.send(message, room)
    }

    fn send_many(&self, messages: Vec<Message>, room: Room) -> Vec<Outcome<Receipt>> {
        send_each(self, messages, room)
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        self.writer.flush(by).await
    }
}

impl fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitPublisher").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Publishes over a writer that others use too: to reply addresses, where opening one must do no I/O, and of requests.
pub(crate) struct SharedPublisher {
    scope: Scope,
    in_flight: InFlight,
    writer: Writer,
    target: Arc<Target>,
}

impl SharedPublisher {
    pub(crate) fn new(writer: Writer, target: Target, options: &PublishOptions, scope: Scope) -> Self {
        let in_flight = InFlight::new(options.in_flight, options.in_flight_bytes);
        Self { scope, in_flight, writer, target: Arc::new(target) }
    }
}

#[async_trait]
impl Publisher for SharedPublisher {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    fn send(&self, message: Message, room: Room) -> Outcome<Receipt> {
        self.writer.send_to(self.target.clone(), message, room)
    }

    fn send_many(&self, messages: Vec<Message>, room: Room) -> Vec<Outcome<Receipt>> {
        send_each(self, messages, room)
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        self.writer.flush(by).await
    }
}

impl fmt::Debug for SharedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPublisher").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Sends many, each with its part of the room: the writer joins them.
fn send_each(publisher: &impl Publisher, messages: Vec<Message>, mut room: Room) -> Vec<Outcome<Receipt>> {
    let split = |message: Message| {
        let room = room.split(message.size());
        publisher.send(message, room)
    };
    messages.into_iter().map(split).collect()
}
