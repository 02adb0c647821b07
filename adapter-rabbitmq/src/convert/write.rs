//! Messages that are published, as properties.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};
use messaging_core::wire::{self, Facts};
use messaging_core::{Error, ErrorKind, Message, MessageId, Result};

use super::time_of_id;
use super::values::{headers_of_copy, long, size_of_table};

/// Stored on disk before it is confirmed.
const PERSISTENT: u8 = 2;
/// Bytes of a copy's header frame that are left free for the headers that the broker adds: `x-death` and its relatives on the
/// way out of a delay queue, with names of up to 255 bytes, and counts at each delivery.
const BROKER_HEADERS_MAX: usize = 4 * 1024;
/// Bytes of a header frame around the properties: frame type, channel, length and end; class, weight and size of the body.
const HEADER_FRAME_OVERHEAD: usize = 20;

/// The properties of a message published for the first time. `subject` says whether the routing key does not carry it.
///
/// # Errors
/// [`ErrorKind::InvalidMessage`] if a property is longer than the 255 bytes that AMQP has for it.
pub(crate) fn write(message: &Message, subject: bool) -> Result<BasicProperties> {
    let mut headers = FieldTable::default();
    let properties = write_properties(message, &mut headers, subject)?;
    let properties = match message.ttl() {
        Some(ttl) => properties.with_expiration(property("the time to live", &ttl.as_millis().max(1).to_string())?),
        None => properties,
    };
    Ok(with_headers(properties, headers))
}

/// The properties of a copy. A message that someone else's client published keeps its own, under their names and in their types.
///
/// The copy fits into one frame of `frame_max` bytes together with what the broker adds to it. A dead letter that would not
/// loses its errors first and then the headers it came with, and says so among its errors.
///
/// # Errors
/// [`ErrorKind::TooLarge`] if another copy would not fit; [`ErrorKind::InvalidMessage`] as for [`write`].
pub(crate) fn write_copy(message: &Message, facts: &Facts, frame_max: usize) -> Result<BasicProperties> {
    let Some(native) = message.native().and_then(|native| native.downcast_ref::<BasicProperties>()) else {
        // At most 32 KiB of headers and 8 KiB of errors: it fits.
        let mut headers = FieldTable::default();
        let properties = write_properties(message, &mut headers, true)?;
        insert_facts(&mut headers, facts, message.ttl());
        return Ok(with_headers(properties, headers));
    };
    let mut headers = native.headers().as_ref().map(headers_of_copy).unwrap_or_default();
    if let Some(words) = message.subject() {
        insert_missing(&mut headers, wire::SUBJECT, words.as_str());
    }
    let mut properties = native.clone().with_delivery_mode(PERSISTENT);
    if native.message_id().is_none() {
        properties = properties.with_message_id(id_text(message.id())?);
    }
    // The broker would let the copy expire, and refuses a user other than the one who is logged in.
    properties = without_expiration_and_user(&properties);
    let room = frame_max.saturating_sub(HEADER_FRAME_OVERHEAD + BROKER_HEADERS_MAX + size_of_texts(&properties));
    let own = size_of_table(&headers);
    insert_facts(&mut headers, facts, message.ttl());
    if size_of_table(&headers) <= room {
        return Ok(properties.with_headers(headers));
    }
    if !facts.is_dead_letter() {
        return Err(too_large(own, frame_max));
    }
    let facts_alone = with_errors(facts, "the errors were left out: the headers leave no room for them");
    insert_facts(&mut headers, &facts_alone, message.ttl());
    if size_of_table(&headers) <= room {
        return Ok(properties.with_headers(headers));
    }
    let left_out = format!(
        "the headers of the message, {own} bytes, were left out: a frame of {frame_max} bytes does not hold them"
    );
    let mut headers = FieldTable::default();
    insert_facts(&mut headers, &with_errors(facts, &left_out), message.ttl());
    Ok(properties.with_headers(headers))
}

fn insert_facts(headers: &mut FieldTable, facts: &Facts, ttl: Option<Duration>) {
    let ttl = ttl.map(|ttl| (wire::TTL, ttl.as_millis().to_string()));
    for (name, value) in facts.entries().into_iter().chain(ttl) {
        headers.insert(name.into(), long(&value));
    }
}

/// The facts of a dead letter, with one error instead of its own.
fn with_errors(facts: &Facts, error: &str) -> Facts {
    let mut facts = facts.clone();
    if let Some(dead) = &mut facts.dead {
        dead.errors = vec![error.to_owned()];
    }
    facts
}

fn too_large(headers: usize, frame_max: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "the message has {headers} bytes of headers: a copy does not fit into a frame of {frame_max} bytes together with what the broker adds"
        ),
    )
}

fn write_properties(message: &Message, headers: &mut FieldTable, subject: bool) -> Result<BasicProperties> {
    let timestamp = wire::to_millis(message.timestamp());
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id_text(message.id())?)
        .with_timestamp(timestamp / 1_000);
    if time_of_id(message.id()) != Some(timestamp) {
        // AMQP's timestamp counts seconds; a UUIDv7 has the milliseconds.
        headers.insert(wire::TIMESTAMP.into(), long(&timestamp.to_string()));
    }
    if let Some(content_type) = message.content_type() {
        properties = properties.with_content_type(property("the content type", content_type)?);
    }
    if let Some(name) = message.message_type() {
        properties = properties.with_type(property("the type", name)?);
    }
    if let Some(id) = message.correlation_id() {
        properties = properties.with_correlation_id(property("the correlation id", id)?);
    }
    if let Some(address) = message.reply_to() {
        properties = properties.with_reply_to(property("the reply address", address.as_str())?);
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
        headers.insert(property("the name of a header", name)?, long(value));
    }
    Ok(properties)
}

fn property(what: &str, text: &str) -> Result<ShortString> {
    ShortString::try_new(text).map_err(|_| {
        let bytes = text.len();
        Error::new(ErrorKind::InvalidMessage, format!("{what} has {bytes} bytes, and AMQP has room for 255"))
    })
}

fn id_text(id: &MessageId) -> Result<ShortString> {
    match id.as_uuid() {
        // Nearly every message has one: no formatter, and one allocation.
        Some(uuid) => property("the id", uuid.hyphenated().encode_lower(&mut [0; 36])),
        None => property("the id", &id.to_string()),
    }
}

fn insert_missing(headers: &mut FieldTable, name: &'static str, value: &str) {
    if !headers.contains_key(name) {
        headers.insert(name.into(), long(value));
    }
}

fn with_headers(properties: BasicProperties, headers: FieldTable) -> BasicProperties {
    if headers.inner().is_empty() { properties } else { properties.with_headers(headers) }
}

/// The client's properties have no way to take one back: those that stay are set anew.
fn without_expiration_and_user(all: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    macro_rules! keep {
        ($($get:ident => $with:ident),*) => {
            $(if let Some(value) = all.$get() { kept = kept.$with(value.clone()); })*
        };
    }
    keep!(content_type => with_content_type, content_encoding => with_content_encoding, delivery_mode => with_delivery_mode,
        priority => with_priority, correlation_id => with_correlation_id, reply_to => with_reply_to,
        message_id => with_message_id, timestamp => with_timestamp, kind => with_type, app_id => with_app_id,
        cluster_id => with_cluster_id);
    kept
}

/// Bytes of all properties but the headers, with their flags.
fn size_of_texts(all: &BasicProperties) -> usize {
    let texts = [
        all.content_type(),
        all.content_encoding(),
        all.correlation_id(),
        all.reply_to(),
        all.message_id(),
        all.kind(),
        all.app_id(),
        all.cluster_id(),
    ];
    // Flags, delivery mode, priority and timestamp.
    12 + texts.into_iter().flatten().map(|text| 1 + text.as_str().len()).sum::<usize>()
}
