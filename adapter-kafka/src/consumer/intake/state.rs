//! What waits, behind the intake's lock.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use messaging_core::{Event, Flow, RetryMode};

use super::later::Later;
use super::ready::Ready;
use super::waiting::is_ahead;
use super::{End, Item, Waiting};
use crate::consumer::partition::Partition;

pub(super) struct State {
    pub(super) ready: Ready,
    /// Where keys are ordered: what waits behind each key that is out. An entry without any is a key that is out alone.
    pub(super) lanes: HashMap<Box<str>, VecDeque<Item>>,
    /// What was read before it is due.
    pub(super) delayed: Later,
    /// Retries that wait here.
    pub(super) held: Later,
    retry_mode: RetryMode,
    /// How many wait in `lanes`.
    pub(super) behind: usize,
    /// How much waits in `ready` and `lanes`.
    pub(super) bytes: usize,
    pub(super) flow: Flow,
    pub(super) end: Option<End>,
    pub(super) waker: Option<Waker>,
    pub(super) events: VecDeque<Event>,
    pub(super) event_waker: Option<Waker>,
}

impl State {
    pub(super) fn new(retry_mode: RetryMode) -> Self {
        Self {
            ready: Ready::default(),
            lanes: HashMap::new(),
            delayed: Later::default(),
            held: Later::default(),
            retry_mode,
            behind: 0,
            bytes: 0,
            flow: Flow::Running,
            end: None,
            waker: None,
            events: VecDeque::new(),
            event_waker: None,
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            messages: self.ready.len() + self.behind,
            first: self.ready.first(),
            bytes: self.bytes,
            held: self.held_places(),
            delayed: self.delayed.len(),
            delayed_bytes: self.delayed.bytes(),
        }
    }

    /// How much of the prefetch the retries that wait here use. Where keys are held, each uses its place. Where others are to go
    /// on, they do until as much waits as is read ahead: it must have a bound too.
    pub(super) fn held_places(&self) -> usize {
        let is_free = self.retry_mode == RetryMode::Requeue && !is_ahead(self.held.len(), self.held.bytes());
        if is_free { 0 } else { self.held.len() }
    }

    pub(super) fn admit(&mut self, item: Item, is_ordered: bool) {
        if let Some(item) = self.wait_for_key(item, is_ordered) {
            self.ready.push(item);
        }
    }

    pub(super) fn admit_first(&mut self, item: Item, is_ordered: bool) {
        if let Some(item) = self.wait_for_key(item, is_ordered) {
            self.ready.push_first(item);
        }
    }

    /// Puts an item behind others of its key, or gives it back if it may be handed out.
    fn wait_for_key(&mut self, item: Item, is_ordered: bool) -> Option<Item> {
        self.bytes += item.size();
        // One that was retried still holds its key up, and is the next of it.
        let is_next = is_ordered && item.partition().window.lock().holds_key(item.offset);
        if is_ordered
            && !is_next
            && let Some(key) = item.key()
        {
            if let Some(lane) = self.lanes.get_mut(&*key) {
                drop(key);
                lane.push_back(item);
                self.behind += 1;
                return None;
            }
            let key: Box<str> = key.into();
            self.lanes.insert(key.clone(), VecDeque::new());
            item.partition().window.lock().hold_key(item.offset, key);
        }
        Some(item)
    }

    /// Lets the next message of a key go.
    pub(super) fn next_of(&mut self, key: &str) {
        match self.lanes.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(item)) => {
                self.behind -= 1;
                item.partition().window.lock().hold_key(item.offset, key.into());
                self.ready.push(item);
            }
            Some(None) => drop(self.lanes.remove(key)),
            None => {}
        }
    }

    pub(super) fn take_out_of_lanes(&mut self, leaving: impl Fn(&Partition) -> bool) -> Vec<Item> {
        let mut gone = Vec::new();
        for lane in self.lanes.values_mut() {
            for item in std::mem::take(lane) {
                if leaving(item.partition()) {
                    self.bytes = self.bytes.saturating_sub(item.size());
                    gone.push(item);
                } else {
                    lane.push_back(item);
                }
            }
        }
        self.behind = self.lanes.values().map(VecDeque::len).sum();
        gone
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
