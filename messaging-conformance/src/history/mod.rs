//! The total-queue checker: what was meant to be sent, what became of each send, what was received, and what follows.
//!
//! A [`Recorder`] collects a [`History`] while messages move; [`History::check`] finds what was lost, duplicated, unexpected
//! or reordered, and what came through although nobody knew. Each [`Offence`] prints the smallest part of the history that
//! shows it.
//!
//! * **lost**: confirmed, and never received; or given back as often as it was received.
//! * **duplicated**: received again, though the receipt before was not given back.
//! * **unexpected**: received, though never intended or said not to be sent.
//! * **reordered**: two messages of one key, first received the other way round than intended.
//! * **recovered**: received, though the outcome of its send was unknown; allowed either way, and counted.

mod check;
mod recorder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::check::{Findings, Offence, OffenceKind};
pub use self::recorder::{Recorder, mark_of};

/// The number of a message in a history.
pub type Mark = u64;

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker took responsibility.
    Confirmed,
    /// The broker has not got it.
    NotSent,
    /// It may or may not have arrived.
    Unknown,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message is about to be sent; messages of one key are to be received in this order.
    Intent {
        /// The message.
        mark: Mark,
        /// Its ordering key.
        key: Option<Arc<str>>,
    },
    /// Its send came to this.
    Outcome {
        /// The message.
        mark: Mark,
        /// What became of it.
        fate: Fate,
    },
    /// It was received by a member of a group; each group is to receive everything.
    Receipt {
        /// The message.
        mark: Mark,
        /// The group: a queue has one, a topic one for each subscription.
        group: u32,
        /// Which consumer.
        consumer: u32,
    },
    /// What a group received of it was given back: another receipt must follow.
    Returned {
        /// The message.
        mark: Mark,
        /// The group.
        group: u32,
    },
    /// Whether the broker knows how a receipt was settled is unknown: another may follow.
    Unsure {
        /// The message.
        mark: Mark,
        /// The group.
        group: u32,
    },
    /// A fault began.
    FaultBegan,
    /// A fault ended.
    FaultEnded,
}

impl What {
    /// The message this is about, if any.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        match self {
            Self::Intent { mark, .. }
            | Self::Outcome { mark, .. }
            | Self::Receipt { mark, .. }
            | Self::Returned { mark, .. }
            | Self::Unsure { mark, .. } => Some(*mark),
            Self::FaultBegan | Self::FaultEnded => None,
        }
    }
}

/// Something that happened, and when since the history began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Duration,
    /// What.
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.3?}  ", self.at)?;
        match &self.what {
            What::Intent { mark, key: None } => write!(f, "intent   {mark}"),
            What::Intent { mark, key: Some(key) } => write!(f, "intent   {mark} key {key}"),
            What::Outcome { mark, fate } => write!(f, "outcome  {mark} {fate:?}"),
            What::Receipt { mark, group, consumer } => write!(f, "receipt  {mark} group {group} consumer {consumer}"),
            What::Returned { mark, group } => write!(f, "returned {mark} group {group}"),
            What::Unsure { mark, group } => write!(f, "unsure   {mark} group {group}"),
            What::FaultBegan => f.write_str("fault began"),
            What::FaultEnded => f.write_str("fault ended"),
        }
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The events; the order is what counts, the times are for people.
    pub events: Vec<Event>,
    /// How many groups are to receive everything; at least one.
    pub groups: u32,
}

impl History {
    /// Checks the history.
    #[must_use]
    pub fn check(&self) -> Findings {
        check::check(self)
    }

    /// The part of the history that is about these messages.
    #[must_use]
    pub fn about(&self, marks: &[Mark]) -> Self {
        let concerns = |event: &&Event| event.what.mark().is_some_and(|mark| marks.contains(&mark));
        Self { events: self.events.iter().filter(concerns).cloned().collect(), groups: self.groups }
    }
}
