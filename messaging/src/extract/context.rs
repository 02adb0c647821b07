//! View of a delivery for extractors, and their needs.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use messaging_core::{DeadLetterReason, Delivery, Message, Need, Requirements};

use super::{ManualSlot, Settle, States};
use crate::app::{BoxError, Course, Failure, FailureKind, Publishers};
use crate::codec::Codecs;

/// A delivery on its way to a handler: what a listener's [`tower::Service`] is called with.
///
/// Layers look at it before they pass it on. It cannot be settled: the listener does that when the service has ended.
pub struct Incoming {
    message: Message,
    attempt: u32,
    redriven: u32,
    slot: Option<Arc<ManualSlot>>,
    context: Arc<ListenerContext>,
}

impl Incoming {
    #[inline]
    pub(crate) fn new(delivery: &Delivery, context: &Arc<ListenerContext>, slot: Option<Arc<ManualSlot>>) -> Self {
        Self {
            message: delivery.message().clone(),
            attempt: delivery.attempt(),
            redriven: delivery.redriven(),
            slot,
            context: context.clone(),
        }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Which attempt this is, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often the message came back from a dead letter.
    #[must_use]
    pub fn redriven(&self) -> u32 {
        self.redriven
    }

    /// The id of the listener.
    #[must_use]
    pub fn listener(&self) -> &str {
        &self.context.id
    }

    /// View for extractors.
    pub(crate) fn context(&mut self) -> DeliveryContext<'_> {
        DeliveryContext { incoming: self }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener())
            .field("message", &self.message)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Context shared by all deliveries of a listener.
pub(crate) struct ListenerContext {
    pub(crate) id: Arc<str>,
    pub(crate) states: Arc<States>,
    pub(crate) publishers: Publishers,
    pub(crate) codecs: Arc<Codecs>,
}

/// View of a delivery for extractors.
#[derive(Debug)]
pub struct DeliveryContext<'a> {
    incoming: &'a mut Incoming,
}

impl DeliveryContext<'_> {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.incoming.message
    }

    /// Which attempt this is, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.incoming.attempt
    }

    /// How often the message came back from a dead letter.
    #[must_use]
    pub fn redriven(&self) -> u32 {
        self.incoming.redriven
    }

    /// The id of the listener.
    #[must_use]
    pub fn listener(&self) -> &str {
        &self.incoming.context.id
    }

    /// State of this type that [`App::state`](crate::App::state) was given. It is always there for an extractor that
    /// declares it in its [`needs`](FromDelivery::needs).
    #[must_use]
    pub fn state<S: Send + Sync + 'static>(&self) -> Option<&S> {
        self.incoming.context.states.get()
    }

    /// Publishers by binding name.
    #[must_use]
    pub fn publishers(&self) -> &Publishers {
        &self.incoming.context.publishers
    }

    /// Codecs by content type.
    #[must_use]
    pub fn codecs(&self) -> &Codecs {
        &self.incoming.context.codecs
    }

    /// Handle that settles this delivery by hand; there is one where `ack = manual`, and it can be taken once.
    pub(crate) fn settle(&mut self) -> Option<Settle> {
        self.incoming.slot.take().map(Settle::new)
    }
}

/// Something a handler can have as an argument.
///
/// ```
/// use messaging::extract::{DeliveryContext, FromDelivery, Rejection};
///
/// /// The tenant a message is for, from its key: `tenant/customer`.
/// struct Tenant(String);
///
/// impl FromDelivery for Tenant {
///     fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
///         let key = delivery.message().key().unwrap_or_default();
///         match key.split_once('/') {
///             Some((tenant, _)) => Ok(Self(tenant.to_owned())),
///             None => Err(Rejection::undecodable(format!("the key {key:?} names no tenant"))),
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not an extractor",
    note = "extractors are `Json<T>`, `Bytes`, `Message`, `Headers`, `Header<H>`, `Attempt`, `State<S>`, `Publishers`, `Settle` and what implements `FromDelivery`"
)]
pub trait FromDelivery: Sized {
    /// Makes the argument.
    ///
    /// # Errors
    /// A [`Rejection`], which decides about the message in place of the handler.
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection>;

    /// Says what has to be there for this to work; checked when the application starts. Nothing by default.
    fn needs(needs: &mut Needs) {
        let _ = needs;
    }
}

/// Why an extractor could not make its argument.
#[derive(Debug)]
pub struct Rejection(Failure);

impl Rejection {
    /// The message cannot be read, now or ever: it goes to the dead letter at once, with the code `undecodable`.
    #[cold]
    pub fn undecodable(cause: impl Into<BoxError>) -> Self {
        let course = Course::Bury(DeadLetterReason::UNDECODABLE.into());
        Self(Failure::new(FailureKind::Undecodable, course, cause.into()))
    }

    /// The argument cannot be had now: the message is retried as if the handler had failed.
    #[cold]
    pub fn failed(cause: impl Into<BoxError>) -> Self {
        Self(Failure::from_boxed(cause.into()))
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.0
    }
}

/// Needs of a handler's arguments.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    states: Vec<(TypeId, &'static str)>,
    settles: usize,
    requires: Requirements,
}

impl Needs {
    /// A state of a type.
    pub fn state<S: Send + Sync + 'static>(&mut self) {
        self.states.push((TypeId::of::<S>(), std::any::type_name::<S>()));
    }

    /// Something the broker must be able to do.
    pub fn broker(&mut self, need: impl Into<Need>) {
        self.requires = std::mem::take(&mut self.requires).with(need);
    }

    pub(crate) fn settle(&mut self) {
        self.settles += 1;
    }

    pub(crate) fn settles(&self) -> usize {
        self.settles
    }

    pub(crate) fn requires(&self) -> &Requirements {
        &self.requires
    }

    /// The names of the types of state that are needed and not there.
    pub(crate) fn missing_states<'a>(&'a self, states: &'a States) -> impl Iterator<Item = &'static str> + 'a {
        self.states.iter().filter(|(id, _)| !states.has(*id)).map(|(_, name)| *name)
    }
}
