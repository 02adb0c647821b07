//! What is delivered: properties as a message.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};
use messaging_core::spi::ReceivedMessage;
use messaging_core::wire::{self, Facts};
use messaging_core::{HeaderName, Message, MessageId, ReplyAddress, Subject};

use super::time_of_id;
use super::values::{is_brokers_own, number, shown};

/// Highest priority that a message of this library has.
const PRIORITY_MAX: u8 = 9;

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) message: Message,
    /// Number of this attempt, from 1.
    pub(crate) attempt: u32,
    pub(crate) redriven: u32,
    /// Time at which it is due, if it came before.
    pub(crate) due: Option<SystemTime>,
    /// Time at which it expires, where it carries that itself.
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
    let mut read = Reserved::default();
    let mut headers = Vec::new();
    if let Some(table) = properties.headers() {
        for (name, value) in table.inner() {
            read.note(name.as_str(), value, &mut headers);
        }
    }
    let seconds = properties.timestamp().unwrap_or_default();
    let millis = match (read.timestamp, time_of_id(&id)) {
        (Some(millis), _) => millis,
        (None, Some(millis)) if millis / 1_000 == seconds => millis,
        _ => seconds.saturating_mul(1_000),
    };
    let is_foreign = read.foreign || has_other_properties(&properties, &id, &read, millis);
    let mut message = Message::received(id, millis);
    for (name, value) in headers {
        message.header(name, value.as_ref());
    }
    read_properties(&mut message, &properties, &read);
    if let Some(key) = &read.key {
        message.key(key);
    }
    let carried = || subject_of(exchange, routing_key, reading);
    if let Some(words) = read.subject.as_deref().or_else(carried) {
        message.subject(Subject::from_foreign(words));
    }
    if is_foreign {
        message.native(Arc::new(properties));
    }
    let message = message.finish(payload);
    let counted = match (redelivered, reading.counts) {
        (false, _) => 0,
        (true, true) => read.deliveries.unwrap_or(1),
        (true, false) => 1,
    };
    Incoming {
        message,
        attempt: read.facts.attempts.saturating_add(counted).saturating_add(1),
        redriven: read.facts.redriven,
        due: read.facts.due,
        expires: read.facts.expires,
    }
}

/// Whether a message written anew from what was read would have other properties than these.
fn has_other_properties(properties: &BasicProperties, id: &MessageId, read: &Reserved, millis: u64) -> bool {
    let is_same_id = properties.message_id().as_ref().is_some_and(|text| match id.as_uuid() {
        Some(uuid) => *uuid.hyphenated().encode_lower(&mut [0; 36]) == *text.as_str(),
        None => true,
    });
    let is_same_time = properties.timestamp().is_some() && (read.timestamp.is_some() || time_of_id(id) == Some(millis));
    !is_same_id
        || !is_same_time
        || properties.content_encoding().is_some()
        || properties.app_id().is_some()
        || properties.cluster_id().is_some()
        || properties.priority().is_some_and(|priority| priority > PRIORITY_MAX)
}

fn read_properties(message: &mut ReceivedMessage, properties: &BasicProperties, read: &Reserved) {
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
    if let Some(millis) = read.ttl.or(expiration) {
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

/// The headers that are not the application's.
#[derive(Debug, Default)]
struct Reserved {
    facts: Facts,
    deliveries: Option<u32>,
    timestamp: Option<u64>,
    ttl: Option<u64>,
    key: Option<String>,
    subject: Option<String>,
    /// Whether a header is of another type than text, or its name is not one of this library's.
    foreign: bool,
}

impl Reserved {
    fn note<'a>(&mut self, name: &'a str, value: &'a AMQPValue, headers: &mut Vec<(HeaderName, Cow<'a, str>)>) {
        if name == "x-delivery-count" {
            self.deliveries = number(value).and_then(|count| u32::try_from(count).ok());
        }
        if is_brokers_own(name) {
            return;
        }
        let text = match value {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()),
            other => Cow::Owned(shown(other)),
        };
        let is_text = matches!(text, Cow::Borrowed(_));
        match name {
            wire::TIMESTAMP => self.timestamp = number(value),
            wire::TTL => self.ttl = number(value),
            wire::KEY => {
                self.foreign |= !is_text;
                self.key = Some(text.into_owned());
            }
            wire::SUBJECT => {
                self.foreign |= !is_text;
                self.subject = Some(text.into_owned());
            }
            reserved if reserved.starts_with(wire::PREFIX) => {
                self.foreign |= !self.facts.note(reserved, &text);
            }
            other => {
                let name = HeaderName::from_foreign(other);
                self.foreign |= !is_text || name.as_str() != other;
                headers.push((name, text));
            }
        }
    }
}
