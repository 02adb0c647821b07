//! The names under which adapters carry what a broker has no place for, and how a dead letter is written down.
//!
//! One spelling for all adapters, so that a program in another language that reads one broker's messages reads the next
//! broker's too. Native properties come first: a name from here is used only where the broker has none. `docs/wire-format.md`
//! fixes which that is for each broker.

use std::time::{Duration, SystemTime};

use crate::{DeadLetter, DeadLetterReason, Message, QueueName, Result, Source, SubscriptionName, TopicName};

/// What all names from here begin with. Applications cannot set headers that begin so.
pub const PREFIX: &str = "messaging-";
/// How many attempts a copy has behind it: decimal.
pub const ATTEMPTS: &str = "messaging-attempts";
/// How often the message was redriven: decimal.
pub const REDRIVEN: &str = "messaging-redriven";
/// When a delayed message is due: milliseconds since 1970, decimal.
pub const DUE: &str = "messaging-due";
/// When the message expires: milliseconds since 1970, decimal.
pub const EXPIRES: &str = "messaging-expires";
/// The message's id.
pub const ID: &str = "messaging-id";
/// The application's name for what the payload is.
pub const TYPE: &str = "messaging-type";
/// The ordering key.
pub const KEY: &str = "messaging-key";
/// The routing words.
pub const SUBJECT: &str = "messaging-subject";
/// What the message answers or belongs to.
pub const CORRELATION_ID: &str = "messaging-correlation-id";
/// Where a reply is awaited.
pub const REPLY_TO: &str = "messaging-reply-to";
/// The media type of the payload.
pub const CONTENT_TYPE: &str = "messaging-content-type";
/// When the message was made: milliseconds since 1970, decimal.
pub const TIMESTAMP: &str = "messaging-timestamp";
/// The time to live that was asked for: milliseconds, decimal.
pub const TTL: &str = "messaging-ttl";
/// The priority, 0 to 9.
pub const PRIORITY: &str = "messaging-priority";
/// Where a dead letter failed: `queue:orders` or `subscription:weather/dashboard`.
pub const DEAD_ORIGIN: &str = "messaging-dead-origin";
/// Why it failed: the reason's code.
pub const DEAD_REASON: &str = "messaging-dead-reason";
/// The error and its causes: a JSON array of text, outermost first.
pub const DEAD_ERRORS: &str = "messaging-dead-errors";
/// When it was moved to the dead letter: milliseconds since 1970, decimal.
pub const DEAD_AT: &str = "messaging-dead-at";

/// The most bytes that the errors of a dead letter take on the wire; what is longer is cut, and says so.
pub const DEAD_ERRORS_MAX: usize = 8 * 1024;

/// Milliseconds since 1970; 0 for times before.
#[must_use]
pub fn to_millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time so many milliseconds after 1970.
#[must_use]
pub fn from_millis(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What the wire says of a dead letter besides the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterMark {
    /// Where it failed.
    pub origin: Source,
    /// Why.
    pub reason: DeadLetterReason,
    /// How many attempts there were since it was published or last redriven.
    pub attempts: u32,
    /// How often it was redriven before.
    pub redriven: u32,
    /// When it was moved to the dead letter.
    pub at: SystemTime,
}

impl DeadLetterMark {
    /// Names and values, to be carried beside the message's own.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let mut entries = vec![
            (DEAD_ORIGIN, write_source(&self.origin)),
            (DEAD_REASON, self.reason.code.to_string()),
            (ATTEMPTS, self.attempts.to_string()),
            (DEAD_AT, to_millis(self.at).to_string()),
        ];
        if self.redriven > 0 {
            entries.push((REDRIVEN, self.redriven.to_string()));
        }
        if !self.reason.errors.is_empty() {
            entries.push((DEAD_ERRORS, write_errors(&self.reason.errors)));
        }
        entries
    }

    /// Reads what [`entries`](Self::entries) wrote. What is missing or unreadable is taken from `otherwise`, which describes a
    /// message that the broker itself put there.
    #[must_use]
    pub fn read<'a>(value_of: impl Fn(&str) -> Option<&'a str>, otherwise: Self) -> Self {
        let number = |name| value_of(name).and_then(|text| text.parse::<u64>().ok());
        let small = |name| number(name).map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let errors = value_of(DEAD_ERRORS).and_then(|text| serde_json::from_str(text).ok());
        let reason = match value_of(DEAD_REASON) {
            Some(code) => DeadLetterReason::new(code.to_owned()).with_errors(errors.unwrap_or_default()),
            None => otherwise.reason,
        };
        Self {
            origin: value_of(DEAD_ORIGIN).and_then(|text| read_source(text).ok()).unwrap_or(otherwise.origin),
            reason,
            attempts: small(ATTEMPTS).unwrap_or(otherwise.attempts),
            redriven: small(REDRIVEN).unwrap_or(otherwise.redriven),
            at: number(DEAD_AT).map_or(otherwise.at, from_millis),
        }
    }

    /// Puts the mark and its message together.
    #[must_use]
    pub fn with_message(self, message: Message) -> DeadLetter {
        let Self { origin, reason, attempts, redriven, at } = self;
        DeadLetter { message, origin, reason, attempts, redriven, at }
    }
}

/// A source in one word, as [`DEAD_ORIGIN`] carries it.
#[must_use]
pub fn write_source(source: &Source) -> String {
    match source {
        Source::Queue(queue) => format!("queue:{queue}"),
        Source::Subscription(topic, name) => format!("subscription:{topic}/{name}"),
    }
}

/// Reads what [`write_source`] wrote.
///
/// # Errors
/// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) if it is not of that form.
pub fn read_source(text: &str) -> Result<Source> {
    match text.split_once(':') {
        Some(("subscription", names)) => {
            let (topic, name) = names.split_once('/').unwrap_or((names, ""));
            Ok(Source::Subscription(TopicName::parse(topic)?, SubscriptionName::parse(name)?))
        }
        Some(("queue", queue)) => Ok(Source::Queue(QueueName::parse(queue)?)),
        _ => Ok(Source::Queue(QueueName::parse(text)?)),
    }
}

fn write_errors(errors: &[String]) -> String {
    let mut left = DEAD_ERRORS_MAX / 2;
    let mut kept = Vec::with_capacity(errors.len().min(32));
    for error in errors {
        if left == 0 || kept.len() == 31 {
            kept.push("… (cut)".to_owned());
            break;
        }
        let end = error.floor_char_boundary(left);
        left -= end;
        kept.push(if end < error.len() { format!("{}… (cut)", &error[..end]) } else { error.clone() });
    }
    // Escapes can double the text, which is why half of the bound was given out.
    let written = serde_json::to_string(&kept).unwrap_or_default();
    if written.len() <= DEAD_ERRORS_MAX { written } else { r#"["… (cut)"]"#.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> DeadLetterMark {
        DeadLetterMark {
            origin: read_source("subscription:weather/dashboard").unwrap(),
            reason: DeadLetterReason::new("rejected").with_errors(vec!["outer".to_owned(), "inner \"x\"".to_owned()]),
            attempts: 3,
            redriven: 1,
            at: from_millis(1_700_000_000_123),
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let entries = mark().entries();
        let other = DeadLetterMark { attempts: 9, redriven: 9, at: from_millis(0), ..mark() };
        let read = DeadLetterMark::read(
            |name| entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()),
            other,
        );
        assert_eq!(read, mark());
    }

    #[test]
    fn what_the_broker_moved_itself_is_described_by_the_reader() {
        assert_eq!(DeadLetterMark::read(|_| None, mark()), mark());
    }

    #[test]
    fn long_errors_are_cut_and_say_so() {
        let written = write_errors(&["\u{1}".repeat(10_000), "more".to_owned()]);
        assert!(written.len() <= DEAD_ERRORS_MAX && written.contains("cut"), "{}", written.len());
        assert!(write_errors(&["é".repeat(9_000)]).contains("é… (cut)"));
    }
}
