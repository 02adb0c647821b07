//! Message ids.

use std::cell::RefCell;
use std::fmt;
use std::time::SystemTime;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use smol_str::SmolStr;
use uuid::{Builder, Uuid};

/// A message's identity: a UUIDv7 made here, or any text someone else chose.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Form);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Form {
    Uuid(Uuid),
    Text(SmolStr),
}

thread_local! {
    // One generator a thread, seeded by the operating system: `Uuid::now_v7` takes a lock that all threads share.
    static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
}

impl MessageId {
    /// Makes a fresh UUIDv7 (RFC 9562): unique, and ordered by time to the millisecond.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_at(unix_millis())
    }

    pub(super) fn generate_at(millis: u64) -> Self {
        let (low, high) = RANDOM.with_borrow_mut(|random| (random.next_u64(), random.next_u64()));
        let mut bits = [0; 10];
        bits[..8].copy_from_slice(&low.to_le_bytes());
        bits[8..].copy_from_slice(&high.to_le_bytes()[..2]);
        Self(Form::Uuid(Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()))
    }

    /// Takes an id as it stands; a canonical UUID is kept in 16 bytes and printed the same.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        // Of this length only the form with hyphens parses; in lower case it is printed as it came.
        let may_be_canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match may_be_canonical.then(|| Uuid::try_parse(text)) {
            Some(Ok(uuid)) => Self(Form::Uuid(uuid)),
            _ => Self(Form::Text(SmolStr::new(text))),
        }
    }

    /// The UUID, if it is one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<&Uuid> {
        match &self.0 {
            Form::Uuid(uuid) => Some(uuid),
            Form::Text(_) => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Form::Uuid(_) => None,
            Form::Text(text) => Some(text),
        }
    }
}

/// Now, in milliseconds since 1970; 0 on a clock set before.
pub(super) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl From<Uuid> for MessageId {
    fn from(uuid: Uuid) -> Self {
        Self(Form::Uuid(uuid))
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        Self::from_text(text)
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        Self::from_text(&text)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Uuid(uuid) => fmt::Display::fmt(uuid, f),
            Form::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fresh_ids_are_version_7_and_unique_across_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..5_000).map(|_| MessageId::generate()).collect::<Vec<_>>()))
            .collect();
        let all: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 20_000);
        assert!(all.iter().all(|id| id.as_uuid().unwrap().get_version_num() == 7));
    }

    #[test]
    fn text_survives_byte_for_byte() {
        let canonical = "0190a0a0-0000-7000-8000-000000000000";
        assert!(MessageId::from_text(canonical).as_uuid().is_some());
        let others = [
            "0190A0A0-0000-7000-8000-000000000000",
            "0190a0a000007000-8000-0000-00000000",
            "0190a0a0000070008000000000000000",
            "{0190a0a0-0000-7000-8000-000000000000}",
            "urn:uuid:0190a0a0-0000-7000-8000-000000000000",
            "a text that has thirty-six bytes too",
            "order/1",
            "",
        ];
        for text in others {
            assert!(MessageId::from_text(text).as_uuid().is_none(), "{text}");
        }
        for text in others.into_iter().chain([canonical]) {
            assert_eq!(MessageId::from_text(text).to_string(), text);
        }
    }
}
