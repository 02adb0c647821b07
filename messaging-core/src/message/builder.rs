//! Building a message; the first mistake is kept and told by [`build`](MessageBuilder::build).

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smol_str::SmolStr;

use super::{HeaderName, HeaderValue, Headers, Message, MessageId, Parts};
use crate::error::{Error, ErrorKind, Result};
use crate::name::ReplyAddress;
use crate::subject::Subject;

/// The highest priority.
pub(crate) const PRIORITY_MAX: u8 = 9;

/// The longest key, type, content type, id, correlation id or reply address, in bytes: each fits an AMQP 0-9-1 short
/// string, the tightest of all brokers' fields.
const PROPERTY_MAX: usize = 255;

/// Sets properties and headers one by one.
#[must_use = "a builder does nothing until `build` is called"]
pub struct MessageBuilder {
    parts: Parts,
    fault: Option<Error>,
}

impl MessageBuilder {
    #[inline]
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, fault: None }
    }

    /// Replaces the payload.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.parts.payload = payload.into();
        self
    }

    /// Sets the id; at most 255 bytes. Without it a fresh UUIDv7 is taken.
    pub fn id(mut self, id: impl Into<MessageId>) -> Self {
        let id = id.into();
        if let Some(text) = id.as_text() {
            self.bounded("id", text.len());
        }
        self.parts.id = id;
        self
    }

    /// Sets the application's name for what the payload is; at most 255 bytes.
    #[inline]
    pub fn message_type(mut self, name: impl Into<SmolStr>) -> Self {
        self.parts.message_type = Some(self.text("message_type", name));
        self
    }

    /// Sets the ordering key; at most 255 bytes.
    #[inline]
    pub fn key(mut self, key: impl Into<SmolStr>) -> Self {
        self.parts.key = Some(self.text("key", key));
        self
    }

    /// Sets the routing words; see [`Subject`] for their form.
    pub fn subject<S>(mut self, subject: S) -> Self
    where
        S: TryInto<Subject>,
        S::Error: Into<Error>,
    {
        match subject.try_into() {
            Ok(subject) => self.parts.subject = Some(subject),
            Err(error) => self.fail(error.into()),
        }
        self
    }

    /// Sets the media type of the payload; at most 255 bytes.
    #[inline]
    pub fn content_type(mut self, media_type: impl Into<SmolStr>) -> Self {
        self.parts.content_type = Some(self.text("content_type", media_type));
        self
    }

    /// Sets a header, replacing an earlier one of the same name.
    #[inline]
    pub fn header<N>(mut self, name: N, value: impl Into<HeaderValue>) -> Self
    where
        N: TryInto<HeaderName>,
        N::Error: Into<Error>,
    {
        match name.try_into() {
            Ok(name) => self.parts.headers.insert(name, value),
            Err(error) => self.fail(error.into()),
        }
        self
    }

    /// Replaces all headers.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.parts.headers = headers;
        self
    }

    /// Sets what this message answers or belongs to; at most 255 bytes.
    pub fn correlation_id(mut self, id: impl Into<SmolStr>) -> Self {
        let id = self.text("correlation_id", id);
        self.parts.rare_mut().correlation_id = Some(id);
        self
    }

    /// Sets where a reply is awaited; at most 255 bytes.
    pub fn reply_to(mut self, address: ReplyAddress) -> Self {
        self.bounded("reply_to", address.as_str().len());
        self.parts.rare_mut().reply_to = Some(address);
        self
    }

    /// Sets when the message was made, kept to the millisecond; times before 1970 become 1970.
    pub fn timestamp(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.parts.timestamp_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Lets the message expire so long after its publishing. Needs the capability `ttl`.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.parts.rare_mut().ttl = Some(ttl);
        self
    }

    /// Keeps the message from being delivered for so long after its publishing. Needs the capability `delayed_publish`.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.parts.rare_mut().delay = Some(delay);
        self
    }

    /// Sets the priority, 0 to 9; higher goes first. Needs the capability `priority`.
    pub fn priority(mut self, priority: u8) -> Self {
        if priority > PRIORITY_MAX {
            self.fail(Error::new(
                ErrorKind::InvalidMessage,
                format!("priority {priority} is out of range: use 0 to {PRIORITY_MAX}"),
            ));
        }
        self.parts.rare_mut().priority = Some(priority);
        self
    }

    /// Keeps the wire form of a foreign message that has parts without a place here; see [`Message::native`]. Only
    /// [`build_foreign`](Self::build_foreign) hands it on.
    pub fn native(mut self, wire: Arc<dyn Any + Send + Sync>) -> Self {
        self.parts.rare_mut().native = Some(wire);
        self
    }

    /// Takes the delay away, as a copy does that is already due.
    pub fn without_delay(mut self) -> Self {
        if let Some(rare) = &mut self.parts.rare {
            rare.delay = None;
        }
        self
    }

    /// Takes the time to live away, as a copy does that is to stay.
    pub fn without_ttl(mut self) -> Self {
        if let Some(rare) = &mut self.parts.rare {
            rare.ttl = None;
        }
        self
    }

    /// Finishes the message. The wire form of a foreign message that it began from is dropped: what is published is what the
    /// builder says.
    ///
    /// # Errors
    /// The first mistake made: [`ErrorKind::InvalidName`] for a subject or header name,
    /// [`ErrorKind::InvalidMessage`] for a property out of bounds, [`ErrorKind::TooLarge`] for over 32 KiB of headers.
    #[inline]
    pub fn build(mut self) -> Result<Message> {
        // The message is the application's from here on, and not the copy of a foreign one.
        if let Some(rare) = &mut self.parts.rare {
            rare.native = None;
        }
        if let Err(error) = self.parts.headers.check_size() {
            self.fail(error);
        }
        match self.fault {
            None => Ok(self.parts.finish()),
            Some(error) => Err(error),
        }
    }

    /// Finishes a copy of a message that someone else's client published: never fails, whatever it chose. Properties that are not
    /// well formed stay as they are or are left out; nothing of it is checked again.
    #[must_use]
    #[inline]
    pub fn build_foreign(self) -> Message {
        self.parts.finish()
    }

    #[inline]
    fn text(&mut self, what: &'static str, text: impl Into<SmolStr>) -> SmolStr {
        let text = text.into();
        self.bounded(what, text.len());
        text
    }

    #[inline]
    fn bounded(&mut self, what: &'static str, bytes: usize) {
        if bytes > PROPERTY_MAX {
            self.fail(Error::new(
                ErrorKind::InvalidMessage,
                format!("{what} has {bytes} bytes, at most {PROPERTY_MAX} are allowed"),
            ));
        }
    }

    #[cold]
    fn fail(&mut self, error: Error) {
        self.fault.get_or_insert(error);
    }
}

impl std::fmt::Debug for MessageBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageBuilder").field("fault", &self.fault).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mistake_is_told() {
        let error = Message::builder("x").subject("a..b").priority(12).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName);
        let error = Message::builder("x").priority(12).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage);
        let error = Message::builder("x").key("k".repeat(256)).build().unwrap_err();
        assert!(error.text().contains("key has 256 bytes"), "{error}");
    }

    #[test]
    fn a_rebuilt_message_keeps_everything() {
        let first = Message::builder("x").key("k").header("a", "1").ttl(Duration::from_secs(1)).build().unwrap();
        let second = first.to_builder().payload("y").build().unwrap();
        assert_eq!(first.id(), second.id());
        assert_eq!(second.key(), Some("k"));
        assert_eq!(second.headers().get("a"), Some("1"));
        assert_eq!(second.ttl(), Some(Duration::from_secs(1)));
        assert_eq!(first.payload(), "x");
    }
}
