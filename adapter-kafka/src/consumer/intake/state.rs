//! What waits, behind the intake's lock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use messaging_core::{Event, Flow};

use super::ready::Ready;
use super::{End, Item, Waiting};

pub(super) struct State {
    pub(super) ready: Ready,
    /// Where keys are ordered: what waits behind each key that is out. An entry without any is a key that is out alone.
    pub(super) lanes: HashMap<Box<str>, VecDeque<Item>>,
    /// What is not due yet, by its time.
    pub(super) delayed: BTreeMap<(u64, u64), Item>,
    pub(super) sequence: u64,
    /// How many wait in `lanes`.
    pub(super) behind: usize,
    pub(super) bytes: usize,
    pub(super) flow: Flow,
    pub(super) end: Option<End>,
    pub(super) waker: Option<Waker>,
    pub(super) events: VecDeque<Event>,
    pub(super) event_waker: Option<Waker>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            ready: Ready::default(),
            lanes: HashMap::new(),
            delayed: BTreeMap::new(),
            sequence: 0,
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
            delayed: self.delayed.len(),
        }
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
        let is_next = is_ordered && item.partition().ring.lock().holds_key(item.offset);
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
            item.partition().ring.lock().hold_key(item.offset, key);
        }
        Some(item)
    }

    /// Lets the next message of a key go.
    pub(super) fn next_of(&mut self, key: &str) {
        match self.lanes.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(item)) => {
                self.behind -= 1;
                item.partition().ring.lock().hold_key(item.offset, key.into());
                self.ready.push(item);
            }
            Some(None) => drop(self.lanes.remove(key)),
            None => {}
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
