//! Values of headers: as text for the application, and their size on the wire.

use lapin::types::{AMQPValue, DecimalValue, FieldTable, LongString};
use messaging_core::wire::{self, Facts};
use serde_json::{Map, Number, Value};

pub(super) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Whether the broker itself adds this header to what it delivers.
pub(super) fn is_brokers_own(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else { return false };
    matches!(rest, "delivery-count" | "acquired-count" | "death" | "opt-rabbitmq-delivery-time")
        || rest.starts_with("first-death-")
        || rest.starts_with("last-death-")
}

/// Headers of a copy: as they came, without those that the broker adds, those that would make it route the copy to further
/// queues ("Sender-selected Distribution"), and the facts that each copy states anew.
pub(super) fn headers_of_copy(headers: &FieldTable) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in headers.inner() {
        let text = name.as_str();
        let is_restated = text == wire::TTL || Facts::default().note(text, "");
        if !is_restated && !is_brokers_own(text) && text != "CC" && text != "BCC" {
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
        AMQPValue::ShortShortInt(number) => u64::try_from(*number).ok(),
        AMQPValue::ShortShortUInt(number) => Some(u64::from(*number)),
        _ => None,
    }
}

/// A value as the application sees it: text as it is, numbers in decimal, lists and tables as JSON.
pub(super) fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        AMQPValue::DecimalValue(number) => decimal(number),
        AMQPValue::Float(number) => number.to_string(),
        AMQPValue::Double(number) => number.to_string(),
        AMQPValue::Void => String::new(),
        other => json(other).to_string(),
    }
}

fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(number) => Value::from(*number),
        AMQPValue::ShortShortUInt(number) => Value::from(*number),
        AMQPValue::ShortInt(number) => Value::from(*number),
        AMQPValue::ShortUInt(number) => Value::from(*number),
        AMQPValue::LongInt(number) => Value::from(*number),
        AMQPValue::LongUInt(number) => Value::from(*number),
        AMQPValue::LongLongInt(number) => Value::from(*number),
        AMQPValue::Timestamp(seconds) => Value::from(*seconds),
        AMQPValue::Float(number) => fraction(f64::from(*number)),
        AMQPValue::Double(number) => fraction(*number),
        AMQPValue::DecimalValue(number) => {
            let text = decimal(number);
            text.parse().ok().and_then(Number::from_f64).map_or(Value::String(text), Value::Number)
        }
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) | AMQPValue::ByteArray(_) => Value::String(shown(value)),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(values) => {
            let entries = values.inner().iter().map(|(name, value)| (name.to_string(), json(value)));
            Value::Object(entries.collect::<Map<String, Value>>())
        }
        AMQPValue::Void => Value::Null,
    }
}

/// JSON knows neither infinity nor NaN: they stay text.
fn fraction(number: f64) -> Value {
    Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

/// Clients write the digits as a signed number (pika, the Java client), whatever the specification says.
fn decimal(number: &DecimalValue) -> String {
    let digits = i64::from(number.value.cast_signed());
    let (sign, digits, scale) =
        (if digits < 0 { "-" } else { "" }, digits.unsigned_abs().to_string(), usize::from(number.scale));
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// Bytes that a table takes on the wire, its length included.
pub(super) fn size_of_table(table: &FieldTable) -> usize {
    4 + table.inner().iter().map(|(name, value)| 1 + name.as_str().len() + size_of(value)).sum::<usize>()
}

/// Bytes that a value takes on the wire, its type included.
fn size_of(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(size_of).sum::<usize>(),
        AMQPValue::FieldTable(table) => size_of_table(table),
    }
}
