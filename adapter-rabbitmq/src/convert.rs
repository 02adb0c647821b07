//! Messages and their wire form, both ways. `docs/wire-format.md` describes it, with vectors.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use messaging_core::wire::{self, DeadLetterMark};
use messaging_core::{DeadLetterReason, HeaderName, Message, MessageBuilder, MessageId, ReplyAddress, Source, Subject};

use crate::layout::short;

/// Stored on disk before it is confirmed.
const PERSISTENT: u8 = 2;

/// What a copy says besides the message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// How many attempts the message has behind it.
    pub(crate) attempts: u32,
    pub(crate) redriven: u32,
    /// When it is due, if it leaves its bucket before.
    pub(crate) due: Option<SystemTime>,
    /// When it expires, where the broker's own expiry is spent.
    pub(crate) expires: Option<SystemTime>,
    /// What a dead letter says.
    pub(crate) mark: Option<DeadLetterMark>,
}

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
pub(crate) fn write_copy(message: &Message, extra: &Extra) -> BasicProperties {
    let Extra { attempts, redriven, due, expires, mark } = extra;
    let native = message.native().and_then(|native| native.downcast_ref::<BasicProperties>());
    let mut headers = native.and_then(|native| native.headers().as_ref()).map(without_brokers_own).unwrap_or_default();
    let mut properties = write_properties(message, &mut headers, true);
    if let Some(native) = native {
        properties = with_native(properties, native);
    }
    let mut set = |name: &'static str, value: String| {
        headers.insert(name.into(), long(&value));
    };
    if *attempts > 0 {
        set(wire::ATTEMPTS, attempts.to_string());
    }
    if *redriven > 0 {
        set(wire::REDRIVEN, redriven.to_string());
    }
    if let Some(due) = due {
        set(wire::DUE, wire::to_millis(*due).to_string());
    }
    if let Some(expires) = expires {
        set(wire::EXPIRES, wire::to_millis(*expires).to_string());
    }
    if let Some(ttl) = message.ttl() {
        set(wire::TTL, ttl.as_millis().to_string());
    }
    for (name, value) in mark.iter().flat_map(DeadLetterMark::entries) {
        set(name, value);
    }
    with_headers(properties, headers)
}

fn write_properties(message: &Message, headers: &mut FieldTable, subject: bool) -> BasicProperties {
    let timestamp = wire::to_millis(message.timestamp());
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&message.id().to_string()))
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

/// A UUIDv7 says when it was made, to the millisecond; AMQP's timestamp counts seconds.
fn time_is_in_id(id: &MessageId, timestamp: u64) -> bool {
    time_of_id(id) == Some(timestamp)
}

fn time_of_id(id: &MessageId) -> Option<u64> {
    let uuid = id.as_uuid()?;
    if uuid.get_version_num() != 7 {
        return None;
    }
    let bytes = uuid.as_bytes();
    Some(bytes[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte)))
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

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) message: Message,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u32,
    pub(crate) redriven: u32,
    /// When it is due, if it came before.
    pub(crate) due: Option<SystemTime>,
    /// When it expires, where it carries that itself.
    pub(crate) expires: Option<SystemTime>,
}

/// How deliveries of one source are read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The topic's exchange: what came through it has its subject in the routing key.
    pub(crate) exchange: Option<ShortString>,
    /// The routing key begins with the lane.
    pub(crate) lanes: bool,
    /// Whether the broker counts deliveries.
    pub(crate) counts: bool,
}

/// Reads a delivery. Whatever someone else's client published is readable: what has no place stays in the native form.
pub(crate) fn read(
    payload: Bytes,
    properties: BasicProperties,
    exchange: &ShortString,
    routing_key: &ShortString,
    redelivered: bool,
    reading: &Reading,
) -> Incoming {
    let id = match properties.message_id() {
        Some(id) => MessageId::from_text(id.as_str()),
        None => MessageId::generate(),
    };
    let mut facts = Facts::default();
    let mut headers = Vec::new();
    if let Some(table) = properties.headers() {
        for (name, value) in table.inner() {
            facts.read(name.as_str(), value, &mut headers);
        }
    }
    let seconds = properties.timestamp().unwrap_or_default();
    let millis = match (facts.timestamp, time_of_id(&id)) {
        (Some(millis), _) => millis,
        (None, Some(millis)) if millis / 1_000 == seconds => millis,
        _ => seconds.saturating_mul(1_000),
    };
    let mut builder = Message::received(payload, id, wire::from_millis(millis));
    for (name, value) in headers {
        builder = builder.header(HeaderName::from_foreign(name), value.as_ref());
    }
    builder = read_properties(builder, &properties, &facts);
    if let Some(key) = &facts.key {
        builder = builder.key(key);
    }
    let carried = || subject_of(exchange, routing_key, reading);
    if let Some(words) = facts.subject.as_deref().or_else(carried) {
        builder = builder.subject(Subject::from_foreign(words));
    }
    let message = if facts.foreign || properties.content_encoding().is_some() || properties.app_id().is_some() {
        builder.native(Arc::new(properties)).build_foreign()
    } else {
        builder.build_foreign()
    };
    let counted = match (redelivered, reading.counts) {
        (false, _) => 0,
        (true, true) => facts.deliveries.unwrap_or(1),
        (true, false) => 1,
    };
    Incoming {
        message,
        attempt: facts.attempts.saturating_add(counted).saturating_add(1),
        redriven: facts.redriven,
        due: facts.due.map(wire::from_millis),
        expires: facts.expires.map(wire::from_millis),
    }
}

fn read_properties(mut builder: MessageBuilder, properties: &BasicProperties, facts: &Facts) -> MessageBuilder {
    if let Some(content_type) = properties.content_type() {
        builder = builder.content_type(content_type.as_str());
    }
    if let Some(name) = properties.kind() {
        builder = builder.message_type(name.as_str());
    }
    if let Some(id) = properties.correlation_id() {
        builder = builder.correlation_id(id.as_str());
    }
    if let Some(address) = properties.reply_to() {
        builder = builder.reply_to(ReplyAddress::new(address.as_str()));
    }
    if let Some(priority) = properties.priority() {
        builder = builder.priority((*priority).min(9));
    }
    let expiration = properties.expiration().as_ref().and_then(|text| text.as_str().parse().ok());
    if let Some(millis) = facts.ttl.or(expiration) {
        builder = builder.ttl(Duration::from_millis(millis));
    }
    builder
}

fn subject_of<'a>(exchange: &ShortString, routing_key: &'a ShortString, reading: &Reading) -> Option<&'a str> {
    if reading.exchange.as_ref() != Some(exchange) {
        return None;
    }
    let key = routing_key.as_str();
    let words = if reading.lanes { key.split_once('.').map_or("", |(_, words)| words) } else { key };
    (!words.is_empty()).then_some(words)
}

/// What the headers say that are not the application's.
#[derive(Debug, Default)]
struct Facts {
    deliveries: Option<u32>,
    attempts: u32,
    redriven: u32,
    timestamp: Option<u64>,
    due: Option<u64>,
    expires: Option<u64>,
    ttl: Option<u64>,
    key: Option<String>,
    subject: Option<String>,
    /// A header of another type than text.
    foreign: bool,
}

impl Facts {
    fn read<'a>(&mut self, name: &'a str, value: &'a AMQPValue, headers: &mut Vec<(&'a str, Cow<'a, str>)>) {
        if let Some(rest) = name.strip_prefix("x-") {
            if rest == "delivery-count" {
                self.deliveries = number(value).and_then(|count| u32::try_from(count).ok());
                return;
            }
            if is_brokers_own(rest) {
                return;
            }
        }
        if !name.starts_with(wire::PREFIX) {
            match value {
                AMQPValue::LongString(text) => {
                    let text = String::from_utf8_lossy(text.as_bytes());
                    self.foreign |= matches!(text, Cow::Owned(_));
                    headers.push((name, text));
                }
                other => {
                    self.foreign = true;
                    headers.push((name, Cow::Owned(shown(other))));
                }
            }
            return;
        }
        let small = |value| number(value).map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX));
        match name {
            wire::ATTEMPTS => self.attempts = small(value),
            wire::REDRIVEN => self.redriven = small(value),
            wire::TIMESTAMP => self.timestamp = number(value),
            wire::DUE => self.due = number(value),
            wire::EXPIRES => self.expires = number(value),
            wire::TTL => self.ttl = number(value),
            wire::KEY => self.key = Some(shown(value)),
            wire::SUBJECT => self.subject = Some(shown(value)),
            _ => {}
        }
    }
}

/// Headers that the broker itself adds, less their `x-`.
fn is_brokers_own(rest: &str) -> bool {
    rest == "death"
        || rest == "acquired-count"
        || rest.starts_with("first-death-")
        || rest.starts_with("last-death-")
        || rest == "opt-rabbitmq-delivery-time"
}

fn without_brokers_own(headers: &FieldTable) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in headers.inner() {
        let own = name.as_str().strip_prefix("x-").is_some_and(|rest| rest == "delivery-count" || is_brokers_own(rest));
        if !own && !name.as_str().starts_with(wire::PREFIX) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

fn number(value: &AMQPValue) -> Option<u64> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.parse().ok(),
        AMQPValue::LongLongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongUInt(number) => Some(u64::from(*number)),
        AMQPValue::ShortInt(number) => u64::try_from(*number).ok(),
        AMQPValue::ShortUInt(number) => Some(u64::from(*number)),
        AMQPValue::ShortShortUInt(number) => Some(u64::from(*number)),
        _ => None,
    }
}

fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        AMQPValue::Void => String::new(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// Reads a message from a dead letter of `source`, with what the broker says if it put the message there itself.
pub(crate) fn read_mark(properties: &BasicProperties, source: &Source, attempt: u32) -> DeadLetterMark {
    let headers = properties.headers().as_ref();
    let texts: Vec<(&str, String)> = headers
        .into_iter()
        .flat_map(|table| table.inner())
        .filter(|(name, _)| name.as_str().starts_with(wire::PREFIX))
        .map(|(name, value)| (name.as_str(), shown(value)))
        .collect();
    let (reason, at) = headers.and_then(read_death).unwrap_or_else(|| ("rejected".to_owned(), SystemTime::now()));
    let reason = match reason.as_str() {
        "delivery_limit" => DeadLetterReason::new(DeadLetterReason::DELIVERY_LIMIT),
        "expired" => DeadLetterReason::new(DeadLetterReason::EXPIRED),
        _ => DeadLetterReason::new(reason),
    };
    let otherwise = DeadLetterMark { origin: source.clone(), reason, attempts: attempt, redriven: 0, at };
    DeadLetterMark::read(
        |wanted| texts.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str()),
        otherwise,
    )
}

/// Why and when the broker moved a message last.
fn read_death(headers: &FieldTable) -> Option<(String, SystemTime)> {
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
    let reason = shown(last.inner().get("reason")?);
    let at = match last.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => wire::from_millis(seconds.saturating_mul(1_000)),
        _ => SystemTime::now(),
    };
    Some((reason, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: Reading = Reading { exchange: None, lanes: false, counts: true };

    fn back(properties: BasicProperties, redelivered: bool) -> Incoming {
        let none = ShortString::default();
        read(Bytes::from_static(b"x"), properties, &none, &none, redelivered, &READING)
    }

    fn full() -> Message {
        Message::builder("x")
            .key("k")
            .subject("a.b")
            .message_type("t")
            .content_type("text/plain")
            .correlation_id("c")
            .reply_to(ReplyAddress::new("r"))
            .priority(7)
            .ttl(Duration::from_millis(1_500))
            .header("tenant", "acmé")
            .build()
            .unwrap()
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let sent = full();
        let Incoming { message: got, attempt, redriven, due, expires } = back(write(&sent, true), false);
        assert_eq!((attempt, redriven, due, expires), (1, 0, None, None));
        assert_eq!(got.id(), sent.id());
        assert_eq!(got.timestamp(), sent.timestamp());
        assert_eq!(got.headers(), sent.headers());
        assert_eq!((got.key(), got.subject()), (sent.key(), sent.subject()));
        assert_eq!((got.message_type(), got.content_type()), (sent.message_type(), sent.content_type()));
        assert_eq!((got.correlation_id(), got.reply_to()), (sent.correlation_id(), sent.reply_to()));
        assert_eq!((got.priority(), got.ttl()), (sent.priority(), sent.ttl()));
        assert!(got.native().is_none());
    }

    #[test]
    fn the_time_is_kept_to_the_millisecond_without_a_header_where_the_id_has_it() {
        let plain = Message::new("x");
        assert!(write(&plain, true).headers().is_none());
        let given = Message::builder("x").id("order-1").timestamp(wire::from_millis(1_234_567)).build().unwrap();
        assert_eq!(back(write(&given, true), false).message.timestamp(), given.timestamp());
    }

    #[test]
    fn attempts_add_up() {
        let extra = Extra { attempts: 2, redriven: 1, ..Extra::default() };
        let mut headers = write_copy(&full(), &extra).headers().clone().unwrap();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = write_copy(&full(), &extra).with_headers(headers);
        assert_eq!(back(properties.clone(), true).attempt, 6);
        // The count of a publisher's own header is not believed on the first delivery.
        assert_eq!(back(properties, false).attempt, 3);
    }

    #[test]
    fn what_is_foreign_stays_in_copies() {
        let mut headers = FieldTable::default();
        headers.insert("Count".into(), AMQPValue::LongInt(7));
        headers.insert("x-death".into(), AMQPValue::FieldArray(lapin::types::FieldArray::default()));
        let foreign = BasicProperties::default().with_headers(headers).with_app_id("legacy".into());
        let got = back(foreign, false).message;
        assert_eq!(got.headers().get("count"), Some("7"));
        let copy = write_copy(&got, &Extra::default());
        assert_eq!(copy.app_id().as_ref().map(|app| app.as_str()), Some("legacy"));
        assert_eq!(copy.headers().as_ref().unwrap().inner().get("Count"), Some(&AMQPValue::LongInt(7)));
    }
}
