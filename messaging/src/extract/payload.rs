//! Extractors that decode.

use std::ops::Deref;

use serde::de::DeserializeOwned;

use super::{DeliveryContext, FromDelivery, Rejection};
use crate::codec::Json;

impl<T: DeserializeOwned> FromDelivery for Json<T> {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Self::decode(delivery.message()).map_err(Rejection::undecodable)
    }
}

/// The payload, read by the codec of its content type: those built in, and those of [`App::codec`](crate::App::codec).
///
/// A payload without a content type is read as JSON. One that cannot be read goes to the dead letter at once, as undecodable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Payload<T>(pub T);

impl<T> Deref for Payload<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned> FromDelivery for Payload<T> {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        delivery.codecs().decode(delivery.message()).map(Self).map_err(Rejection::undecodable)
    }
}
