//! The registry: which codec reads which content type.

use std::fmt;
use std::sync::Arc;

use messaging_core::suggest::hint;
use messaging_core::{Error, ErrorKind, Message, MessageBuilder, Result};
use serde::de::DeserializeOwned;
use serde::ser::Serialize;

use super::own::{self, AnyCodec, Codec};
use super::{JSON, fault, json};

/// Codecs by content type. [`default`](Self::default) has those of the enabled features: JSON always, for a missing content
/// type too.
#[derive(Clone)]
pub struct Codecs {
    /// Looked through from the end, so that a codec of one's own wins over those built in.
    codecs: Vec<Arc<dyn AnyCodec>>,
    /// True if a codec of the application replaces the built-in one for JSON.
    json_replaced: bool,
}

impl Default for Codecs {
    fn default() -> Self {
        let codecs = Self { codecs: Vec::new(), json_replaced: false };
        #[cfg(feature = "msgpack")]
        let codecs = codecs.with(super::MsgPack);
        #[cfg(feature = "cbor")]
        let codecs = codecs.with(super::Cbor);
        codecs
    }
}

impl Codecs {
    /// Adds a codec. For its content types it takes the place of any that was there, JSON included.
    #[must_use]
    pub fn with(mut self, codec: impl Codec) -> Self {
        self.json_replaced |= codec.content_types().contains(&JSON);
        self.codecs.push(Arc::new(codec));
        self
    }

    /// All media types that can be read, besides those that end in `+json`.
    #[must_use]
    pub fn content_types(&self) -> Vec<&str> {
        let mut types = vec![JSON];
        types.extend(self.codecs.iter().flat_map(|codec| codec.content_types()).copied());
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Reads a message's payload by its content type.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] if no codec reads that type, or the payload does not fit; it names the message, the content type and the place
    /// in the payload, never what the payload holds.
    pub fn decode<T: DeserializeOwned>(&self, message: &Message) -> Result<T> {
        let given = message.content_type().unwrap_or(JSON);
        if !self.json_replaced && given == JSON {
            return json::decode(message);
        }
        match self.find(given) {
            Some(Found::Json) => json::decode(message),
            Some(Found::Other(codec)) => own::decode(codec, message.payload()).map_err(|(error, path)| {
                let format = codec.content_types().first().copied().unwrap_or("its content type");
                fault::undecodable(message, format, error, path, "")
            }),
            None => Err(self.unknown(given).with_context("message", message.id())),
        }
    }

    /// Starts a message with a value written as `content_type`, which it also carries.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] if no codec writes that type, or the format cannot express the value.
    pub fn encode<T: Serialize + ?Sized>(&self, content_type: &str, value: &T) -> Result<MessageBuilder> {
        let payload = match self.find(content_type) {
            Some(Found::Json) => json::encode(value)?,
            Some(Found::Other(codec)) => {
                codec.encode_any(&value).map_err(|error| fault::unencodable(content_type, error))?.into()
            }
            None => return Err(self.unknown(content_type)),
        };
        Ok(Message::builder(payload).content_type(content_type))
    }

    fn find(&self, content_type: &str) -> Option<Found<'_>> {
        let essence = essence(content_type);
        let reads =
            |codec: &&Arc<dyn AnyCodec>| codec.content_types().iter().any(|known| known.eq_ignore_ascii_case(essence));
        if let Some(codec) = self.codecs.iter().rev().find(reads) {
            return Some(Found::Other(codec.as_ref()));
        }
        let suffix = essence.len().checked_sub(5).and_then(|at| essence.get(at..));
        let is_json =
            essence.eq_ignore_ascii_case(JSON) || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"));
        is_json.then_some(Found::Json)
    }

    #[cold]
    fn unknown(&self, content_type: &str) -> Error {
        let given = essence(content_type);
        let missing = CODEC_FEATURES.iter().find(|(known, _)| known.eq_ignore_ascii_case(given));
        let next = match missing {
            Some((_, feature)) => format!("; enable the feature {feature:?} of the crate \"messaging\""),
            None => hint(given, self.content_types()),
        };
        Error::new(
            ErrorKind::Codec,
            format!("no codec reads the content type {:?}{next}", fault::shorten(content_type, fault::TEXT_MAX)),
        )
    }
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Content types that a cargo feature adds.
const CODEC_FEATURES: [(&str, &str); 4] = [
    ("application/msgpack", "msgpack"),
    ("application/vnd.msgpack", "msgpack"),
    ("application/x-msgpack", "msgpack"),
    ("application/cbor", "cbor"),
];

enum Found<'a> {
    Json,
    Other(&'a dyn AnyCodec),
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Codecs").field(&self.content_types()).finish()
    }
}
