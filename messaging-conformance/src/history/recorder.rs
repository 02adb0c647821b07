//! Recording a history while messages move.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use messaging_core::{Delivery, Error, ErrorOutcome, Message, Receipt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Event, Fate, History, Mark, What};

/// Collects a history from many tasks. Cheap to clone.
///
/// A message carries its mark as the text of its payload, so that any adapter brings it back and people can read it.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: History,
    next: Mark,
    /// By group: how often a message was received, less how often it was given back.
    received: Vec<HashMap<Mark, i64>>,
    confirmed: BTreeSet<Mark>,
}

impl Recorder {
    /// A history in which each of so many groups is to receive everything: 1 for a queue, one for each subscription of a
    /// topic.
    #[must_use]
    pub fn new(groups: u32) -> Self {
        let state = State {
            history: History { events: Vec::new(), groups },
            received: vec![HashMap::new(); groups as usize],
            ..State::default()
        };
        Self(Arc::new(Inner { begun: Instant::now(), state: Mutex::new(state) }))
    }

    /// Notes the intent to send, and makes the message of it.
    #[must_use]
    pub fn intend(&self, key: Option<&str>) -> (Mark, Message) {
        let mut state = self.0.state.lock();
        let mark = state.next;
        state.next += 1;
        self.push(&mut state, What::Intent { mark, key: key.map(Arc::from) });
        drop(state);
        let plain = Message::builder(mark.to_string());
        let built = key.map_or_else(|| Message::builder(mark.to_string()), |key| plain.key(key)).build();
        // A key over 255 bytes is the caller's mistake; the message then goes without it.
        (mark, built.unwrap_or_else(|_| Message::new(mark.to_string())))
    }

    /// Notes what became of a send.
    pub fn outcome(&self, mark: Mark, result: &Result<Receipt, Error>) {
        let fate = match result {
            Ok(_) => Fate::Confirmed,
            Err(error) if error.outcome() == ErrorOutcome::NotSent => Fate::NotSent,
            Err(_) => Fate::Unknown,
        };
        self.fate(mark, fate);
    }

    /// Notes what became of a send.
    pub fn fate(&self, mark: Mark, fate: Fate) {
        let mut state = self.0.state.lock();
        if fate == Fate::Confirmed {
            state.confirmed.insert(mark);
        }
        self.push(&mut state, What::Outcome { mark, fate });
    }

    /// Notes a receipt; a message of another origin counts as unexpected.
    pub fn receipt(&self, delivery: &Delivery, group: u32, consumer: u32) -> Mark {
        let mark = mark_of(delivery.message()).unwrap_or(Mark::MAX);
        let mut state = self.0.state.lock();
        state.count(mark, group, 1);
        self.push(&mut state, What::Receipt { mark, group, consumer });
        mark
    }

    /// Notes that what was received is given back, or was taken back: it must come again.
    pub fn returned(&self, mark: Mark, group: u32) {
        let mut state = self.0.state.lock();
        state.count(mark, group, -1);
        self.push(&mut state, What::Returned { mark, group });
    }

    /// Notes that a settlement failed: the message must come again if the error says that the broker did not hear of it, and
    /// may if that is unknown.
    pub fn unsettled(&self, mark: Mark, group: u32, error: &Error) {
        match error.outcome() {
            ErrorOutcome::NotSent => self.returned(mark, group),
            ErrorOutcome::Unknown => self.push(&mut self.0.state.lock(), What::Unsure { mark, group }),
        }
    }

    /// Notes that a fault begins.
    pub fn fault_began(&self) {
        self.push(&mut self.0.state.lock(), What::FaultBegan);
    }

    /// Notes that a fault has ended.
    pub fn fault_ended(&self) {
        self.push(&mut self.0.state.lock(), What::FaultEnded);
    }

    /// How many confirmed messages a group has not received yet: the target to drain to.
    #[must_use]
    pub fn missing(&self, group: u32) -> usize {
        let state = self.0.state.lock();
        let Some(received) = state.received.get(group as usize) else { return state.confirmed.len() };
        state.confirmed.iter().filter(|mark| received.get(mark).is_none_or(|times| *times <= 0)).count()
    }

    /// How many messages were confirmed so far.
    #[must_use]
    pub fn confirmed(&self) -> usize {
        self.0.state.lock().confirmed.len()
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.0.state.lock().history.clone()
    }

    fn push(&self, state: &mut State, what: What) {
        let at = self.0.begun.elapsed();
        state.history.events.push(Event { at, what });
    }
}

impl State {
    fn count(&mut self, mark: Mark, group: u32, by: i64) {
        if let Some(received) = self.received.get_mut(group as usize) {
            *received.entry(mark).or_default() += by;
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("events", &self.0.state.lock().history.events.len()).finish_non_exhaustive()
    }
}

/// The mark that a message carries.
#[must_use]
pub fn mark_of(message: &Message) -> Option<Mark> {
    std::str::from_utf8(message.payload()).ok()?.parse().ok()
}
