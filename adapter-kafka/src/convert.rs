//! Messages to records and back, both ways together. `docs/wire-format.md` fixes the mapping.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use messaging_core::spi::ReceivedMessage;
use messaging_core::wire::{self, Facts, to_millis};
use messaging_core::{HeaderName, Message, MessageId, ReplyAddress, Subject};
use rdkafka::message::{Header, OwnedHeaders};
use uuid::Uuid;

use crate::raw::add_header;
use crate::records::Record;

/// CloudEvents' names in the binary mode of its Kafka binding.
pub(crate) const CE_ID: &str = "ce_id";
pub(crate) const CE_TYPE: &str = "ce_type";
pub(crate) const CE_SUBJECT: &str = "ce_subject";
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// A header of the application's own that is called `content-type` travels under this name.
pub(crate) const OWN_CONTENT_TYPE: &str = "messaging-header-content-type";

/// Headers that copies add, and that each copy writes anew or leaves out.
const OF_COPIES: &[&str] = &[
    wire::ID,
    wire::ATTEMPTS,
    wire::REDRIVEN,
    wire::DUE,
    wire::EXPIRES,
    wire::KEY,
    wire::DEAD_ORIGIN,
    wire::DEAD_REASON,
    wire::DEAD_ERRORS,
    wire::DEAD_AT,
    NULL_MARK,
];

/// A dead letter of a tombstone: its own payload cannot be null.
pub(crate) const NULL_MARK: &str = "messaging-null";

/// The parts of a foreign record without a place in a message, kept so that copies are true to the byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    key: Option<Bytes>,
    /// Null is a tombstone, and not an empty payload.
    is_null: bool,
    headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Returns whether a message is a tombstone: a record with a null payload, which is not an empty one.
#[must_use]
pub fn is_tombstone(message: &Message) -> bool {
    wire_of(message).is_some_and(|wire| wire.is_null)
}

fn wire_of(message: &Message) -> Option<&Wire> {
    message.native().and_then(|native| native.downcast_ref())
}

/// The key of a record for this message.
pub(crate) fn key_of(message: &Message) -> Option<&[u8]> {
    match wire_of(message) {
        Some(wire) => wire.key.as_deref(),
        None => message.key().map(str::as_bytes),
    }
}

/// The payload of a record for this message; none for a tombstone.
pub(crate) fn payload_of(message: &Message) -> Option<&[u8]> {
    if is_tombstone(message) { None } else { Some(message.payload()) }
}

/// When the message was made, as records carry it.
pub(crate) fn timestamp_of(message: &Message) -> i64 {
    i64::try_from(to_millis(message.timestamp())).unwrap_or(i64::MAX)
}

/// The headers of a record for this message, and `extra` ones.
pub(crate) fn headers_of(message: &Message, extra: &[(&'static str, String)]) -> OwnedHeaders {
    if let Some(wire) = wire_of(message) {
        return foreign_headers(message, wire, extra);
    }
    let mut id = Scratch { uuid: [0; 36], text: String::new() };
    let mut headers = OwnedHeaders::new_with_capacity(4 + message.headers().len() + extra.len());
    headers = with(headers, CE_ID, id.text_of(message.id()));
    let texts = [
        (CE_TYPE, message.message_type()),
        (CE_SUBJECT, message.subject().map(Subject::as_str)),
        (CONTENT_TYPE, message.content_type()),
        (wire::CORRELATION_ID, message.correlation_id()),
        (wire::REPLY_TO, message.reply_to().map(ReplyAddress::as_str)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            headers = with(headers, name, text);
        }
    }
    for (name, value) in message.headers().iter() {
        headers = with(headers, if name == CONTENT_TYPE { OWN_CONTENT_TYPE } else { name }, value);
    }
    extra.iter().fold(headers, |headers, (name, value)| with(headers, name, value))
}

/// As they came, less what earlier copies added; the id goes along where the sender gave none.
fn foreign_headers(message: &Message, wire: &Wire, extra: &[(&'static str, String)]) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(1 + wire.headers.len() + extra.len());
    let mut ids = wire.headers.iter().filter(|(name, _)| name == CE_ID);
    match ids.next_back() {
        None => headers = with(headers, CE_ID, &message.id().to_string()),
        // One that cannot be read stays as it came, and the id that the message was shown under goes beside it.
        Some((_, id)) if !is_text(id.as_deref()) => headers = with(headers, wire::ID, &message.id().to_string()),
        Some(_) => {}
    }
    for (name, value) in &wire.headers {
        add_header(&mut headers, name, value.as_deref());
    }
    extra.iter().fold(headers, |headers, (name, value)| with(headers, name, value))
}

fn with(headers: OwnedHeaders, name: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(value) })
}

fn is_text(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| std::str::from_utf8(value).is_ok())
}

/// Where an id is written out without an allocation.
struct Scratch {
    uuid: [u8; 36],
    text: String,
}

impl Scratch {
    fn text_of(&mut self, id: &MessageId) -> &str {
        match id.as_uuid() {
            Some(uuid) => uuid.hyphenated().encode_lower(&mut self.uuid),
            None => {
                self.text = id.to_string();
                &self.text
            }
        }
    }
}

/// A record, read.
pub(crate) struct Decoded {
    pub(crate) message: Message,
    pub(crate) facts: Facts,
}

impl Decoded {
    /// Time at which the message is due, in milliseconds since 1970; 0 for at once.
    pub(crate) fn due(&self) -> u64 {
        self.facts.due.map_or(0, to_millis)
    }

    /// Time at which the message expires, in milliseconds since 1970; none for never.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.facts.expires.map(to_millis)
    }
}

/// State of a decode: the headers come before the message is made.
struct Reading {
    message: ReceivedMessage,
    has_id: bool,
    /// The id that an earlier copy noted beside one that cannot be read.
    noted_id: Option<MessageId>,
    /// The key that a dead letter had before.
    key: Option<Vec<u8>>,
    facts: Facts,
    /// Something has no place in a message.
    is_odd: bool,
    is_null: bool,
}

/// Makes a message of a record, which stands in this partition. Nothing that anybody's client can send is refused.
pub(crate) fn decode(record: Record<'_>, topic: &str, partition: i32) -> Decoded {
    let payload = record.payload();
    let is_null = payload.is_none();
    let mut reading = Reading {
        message: Message::received(Uuid::nil(), record.made()),
        has_id: false,
        noted_id: None,
        key: None,
        facts: Facts::default(),
        is_odd: is_null,
        is_null,
    };
    record.headers().for_each(|(name, value)| read(&mut reading, name, value));
    if let Some(id) = reading.noted_id.take() {
        reading.message.id(id);
    } else if !reading.has_id {
        // A record without an id gets one that is the same at every delivery.
        reading.message.id(MessageId::from_text(&format!("{topic}/{partition}/{}", record.offset())));
    }
    // A dead letter's key is the topic's; the message's own stands in a header, if it has one.
    let own_key = reading.key.take();
    let own_key = own_key.as_deref().or(record.key().filter(|_| !reading.facts.is_dead_letter()));
    if let Some(key) = own_key {
        let key = String::from_utf8_lossy(key);
        reading.is_odd |= matches!(key, Cow::Owned(_));
        reading.message.key(key.as_ref());
    }
    if let Some(expires) = reading.facts.expires {
        reading.message.ttl(Duration::from_millis(to_millis(expires).saturating_sub(record.made())));
    }
    if reading.is_odd {
        reading.message.native(Arc::new(wire(record, own_key, reading.is_null)));
    }
    // The message is large, and moved once only.
    Decoded { message: reading.message.finish(payload.unwrap_or_default()), facts: reading.facts }
}

fn read(into: &mut Reading, name: &[u8], value: Option<&[u8]>) {
    if name == wire::KEY.as_bytes() {
        into.key = value.map(<[u8]>::to_vec);
        return;
    }
    let message = &mut into.message;
    let (Ok(name_text), Some(Ok(text))) = (std::str::from_utf8(name), value.map(std::str::from_utf8)) else {
        into.is_odd = true;
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value.unwrap_or_default()));
        return message.header(HeaderName::from_foreign(&name), value.as_ref());
    };
    match name_text {
        CE_ID => {
            message.id(MessageId::from_text(text));
            into.has_id = true;
        }
        CE_TYPE => message.message_type(text),
        CE_SUBJECT => message.subject(Subject::from_foreign(text)),
        CONTENT_TYPE => message.content_type(text),
        OWN_CONTENT_TYPE => message.header(HeaderName::from_foreign(CONTENT_TYPE), text),
        name if name.starts_with(wire::PREFIX) => reserved(into, name, text),
        name => {
            let known = HeaderName::from_foreign(name);
            into.is_odd |= known.as_str() != name;
            message.header(known, text);
        }
    }
}

fn reserved(into: &mut Reading, name: &str, text: &str) {
    match name {
        wire::CORRELATION_ID => into.message.correlation_id(text),
        wire::REPLY_TO => into.message.reply_to(ReplyAddress::new(text)),
        wire::ID => into.noted_id = Some(MessageId::from_text(text)),
        NULL_MARK => (into.is_odd, into.is_null) = (true, true),
        // Headers of others that begin like ours stay on copies.
        other => into.is_odd |= !into.facts.note(other, text),
    }
}

/// The parts of a record that have no place in a message.
fn wire(record: Record<'_>, key: Option<&[u8]>, is_null: bool) -> Wire {
    // Everything stays but what copies add: that is written anew.
    let own = record.headers().filter(|(name, _)| !OF_COPIES.iter().any(|known| known.as_bytes() == *name));
    let headers = own.map(|(name, value)| (Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice))).collect();
    let key = key.map(Bytes::copy_from_slice);
    Wire { key, is_null, headers }
}
