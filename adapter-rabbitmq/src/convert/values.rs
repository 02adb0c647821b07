//! Values of headers.

use lapin::types::{AMQPValue, FieldTable, LongString};
use messaging_core::wire;

pub(super) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Headers that the broker itself adds, less their `x-`.
pub(super) fn is_brokers_own(rest: &str) -> bool {
    rest == "death"
        || rest == "acquired-count"
        || rest.starts_with("first-death-")
        || rest.starts_with("last-death-")
        || rest == "opt-rabbitmq-delivery-time"
}

pub(super) fn without_brokers_own(headers: &FieldTable) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in headers.inner() {
        let own = name.as_str().strip_prefix("x-").is_some_and(|rest| rest == "delivery-count" || is_brokers_own(rest));
        if !own && !name.as_str().starts_with(wire::PREFIX) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

pub(super) fn number(value: &AMQPValue) -> Option<u64> {
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

pub(super) fn shown(value: &AMQPValue) -> String {
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
