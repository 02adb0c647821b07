//! The message: a payload, headers and typed properties.
//!
//! A [`Message`] is immutable and one pointer wide: cloning it, keeping it for redelivery and handing it to a hundred
//! subscriptions cost a reference count, never a copy of its bytes.

mod builder;
mod headers;
mod id;
mod received;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smol_str::SmolStr;

pub use self::builder::MessageBuilder;
pub use self::headers::{HEADER_NAME_MAX, HEADERS_MAX, HeaderName, HeaderValue, Headers};
pub use self::id::MessageId;
pub use self::received::ReceivedMessage;
use crate::name::ReplyAddress;
use crate::subject::Subject;

/// The unit that is published and delivered. Cheap to clone.
///
/// ```
/// use messaging_core::Message;
///
/// # fn main() -> messaging_core::Result<()> {
/// let plain = Message::new("hello");
/// let full = Message::builder(r#"{"order":1}"#)
///     .content_type("application/json")
///     .message_type("order.placed")
///     .key("customer-7")
///     .subject("eu.created")
///     .header("tenant", "acme")
///     .build()?;
/// assert_ne!(plain.id(), full.id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Message(Arc<Parts>);

/// Fields that most messages have. Those that few have are boxed, so that a waiting message stays small.
#[derive(Clone)]
struct Parts {
    payload: Bytes,
    id: MessageId,
    timestamp_ms: u64,
    message_type: Option<SmolStr>,
    key: Option<SmolStr>,
    subject: Option<Subject>,
    content_type: Option<SmolStr>,
    headers: Headers,
    /// Size of the headers in bytes, added up once.
    header_bytes: u32,
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Default)]
struct Rare {
    correlation_id: Option<SmolStr>,
    reply_to: Option<ReplyAddress>,
    ttl: Option<Duration>,
    delay: Option<Duration>,
    priority: Option<u8>,
    native: Option<Arc<dyn Any + Send + Sync>>,
}

impl Message {
    /// Makes a message of a payload, with a fresh id and the current time.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self(Arc::new(Parts::new(payload.into())))
    }

    /// Starts a message with properties.
    #[inline]
    pub fn builder(payload: impl Into<Bytes>) -> MessageBuilder {
        MessageBuilder::new(Parts::new(payload.into()))
    }

    /// Starts a message that came from a broker: it has its id and its time, in milliseconds since 1970, already, and neither
    /// is made up here. Adapters call this, and end with [`finish`](ReceivedMessage::finish).
    #[inline]
    pub fn received(id: impl Into<MessageId>, made: u64) -> ReceivedMessage {
        ReceivedMessage::new(id.into(), made)
    }

    /// Starts a message that takes everything over from this one, its id too.
    pub fn to_builder(&self) -> MessageBuilder {
        MessageBuilder::new(Parts::clone(&self.0))
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// The id; a UUIDv7 unless one was given. It stays the same through redelivery, dead letter and redrive.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.0.id
    }

    /// When the message was made, to the millisecond.
    #[must_use]
    pub fn timestamp(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.timestamp_ms)
    }

    /// The application's name for what the payload is, such as `order.placed`; never a Rust path.
    #[must_use]
    pub fn message_type(&self) -> Option<&str> {
        self.0.message_type.as_deref()
    }

    /// The ordering key: messages of one key keep their order where order is asked for.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The routing words that subscriptions may filter on.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        self.0.subject.as_ref()
    }

    /// The media type of the payload, such as `application/json`.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.0.content_type.as_deref()
    }

    /// The headers.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// The id of the message or conversation that this one answers or belongs to.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.rare()?.correlation_id.as_deref()
    }

    /// Where a reply is awaited.
    #[must_use]
    pub fn reply_to(&self) -> Option<&ReplyAddress> {
        self.rare()?.reply_to.as_ref()
    }

    /// How long after its publishing the message may still be delivered.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.rare()?.ttl
    }

    /// How long after its publishing the message may first be delivered.
    #[inline]
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.rare()?.delay
    }

    /// The priority, 0 to 9; higher goes first where the broker knows priorities, 4 is the default.
    #[inline]
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.rare()?.priority
    }

    /// The wire form of a message that someone else's client published, where it has parts that have no place here (a binary
    /// key, a null payload, nested headers). Adapters keep it, so that copies of the message are true to the byte.
    #[must_use]
    pub fn native(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.rare()?.native.as_ref()
    }

    /// Payload and headers, in bytes: what counts against size limits and in-flight bounds.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.payload.len() + self.0.header_bytes as usize
    }

    /// True if the message has a property that needs a capability: `ttl`, `delay`, `priority`, `reply_to` or
    /// `correlation_id`. Most have none, and are spared the checks.
    #[inline]
    pub(crate) fn has_rare(&self) -> bool {
        self.0.rare.is_some()
    }

    #[inline]
    fn rare(&self) -> Option<&Rare> {
        self.0.rare.as_deref()
    }
}

impl Parts {
    #[inline]
    fn new(payload: Bytes) -> Self {
        let timestamp_ms = id::unix_millis();
        Self { timestamp_ms, ..Self::received(payload, MessageId::generate_at(timestamp_ms)) }
    }

    #[inline]
    fn received(payload: Bytes, id: MessageId) -> Self {
        Self {
            payload,
            id,
            timestamp_ms: 0,
            message_type: None,
            key: None,
            subject: None,
            content_type: None,
            headers: Headers::new(),
            header_bytes: 0,
            rare: None,
        }
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    #[inline]
    fn finish(mut self) -> Message {
        self.header_bytes = u32::try_from(self.headers.byte_len()).unwrap_or(u32::MAX);
        Message(Arc::new(self))
    }
}

impl fmt::Debug for Message {
    /// Prints sizes instead of contents: payloads and header values may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id().to_string())
            .field("payload_bytes", &self.payload().len())
            .field("message_type", &self.message_type())
            .field("key", &self.key())
            .field("subject", &self.subject().map(Subject::as_str))
            .field("content_type", &self.content_type())
            .field("headers", &self.headers().names().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

macro_rules! from_payload {
    ($($payload:ty),+) => {
        $(impl From<$payload> for Message {
            /// A message of nothing but a payload; see [`Message::new`].
            fn from(payload: $payload) -> Self {
                Self::new(payload)
            }
        })+
    };
}

from_payload!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_word_and_its_parts_stay_small() {
        assert_eq!(size_of::<Message>(), size_of::<usize>());
        // 1,000,000 waiting messages must cost under 400 bytes each beyond the payload; this is the largest share, with two headers.
        assert!(size_of::<Parts>() <= 280, "{}", size_of::<Parts>());
    }

    #[test]
    fn debug_shows_no_content() {
        let message = Message::builder("s3cret").header("token", "hidden").build().unwrap();
        let shown = format!("{message:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("hidden") && shown.contains("token"), "{shown}");
    }
}
