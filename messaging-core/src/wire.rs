//! Names under which adapters carry what a broker has no place for, and the facts that a copy carries.
//!
//! One spelling for all adapters, so that a program in another language that reads one broker's messages reads the next
//! broker's too. Native properties come first: a name from here is used only where the broker has none. `docs/wire-format.md`
//! fixes which that is for each broker.

use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::message::Message;
use crate::name::{QueueName, Source, SubscriptionName, TopicName};
use crate::settlement::{DeadLetter, DeadLetterReason};

/// Beginning of all names from here. Applications cannot set headers that begin so.
pub const PREFIX: &str = "messaging-";
/// Attempts that a copy has behind it: decimal.
pub const ATTEMPTS: &str = "messaging-attempts";
/// Number of times that the message was redriven: decimal.
pub const REDRIVEN: &str = "messaging-redriven";
/// Time at which a delayed message is due: milliseconds since 1970, decimal.
pub const DUE: &str = "messaging-due";
/// Time at which the message expires: milliseconds since 1970, decimal.
pub const EXPIRES: &str = "messaging-expires";
/// The message's id.
pub const ID: &str = "messaging-id";
/// The application's name for what the payload is.
pub const TYPE: &str = "messaging-type";
/// The ordering key.
pub const KEY: &str = "messaging-key";
/// The routing words.
pub const SUBJECT: &str = "messaging-subject";
/// The id of the request or conversation that the message belongs to.
pub const CORRELATION_ID: &str = "messaging-correlation-id";
/// The address at which a reply is awaited.
pub const REPLY_TO: &str = "messaging-reply-to";
/// The media type of the payload.
pub const CONTENT_TYPE: &str = "messaging-content-type";
/// Time at which the message was made: milliseconds since 1970, decimal.
pub const TIMESTAMP: &str = "messaging-timestamp";
/// The time to live that was asked for: milliseconds, decimal.
pub const TTL: &str = "messaging-ttl";
/// The priority, 0 to 9.
pub const PRIORITY: &str = "messaging-priority";
/// Source in which a dead letter failed: `queue:orders` or `subscription:weather/dashboard`.
pub const DEAD_ORIGIN: &str = "messaging-dead-origin";
/// The reason's code.
pub const DEAD_REASON: &str = "messaging-dead-reason";
/// The error and its causes: a JSON array of text, outermost first.
pub const DEAD_ERRORS: &str = "messaging-dead-errors";
/// Time at which it was moved to the dead letter: milliseconds since 1970, decimal.
pub const DEAD_AT: &str = "messaging-dead-at";

/// Most bytes that the errors of a dead letter take on the wire; longer text is cut, and marked so.
pub const DEAD_ERRORS_MAX: usize = 8 * 1024;

/// Milliseconds since 1970, cut off; 0 for times before.
#[must_use]
pub fn to_millis(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970, rounded up; 0 for times before. Due times are written so: compared with a clock that is cut
/// off to milliseconds, nothing is early.
#[must_use]
pub fn to_millis_up(at: SystemTime) -> u64 {
    let Ok(since) = at.duration_since(SystemTime::UNIX_EPOCH) else { return 0 };
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The time so many milliseconds after 1970.
#[must_use]
pub fn from_millis(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Facts that a copy carries besides the message: written beside the message's own names, and read back from them.
///
/// ```
/// use messaging_core::wire::{self, Facts};
///
/// let facts = Facts { attempts: 2, ..Facts::default() };
/// assert_eq!(facts.entries(), [(wire::ATTEMPTS, "2".to_owned())]);
///
/// let mut read = Facts::default();
/// assert!(read.note(wire::ATTEMPTS, "2"));
/// assert!(!read.note("tenant", "acme"));
/// assert_eq!(read, facts);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// How many attempts the message has behind it since it was published or last redriven.
    pub attempts: u32,
    /// How often it was redriven.
    pub redriven: u32,
    /// When it is due, if it may be handed over before.
    pub due: Option<SystemTime>,
    /// When it expires, where the broker's own expiry does not say so.
    pub expires: Option<SystemTime>,
    /// The parts of a dead letter's mark. Boxed: few messages are dead letters.
    pub dead: Option<Box<DeadLetterFacts>>,
}

/// The parts of a dead letter's mark as they are read, one name after the other; any may be missing or unreadable.
/// [`Facts::mark`] puts them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFacts {
    /// Where it failed.
    pub origin: Option<Source>,
    /// The reason's code.
    pub code: Option<String>,
    /// The error and its causes, outermost first.
    pub errors: Vec<String>,
    /// When it was moved to the dead letter.
    pub at: Option<SystemTime>,
}

impl Facts {
    /// True if these are a dead letter's: something says where it failed or why.
    #[must_use]
    pub fn is_dead_letter(&self) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.origin.is_some() || dead.code.is_some())
    }

    /// Names and values, to be carried beside the message's own. Times are rounded up to milliseconds, so that nothing is due
    /// or expires early; numbers that are 0 are left out.
    #[must_use]
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let Self { attempts, redriven, due, expires, dead } = self;
        let mut entries = Vec::new();
        if let Some(dead) = dead {
            entries.extend(dead.origin.as_ref().map(|origin| (DEAD_ORIGIN, write_source(origin))));
            entries.extend(dead.code.as_ref().map(|code| (DEAD_REASON, code.clone())));
        }
        let counts = [(ATTEMPTS, *attempts), (REDRIVEN, *redriven)];
        entries
            .extend(counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.to_string())));
        let times = [(DUE, *due), (EXPIRES, *expires), (DEAD_AT, dead.as_ref().and_then(|dead| dead.at))];
        entries.extend(times.into_iter().filter_map(|(name, at)| Some((name, to_millis_up(at?).to_string()))));
        if let Some(dead) = dead.as_ref().filter(|dead| !dead.errors.is_empty()) {
            entries.push((DEAD_ERRORS, write_errors(&dead.errors)));
        }
        entries
    }

    /// Notes what one name says. Returns whether the name is one of those that [`entries`](Self::entries) writes; a value
    /// that cannot be read says nothing.
    pub fn note(&mut self, name: &str, text: &str) -> bool {
        let number = || text.parse::<u64>().ok();
        let count = || number().map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX));
        match name {
            ATTEMPTS => self.attempts = count(),
            REDRIVEN => self.redriven = count(),
            DUE => self.due = number().map(from_millis),
            EXPIRES => self.expires = number().map(from_millis),
            DEAD_ORIGIN => self.dead().origin = read_source(text).ok(),
            DEAD_REASON => self.dead().code = Some(text.to_owned()),
            DEAD_ERRORS => self.dead().errors = serde_json::from_str(text).unwrap_or_default(),
            DEAD_AT => self.dead().at = number().map(from_millis),
            _ => return false,
        }
        true
    }

    fn dead(&mut self) -> &mut DeadLetterFacts {
        self.dead.get_or_insert_default()
    }

    /// The dead letter that these facts are of. What they do not say is taken from `otherwise`, which describes a message
    /// that the broker itself put there.
    #[must_use]
    pub fn mark(self, otherwise: DeadLetterMark) -> DeadLetterMark {
        let Self { attempts, redriven, due: _, expires: _, dead } = self;
        let DeadLetterFacts { origin, code, errors, at } = dead.map(|dead| *dead).unwrap_or_default();
        DeadLetterMark {
            origin: origin.unwrap_or(otherwise.origin),
            reason: code.map_or(otherwise.reason, |code| DeadLetterReason::new(code).with_errors(errors)),
            attempts: if attempts == 0 { otherwise.attempts } else { attempts },
            redriven: if redriven == 0 { otherwise.redriven } else { redriven },
            at: at.unwrap_or(otherwise.at),
        }
    }
}

/// Facts of a dead letter besides the message itself.
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
    /// Puts the mark and its message together.
    #[must_use]
    pub fn with_message(self, message: Message) -> DeadLetter {
        let Self { origin, reason, attempts, redriven, at } = self;
        DeadLetter { message, origin, reason, attempts, redriven, at }
    }
}

/// The facts of a dead letter; it is not due and does not expire.
impl From<DeadLetterMark> for Facts {
    fn from(mark: DeadLetterMark) -> Self {
        let DeadLetterMark { origin, reason: DeadLetterReason { code, errors }, attempts, redriven, at } = mark;
        let dead = DeadLetterFacts { origin: Some(origin), code: Some(code.into_owned()), errors, at: Some(at) };
        Self { attempts, redriven, due: None, expires: None, dead: Some(Box::new(dead)) }
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

    fn read(entries: &[(&'static str, String)]) -> Facts {
        let mut facts = Facts::default();
        for (name, text) in entries {
            assert!(facts.note(name, text), "{name}");
        }
        facts
    }

    #[test]
    fn facts_are_read_as_they_were_written() {
        let copy = Facts {
            attempts: 2,
            redriven: 1,
            due: Some(from_millis(1_700_000_000_123)),
            expires: Some(from_millis(1_700_000_999_000)),
            ..Facts::default()
        };
        assert_eq!(read(&copy.entries()), copy);
        assert!(!copy.is_dead_letter());
        let letter = Facts::from(mark());
        assert_eq!(read(&letter.entries()), letter);
        assert!(letter.is_dead_letter());
        let other = DeadLetterMark { attempts: 9, redriven: 9, at: from_millis(0), ..mark() };
        assert_eq!(letter.mark(other), mark());
        assert!(Facts::default().entries().is_empty());
    }

    #[test]
    fn a_time_between_two_milliseconds_is_written_as_the_later_one() {
        let between = from_millis(1_000) + Duration::from_nanos(1);
        let facts = Facts { due: Some(between), expires: Some(from_millis(2_000)), ..Facts::default() };
        assert_eq!(facts.entries(), [(DUE, "1001".to_owned()), (EXPIRES, "2000".to_owned())]);
        assert!(read(&facts.entries()).due.unwrap() >= between);
        assert_eq!(to_millis(between), 1_000);
        assert_eq!(to_millis_up(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), 0);
    }

    #[test]
    fn unreadable_values_say_nothing_and_other_names_are_not_taken() {
        let mut facts = Facts::default();
        for (name, text) in [(ATTEMPTS, "x"), (DUE, "-1"), (EXPIRES, ""), (DEAD_ORIGIN, "A B"), (DEAD_AT, "soon")] {
            assert!(facts.note(name, text), "{name}");
        }
        assert_eq!(facts, Facts { dead: facts.dead.clone(), ..Facts::default() });
        assert!(!facts.is_dead_letter());
        assert!(facts.note(ATTEMPTS, "99999999999999"));
        assert_eq!(facts.attempts, u32::MAX);
        assert!(!facts.note(KEY, "k") && !facts.note("tenant", "1"));
    }

    #[test]
    fn a_message_that_the_broker_itself_moved_is_described_by_the_reader() {
        assert_eq!(Facts::default().mark(mark()), mark());
    }

    #[test]
    fn long_errors_are_cut_and_say_so() {
        let written = write_errors(&["\u{1}".repeat(10_000), "more".to_owned()]);
        assert!(written.len() <= DEAD_ERRORS_MAX && written.contains("cut"), "{}", written.len());
        assert!(write_errors(&["é".repeat(9_000)]).contains("é… (cut)"));
    }
}
