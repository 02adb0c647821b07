//! Recording a history while messages move.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use messaging_core::{Delivery, Error, ErrorOutcome, Message, Receipt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Event, Fate, Findings, History, Mark, What};

/// Collects a history from many tasks. Cheap to clone.
///
/// A message carries its mark as the text of its payload, so that any adapter brings it back and people can read it.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    begun: Instant,
    /// The same moment by the machine's clock, which other processes share.
    begun_at: SystemTime,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: History,
    next: Mark,
    groups: Vec<Group>,
    confirmed: HashSet<Mark>,
}

#[derive(Default)]
struct Group {
    /// How often a message was received, less how often it was given back.
    received: HashMap<Mark, i64>,
    /// How many confirmed ones have no receipt that stands: kept up, because it is asked for again and again.
    missing: usize,
}

impl Recorder {
    /// A history in which each of so many groups is to receive everything: 1 for a queue, one for each subscription of a
    /// topic.
    #[must_use]
    pub fn new(groups: u32) -> Self {
        let state = State {
            history: History { events: Vec::new(), groups },
            groups: (0..groups).map(|_| Group::default()).collect(),
            ..State::default()
        };
        Self(Arc::new(Inner { begun: Instant::now(), begun_at: SystemTime::now(), state: Mutex::new(state) }))
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
        self.push(&mut self.0.state.lock(), What::Outcome { mark, fate });
    }

    /// Notes a receipt; a message of another origin counts as unexpected.
    pub fn receipt(&self, delivery: &Delivery, group: u32, consumer: u32) -> Mark {
        let mark = mark_of(delivery.message()).unwrap_or(Mark::MAX);
        self.push(&mut self.0.state.lock(), What::Receipt { mark, group, consumer });
        mark
    }

    /// Notes that what was received is given back, or was taken back: it must come again.
    pub fn returned(&self, mark: Mark, group: u32) {
        self.push(&mut self.0.state.lock(), What::Returned { mark, group });
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
        state.groups.get(group as usize).map_or(state.confirmed.len(), |group| group.missing)
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

    /// Notes what happened in another process, which wrote down when by the machine's clock. Its marks must be none of
    /// those given here.
    pub fn note(&self, at: SystemTime, what: What) {
        let at = at.duration_since(self.0.begun_at).unwrap_or_default();
        self.0.state.lock().add(Event { at, what });
    }

    /// How long ago the history began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// Puts what other processes noted in its place by time, and checks the history so far.
    #[must_use]
    pub fn check(&self) -> Findings {
        let mut state = self.0.state.lock();
        state.history.events.sort_by_key(|event| event.at);
        state.history.check()
    }

    fn push(&self, state: &mut State, what: What) {
        state.add(Event { at: self.0.begun.elapsed(), what });
    }
}

impl State {
    fn add(&mut self, event: Event) {
        match event.what {
            What::Outcome { mark, fate: Fate::Confirmed } if self.confirmed.insert(mark) => {
                let unseen = |group: &Group| group.received.get(&mark).is_none_or(|times| *times <= 0);
                self.groups.iter_mut().filter(|group| unseen(group)).for_each(|group| group.missing += 1);
            }
            What::Receipt { mark, group, .. } => self.count(mark, group, 1),
            What::Returned { mark, group } => self.count(mark, group, -1),
            _ => {}
        }
        self.history.events.push(event);
    }

    fn count(&mut self, mark: Mark, group: u32, by: i64) {
        let Some(group) = self.groups.get_mut(group as usize) else { return };
        let times = group.received.entry(mark).or_default();
        let before = *times > 0;
        *times += by;
        if self.confirmed.contains(&mark) {
            match (before, *times > 0) {
                (false, true) => group.missing -= 1,
                (true, false) => group.missing += 1,
                _ => {}
            }
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
