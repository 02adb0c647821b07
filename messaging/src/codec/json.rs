//! JSON: always there, called without a detour.

use std::cell::Cell;

use bytes::Bytes;
use messaging_core::{Error, Message, MessageBuilder, Result};
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::ser::Serialize;

use super::own::{Codec, CodecError};
use super::{Named, fault};

/// The media type of JSON.
pub const JSON: &str = "application/json";

/// A value that travels as JSON: published with [`into_message`](Self::into_message), taken by a handler as an argument.
///
/// Fields that the type does not know are passed over when decoding, so that a publisher may add some; `serde`'s
/// `deny_unknown_fields` changes that for a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Json<T>(pub T);

impl<T: Serialize> Json<T> {
    /// Starts a message with this payload and the content type `application/json`. `T` may be a reference.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`](messaging_core::ErrorKind::Codec) if JSON cannot express the value, such as a map whose keys
    /// are not text.
    pub fn into_message(self) -> Result<MessageBuilder> {
        Ok(Message::builder(encode(&self.0)?).content_type(JSON))
    }

    /// As [`into_message`](Self::into_message), with the type's name as the message's type.
    ///
    /// # Errors
    /// As for [`into_message`](Self::into_message).
    pub fn into_named_message(self) -> Result<MessageBuilder>
    where
        T: Named,
    {
        Ok(self.into_message()?.message_type(T::TYPE))
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// Reads a message's payload as JSON, whatever its content type says.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`](messaging_core::ErrorKind::Codec) that names the message, its content type, and the place in the payload;
    /// never a value the payload holds. The place is a path of fields, indices and keys of maps.
    pub fn decode(message: &Message) -> Result<Self> {
        decode(message).map(Self)
    }
}

thread_local! {
    /// Kept from one message to the next: a fresh buffer would be grown several times for each.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The largest buffer kept, in bytes; one large message must not hold its memory for good.
const BUFFER_MAX: usize = 64 * 1024;

/// Writes a value, in one allocation of the right size.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    // Taken out, not borrowed: a value may encode another one while it is written.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    let written = serde_json::to_writer(&mut buffer, value).map_err(|error| fault::unencodable("JSON", error));
    let payload = written.map(|()| Bytes::copy_from_slice(&buffer));
    if buffer.capacity() <= BUFFER_MAX {
        buffer.clear();
        // Fails only while the thread ends.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    payload
}

/// The hot path: nothing but serde's own work.
pub(super) fn decode<T: DeserializeOwned>(message: &Message) -> Result<T> {
    serde_json::from_slice(message.payload()).map_err(|error| explain::<T>(message, error))
}

/// Decodes once more, now keeping track of the path: that would cost every message, and this only those that fail.
#[cold]
fn explain<T: DeserializeOwned>(message: &Message, first: serde_json::Error) -> Error {
    let mut deserializer = serde_json::Deserializer::from_slice(message.payload());
    let (error, path) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => (first, None),
        Err(error) => {
            let path = fault::path(error.path());
            (error.into_inner(), path)
        }
    };
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let why = text.strip_suffix(&place).unwrap_or(&text);
    fault::undecodable(message, "JSON", why, path, format_args!(", line {}, column {}", error.line(), error.column()))
}

/// JSON as a [`Codec`], to be built upon by codecs of one's own. [`Codecs`](super::Codecs) has it already.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonCodec;

impl Codec for JsonCodec {
    fn content_types(&self) -> &[&str] {
        &[JSON]
    }

    fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError> {
        let mut deserializer = serde_json::Deserializer::from_slice(payload);
        let value = seed.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(serde_json::to_vec(value)?)
    }
}
