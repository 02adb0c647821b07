//! How a delivery ends, and what a dead letter says.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::message::Message;
use crate::name::Source;

/// How a delivery ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done.
    Ack,
    /// Available again, no earlier than `after`; counts as an attempt.
    Retry {
        /// The least time until the next delivery.
        after: Duration,
    },
    /// Available again at once, not started; uncounted where the broker allows.
    Release,
    /// To the source's dead letter.
    DeadLetter(Box<DeadLetterReason>),
}

/// Why a message went to the dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterReason {
    /// A short word for programs: `attempts_exhausted`, `undecodable`, `rejected`, `delivery_limit`, `expired` or one of the
    /// application's own.
    pub code: Cow<'static, str>,
    /// The error and its causes, outermost first; may be empty.
    pub errors: Vec<String>,
}

impl DeadLetterReason {
    /// The handler failed as often as it may.
    pub const ATTEMPTS_EXHAUSTED: &'static str = "attempts_exhausted";
    /// The payload could not be read.
    pub const UNDECODABLE: &'static str = "undecodable";
    /// The handler asked for it.
    pub const REJECTED: &'static str = "rejected";
    /// The broker's own limit was reached, the net under crash loops.
    pub const DELIVERY_LIMIT: &'static str = "delivery_limit";
    /// The message outlived its time to live.
    pub const EXPIRED: &'static str = "expired";

    /// A reason without an error.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), errors: Vec::new() }
    }

    /// Adds an error and its causes.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }
}

impl From<&'static str> for DeadLetterReason {
    fn from(code: &'static str) -> Self {
        Self::new(code)
    }
}

impl From<String> for DeadLetterReason {
    fn from(code: String) -> Self {
        Self::new(code)
    }
}

impl From<&Error> for DeadLetterReason {
    fn from(error: &Error) -> Self {
        Self::new(Self::REJECTED).with_errors(error.chain())
    }
}

/// A message in a dead letter: the original, byte for byte, and how it got there.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The original message with its id, headers and payload.
    pub message: Message,
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
