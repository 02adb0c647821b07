//! What a dead letter says.

use std::time::SystemTime;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use messaging_core::wire::{self, DeadLetterMark, Facts};
use messaging_core::{DeadLetterReason, Source};

use super::values::shown;

/// Reads a message from a dead letter of `source`, with what the broker says if it put the message there itself.
pub(crate) fn read_mark(properties: &BasicProperties, source: &Source, attempt: u32) -> DeadLetterMark {
    let headers = properties.headers().as_ref();
    let mut facts = Facts::default();
    for (name, value) in headers.into_iter().flat_map(|table| table.inner()) {
        if name.as_str().starts_with(wire::PREFIX) {
            facts.note(name.as_str(), &shown(value));
        }
    }
    let (reason, at) = headers.and_then(read_death).unwrap_or_else(|| ("rejected".to_owned(), SystemTime::now()));
    let reason = match reason.as_str() {
        "delivery_limit" => DeadLetterReason::new(DeadLetterReason::DELIVERY_LIMIT),
        "expired" => DeadLetterReason::new(DeadLetterReason::EXPIRED),
        _ => DeadLetterReason::new(reason),
    };
    let otherwise = DeadLetterMark { origin: source.clone(), reason, attempts: attempt, redriven: 0, at };
    facts.mark(otherwise)
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
