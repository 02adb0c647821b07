//! Key order: of each key one message is out at a time, the others wait in its lane.
//!
//! A lane exists only while one of its key is out, so that keys that come and go cost nothing. Messages are sorted into
//! lanes when they would be delivered, not when they are published: order can be asked for at any time.

use std::collections::{HashMap, VecDeque};

use smol_str::SmolStr;

use super::entry::{Entry, Turn};

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    taken: HashMap<SmolStr, Lane>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Lane {
    /// How many hold it: one, but for those that were out already when order was asked for.
    owners: usize,
    waiting: VecDeque<Entry>,
}

impl Lanes {
    /// How many messages wait in lanes.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Takes the lane of the entry's key and gives the entry back, or keeps it waiting if the lane is taken.
    pub(crate) fn admit(&mut self, mut entry: Entry) -> Option<Entry> {
        let Some(key) = entry.message.key() else { return Some(entry) };
        if entry.turn == Turn::OWN {
            return Some(entry);
        }
        match self.taken.get_mut(key) {
            Some(lane) => {
                lane.waiting.push_back(entry);
                self.waiting += 1;
                None
            }
            None => {
                self.taken.insert(SmolStr::new(key), Lane { owners: 1, waiting: VecDeque::new() });
                entry.turn = Turn::OWN;
                Some(entry)
            }
        }
    }

    /// Marks the lane of an entry that is out already, as when order is asked for while messages are out.
    pub(crate) fn occupy(&mut self, entry: &mut Entry) {
        if let Some(key) = entry.message.key() {
            self.taken.entry(SmolStr::new(key)).or_default().owners += 1;
            entry.turn = Turn::OWN;
        }
    }

    /// Frees the lane of a settled entry; the next of its key takes it over.
    pub(crate) fn free(&mut self, settled: &Entry) -> Option<Entry> {
        if settled.turn == Turn::NONE {
            return None;
        }
        let key = settled.message.key()?;
        let lane = self.taken.get_mut(key)?;
        lane.owners -= 1;
        if lane.owners > 0 {
            return None;
        }
        match lane.waiting.pop_front() {
            Some(mut next) => {
                lane.owners = 1;
                self.waiting -= 1;
                next.turn = Turn::OWN;
                Some(next)
            }
            None => {
                self.taken.remove(key);
                None
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.taken.values().flat_map(|lane| &lane.waiting)
    }

    /// Ends all lanes and gives back what waits, in the order in which it was published.
    pub(crate) fn clear(&mut self) -> Vec<Entry> {
        self.waiting = 0;
        let mut entries: Vec<Entry> = self.taken.drain().flat_map(|(_, lane)| lane.waiting).collect();
        entries.sort_by_key(|entry| entry.seq);
        entries
    }

    /// Takes out what waits and keeps the lanes of those that are out.
    pub(crate) fn clear_waiting(&mut self) -> Vec<Entry> {
        self.waiting = 0;
        self.taken.values_mut().flat_map(|lane| lane.waiting.drain(..)).collect()
    }
}
