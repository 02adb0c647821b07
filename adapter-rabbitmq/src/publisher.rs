//! Publishers: a writer each, and the bound on what is in flight.

use std::fmt;
use std::sync::Arc;

use messaging_core::spi::{Permit, PublisherCore};

use messaging_core::{Destination, Message, NoSubscriber, Outcome, PublishOptions, Publisher, Receipt, Scope};

use crate::layout::Target;
use crate::writer::{Purpose, Writer, WriterContext};

/// Publishes to a queue or topic.
pub(crate) struct RabbitPublisher {
    core: PublisherCore,
    writer: Writer,
}

impl RabbitPublisher {
    pub(crate) fn open(around: WriterContext, mut target: Target, options: &PublishOptions, scope: Scope) -> Self {
        if matches!(target.destination, Destination::Topic(_)) {
            target.mandatory = options.no_subscriber == NoSubscriber::Refuse;
        }
        let writer = Writer::start(around, Purpose::Destination(target), options.in_flight, options.timeout);
        Self { core: PublisherCore::new(scope, options).with_tickets(writer.tickets().clone()), writer }
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }
}

impl Publisher for RabbitPublisher {
    fn core(&self) -> &PublisherCore {
        &self.core
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        self.writer.send(message, permit)
    }
}

impl fmt::Debug for RabbitPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitPublisher").field("scope", self.core.scope()).finish_non_exhaustive()
    }
}

/// Publishes over a writer that others use too: to reply addresses, where opening one must do no I/O, and of requests.
pub(crate) struct SharedPublisher {
    core: PublisherCore,
    writer: Writer,
    target: Arc<Target>,
}

impl SharedPublisher {
    pub(crate) fn new(writer: Writer, target: Target, options: &PublishOptions, scope: Scope) -> Self {
        let core = PublisherCore::new(scope, options).with_tickets(writer.tickets().clone());
        Self { core, writer, target: Arc::new(target) }
    }
}

impl Publisher for SharedPublisher {
    fn core(&self) -> &PublisherCore {
        &self.core
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        self.writer.send_to(self.target.clone(), message, permit)
    }
}

impl fmt::Debug for SharedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPublisher").field("scope", self.core.scope()).finish_non_exhaustive()
    }
}
