//! The trait for a format of one's own, and how a registry holds codecs of any type.

use std::error::Error as StdError;

use messaging_core::Result;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _};
use serde::ser::Serialize;

use super::fault;

/// Error of a codec's own library. Its text may quote the payload: it is shown only after values were taken out.
pub type CodecError = Box<dyn StdError + Send + Sync>;

/// A format for payloads.
///
/// ```
/// use messaging::codec::{Codec, CodecError};
/// use messaging::{Codecs, Message};
/// use serde::de::DeserializeSeed;
/// use serde::ser::Serialize;
///
/// /// JSON under a name of our own.
/// struct House;
///
/// impl Codec for House {
///     fn content_types(&self) -> &[&str] {
///         &["application/x-house"]
///     }
///
///     fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError> {
///         let mut deserializer = serde_json::Deserializer::from_slice(payload);
///         let value = seed.deserialize(&mut deserializer)?;
///         deserializer.end()?;
///         Ok(value)
///     }
///
///     fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
///         Ok(serde_json::to_vec(value)?)
///     }
/// }
///
/// # fn main() -> messaging::Result<()> {
/// let codecs = Codecs::default().with(House);
/// let message = codecs.encode("application/x-house", &[1, 2, 3])?.build()?;
/// assert_eq!(codecs.decode::<Vec<u8>>(&message)?, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
pub trait Codec: Send + Sync + 'static {
    /// The media types this reads, lower case and without parameters; at least one. The first is that of what it writes.
    fn content_types(&self) -> &[&str];

    /// Reads a whole payload: `seed.deserialize(…)` with the format's deserializer, then a check that nothing is left.
    ///
    /// # Errors
    /// Error of the format's library.
    fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError>;

    /// Writes a value.
    ///
    /// # Errors
    /// Error of the format's library.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError>;
}

/// A codec whose type is forgotten. Generic methods cannot be called through a pointer; these can.
pub(super) trait AnyCodec: Send + Sync {
    fn content_types(&self) -> &[&str];
    fn decode_into(&self, payload: &[u8], slot: &mut dyn Slot) -> Result<(), CodecError>;
    fn encode_any(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError>;
}

impl<C: Codec> AnyCodec for C {
    fn content_types(&self) -> &[&str] {
        Codec::content_types(self)
    }

    fn decode_into(&self, payload: &[u8], slot: &mut dyn Slot) -> Result<(), CodecError> {
        self.decode(payload, SlotSeed(slot))
    }

    fn encode_any(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        self.encode(value)
    }
}

/// Where a decoded value goes, its type forgotten.
pub(super) trait Slot {
    fn fill(&mut self, deserializer: &mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>;
}

struct SlotSeed<'a>(&'a mut dyn Slot);

impl<'de> DeserializeSeed<'de> for SlotSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.fill(&mut <dyn erased_serde::Deserializer<'_>>::erase(deserializer)).map_err(D::Error::custom)
    }
}

/// A slot that also finds out where in the payload decoding failed.
struct Typed<T> {
    value: Option<T>,
    path: Option<String>,
}

impl<T: DeserializeOwned> Slot for Typed<T> {
    fn fill(&mut self, deserializer: &mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> {
        match serde_path_to_error::deserialize(deserializer) {
            Ok(value) => self.value = Some(value),
            Err(error) => {
                self.path = fault::path(error.path());
                return Err(error.into_inner());
            }
        }
        Ok(())
    }
}

/// Decodes with a codec of any type.
pub(super) fn decode<T: DeserializeOwned>(
    codec: &dyn AnyCodec,
    payload: &[u8],
) -> Result<T, (CodecError, Option<String>)> {
    let mut slot = Typed { value: None, path: None };
    match codec.decode_into(payload, &mut slot) {
        Err(error) => Err((error, slot.path)),
        Ok(()) => slot.value.ok_or_else(|| ("the codec did not use the seed it was given".into(), None)),
    }
}
