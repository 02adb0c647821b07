//! Extractors of what a message has.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use messaging_core::{Headers, Message};

use super::{DeliveryContext, FromDelivery, Rejection};
use crate::app::BoxError;

impl FromDelivery for Bytes {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Ok(delivery.message().payload().clone())
    }
}

impl FromDelivery for Message {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Ok(delivery.message().clone())
    }
}

impl FromDelivery for Headers {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Ok(delivery.message().headers().clone())
    }
}

/// Makes an argument optional: none where the message does not have it, or it cannot be read.
impl<T: FromDelivery> FromDelivery for Option<T> {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Ok(T::from_delivery(delivery).ok())
    }
}

/// Which attempt this is, counted from 1; how exactly depends on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl FromDelivery for Attempt {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Ok(Self(delivery.attempt()))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A header that a program knows by name.
///
/// ```
/// use messaging::extract::{Header, NamedHeader};
///
/// #[derive(Debug)]
/// struct Priority(u8);
///
/// impl NamedHeader for Priority {
///     const NAME: &'static str = "x-priority";
///     type Error = std::num::ParseIntError;
///
///     fn parse(value: &str) -> Result<Self, Self::Error> {
///         value.parse().map(Self)
///     }
/// }
///
/// async fn handle(Header(Priority(priority)): Header<Priority>) {
///     println!("priority {priority}");
/// }
/// ```
pub trait NamedHeader: Sized {
    /// The header's name, in lower case.
    const NAME: &'static str;

    /// Why a value cannot be read.
    type Error: Into<BoxError>;

    /// Reads a value.
    ///
    /// # Errors
    /// A message whose header cannot be read goes to the dead letter at once, as undecodable.
    fn parse(value: &str) -> Result<Self, Self::Error>;
}

/// One header, parsed. A message without it is undecodable; `Option<Header<H>>` takes it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<H>(pub H);

impl<H> Deref for Header<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: NamedHeader> FromDelivery for Header<H> {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        let name = H::NAME;
        let Some(value) = delivery.message().headers().get(name) else {
            return Err(Rejection::undecodable(format!(
                "message {} has no header {name:?}, which the handler asks for",
                delivery.message().id()
            )));
        };
        H::parse(value).map(Self).map_err(|error| {
            let error: BoxError = error.into();
            // The value may be confidential: only what its parser says of it is told.
            Rejection::undecodable(format!(
                "header {name:?} of message {} cannot be read: {error}",
                delivery.message().id()
            ))
        })
    }
}
