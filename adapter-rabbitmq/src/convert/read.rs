//! What is delivered: properties as a message.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};
use messaging_core::spi::ReceivedMessage;
use messaging_core::wire;
use messaging_core::{HeaderName, Message, MessageId, ReplyAddress, Subject};

use super::time_of_id;
use super::values::{is_brokers_own, number, shown};

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
    let mut message = Message::received(id, millis);
    for (name, value) in headers {
        message.header(HeaderName::from_foreign(name), value.as_ref());
    }
    read_properties(&mut message, &properties, &facts);
    if let Some(key) = &facts.key {
        message.key(key);
    }
    let carried = || subject_of(exchange, routing_key, reading);
    if let Some(words) = facts.subject.as_deref().or_else(carried) {
        message.subject(Subject::from_foreign(words));
    }
    if facts.foreign || properties.content_encoding().is_some() || properties.app_id().is_some() {
        message.native(Arc::new(properties));
    }
    let message = message.finish(payload);
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

fn read_properties(message: &mut ReceivedMessage, properties: &BasicProperties, facts: &Facts) {
    if let Some(content_type) = properties.content_type() {
        message.content_type(content_type.as_str());
    }
    if let Some(name) = properties.kind() {
        message.message_type(name.as_str());
    }
    if let Some(id) = properties.correlation_id() {
        message.correlation_id(id.as_str());
    }
    if let Some(address) = properties.reply_to() {
        message.reply_to(ReplyAddress::new(address.as_str()));
    }
    if let Some(priority) = properties.priority() {
        message.priority(*priority);
    }
    let expiration = properties.expiration().as_ref().and_then(|text| text.as_str().parse().ok());
    if let Some(millis) = facts.ttl.or(expiration) {
        message.ttl(Duration::from_millis(millis));
    }
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
