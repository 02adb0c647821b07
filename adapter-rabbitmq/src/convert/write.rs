//! What is published: a message as properties.

use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use messaging_core::wire::{self, Facts};
use messaging_core::{Message, MessageId};

use super::time_of_id;
use super::values::{long, without_brokers_own};
use crate::layout::short;

/// Stored on disk before it is confirmed.
const PERSISTENT: u8 = 2;

/// The properties of a message published for the first time. `subject` says whether the routing key does not carry it.
pub(crate) fn write(message: &Message, subject: bool) -> BasicProperties {
    let mut headers = FieldTable::default();
    let properties = write_properties(message, &mut headers, subject);
    let properties = match message.ttl() {
        Some(ttl) => properties.with_expiration(short(&ttl.as_millis().max(1).to_string())),
        None => properties,
    };
    with_headers(properties, headers)
}

/// The properties of a copy. What a foreign message had that has no place in ours stays as it was.
pub(crate) fn write_copy(message: &Message, facts: &Facts) -> BasicProperties {
    let native = message.native().and_then(|native| native.downcast_ref::<BasicProperties>());
    let mut headers = native.and_then(|native| native.headers().as_ref()).map(without_brokers_own).unwrap_or_default();
    let mut properties = write_properties(message, &mut headers, true);
    if let Some(native) = native {
        properties = with_native(properties, native);
    }
    let ttl = message.ttl().map(|ttl| (wire::TTL, ttl.as_millis().to_string()));
    for (name, value) in facts.entries().into_iter().chain(ttl) {
        headers.insert(name.into(), long(&value));
    }
    with_headers(properties, headers)
}

fn write_properties(message: &Message, headers: &mut FieldTable, subject: bool) -> BasicProperties {
    let timestamp = wire::to_millis(message.timestamp());
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id_text(message.id()))
        .with_timestamp(timestamp / 1_000);
    if !time_is_in_id(message.id(), timestamp) {
        headers.insert(wire::TIMESTAMP.into(), long(&timestamp.to_string()));
    }
    if let Some(content_type) = message.content_type() {
        properties = properties.with_content_type(short(content_type));
    }
    if let Some(name) = message.message_type() {
        properties = properties.with_type(short(name));
    }
    if let Some(id) = message.correlation_id() {
        properties = properties.with_correlation_id(short(id));
    }
    if let Some(address) = message.reply_to() {
        properties = properties.with_reply_to(short(address.as_str()));
    }
    if let Some(priority) = message.priority() {
        properties = properties.with_priority(priority);
    }
    if let Some(key) = message.key() {
        headers.insert(wire::KEY.into(), long(key));
    }
    if let Some(words) = message.subject().filter(|_| subject) {
        headers.insert(wire::SUBJECT.into(), long(words.as_str()));
    }
    for (name, value) in message.headers().iter() {
        // A foreign header stays in its own form, and under its own name.
        if !headers.inner().keys().any(|known| known.as_str().eq_ignore_ascii_case(name)) {
            headers.insert(short(name), long(value));
        }
    }
    properties
}

fn id_text(id: &MessageId) -> ShortString {
    match id.as_uuid() {
        // Nearly every message has one: no formatter, and one allocation.
        Some(uuid) => short(uuid.hyphenated().encode_lower(&mut [0; 36])),
        None => short(&id.to_string()),
    }
}

/// A UUIDv7 says when it was made, to the millisecond; AMQP's timestamp counts seconds.
fn time_is_in_id(id: &MessageId, timestamp: u64) -> bool {
    time_of_id(id) == Some(timestamp)
}

fn with_headers(properties: BasicProperties, headers: FieldTable) -> BasicProperties {
    if headers.inner().is_empty() { properties } else { properties.with_headers(headers) }
}

fn with_native(mut properties: BasicProperties, native: &BasicProperties) -> BasicProperties {
    if let Some(encoding) = native.content_encoding() {
        properties = properties.with_content_encoding(encoding.clone());
    }
    if let Some(app) = native.app_id() {
        properties = properties.with_app_id(app.clone());
    }
    properties
}
