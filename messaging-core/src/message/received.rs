//! A message that came from a broker, while an adapter reads its parts.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smol_str::SmolStr;

use super::{HeaderName, HeaderValue, Message, MessageId, Parts};
use crate::name::ReplyAddress;
use crate::subject::Subject;

/// The part of a message that an adapter has read so far; see [`Message::received`].
///
/// Nothing is checked or refused, whatever someone else's client published: a property stays as it came. It is set in place,
/// and moved once, when it becomes the message: deliveries come by the million.
#[must_use = "it is no message until `finish`"]
pub struct ReceivedMessage(Parts);

impl ReceivedMessage {
    #[inline]
    pub(super) fn new(id: MessageId, made: u64) -> Self {
        let mut parts = Parts::received(Bytes::new(), id);
        parts.timestamp_ms = made;
        Self(parts)
    }

    /// Sets the id, which may be known only after other parts.
    #[inline]
    pub fn id(&mut self, id: MessageId) {
        self.0.id = id;
    }

    /// Sets a header; of a name that is there already the last value wins.
    #[inline]
    pub fn header(&mut self, name: HeaderName, value: impl Into<HeaderValue>) {
        self.0.headers.insert(name, value);
    }

    /// Sets the application's name for what the payload is.
    #[inline]
    pub fn message_type(&mut self, name: impl Into<SmolStr>) {
        self.0.message_type = Some(name.into());
    }

    /// Sets the ordering key.
    #[inline]
    pub fn key(&mut self, key: impl Into<SmolStr>) {
        self.0.key = Some(key.into());
    }

    /// Sets the routing words.
    #[inline]
    pub fn subject(&mut self, subject: Subject) {
        self.0.subject = Some(subject);
    }

    /// Sets the media type of the payload.
    #[inline]
    pub fn content_type(&mut self, media_type: impl Into<SmolStr>) {
        self.0.content_type = Some(media_type.into());
    }

    /// Sets what the message answers or belongs to.
    pub fn correlation_id(&mut self, id: impl Into<SmolStr>) {
        self.0.rare_mut().correlation_id = Some(id.into());
    }

    /// Sets where a reply is awaited.
    pub fn reply_to(&mut self, address: ReplyAddress) {
        self.0.rare_mut().reply_to = Some(address);
    }

    /// Sets how long after its publishing the message may be delivered.
    pub fn ttl(&mut self, ttl: Duration) {
        self.0.rare_mut().ttl = Some(ttl);
    }

    /// Sets the priority; what is above 9 becomes 9.
    pub fn priority(&mut self, priority: u8) {
        self.0.rare_mut().priority = Some(priority.min(super::builder::PRIORITY_MAX));
    }

    /// Keeps the wire form, where the message has parts that have no place here; see [`Message::native`].
    pub fn native(&mut self, wire: Arc<dyn Any + Send + Sync>) {
        self.0.rare_mut().native = Some(wire);
    }

    /// The message, with its payload.
    #[inline]
    #[must_use]
    pub fn finish(mut self, payload: impl Into<Bytes>) -> Message {
        self.0.payload = payload.into();
        self.0.finish()
    }
}

impl fmt::Debug for ReceivedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedMessage").field("id", &self.0.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_foreign_message_is_never_refused() {
        let mut received = Message::received("id", 0);
        received.key("k".repeat(1_000));
        received.header(HeaderName::from_foreign("X-Größe"), "v");
        received.priority(200);
        received.native(Arc::new(vec![0xff_u8]));
        let message = received.finish("x");
        assert_eq!(message.key().map(str::len), Some(1_000));
        assert_eq!(message.timestamp(), SystemTime::UNIX_EPOCH);
        assert_eq!((message.priority(), message.size()), (Some(9), 11));
        assert!(message.native().is_some());
    }
}
