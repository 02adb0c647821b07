//! What is ready to be delivered, by priority, and what waits for its time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::entry::{Entry, NEVER};

/// Priorities 0 to 9.
pub(crate) const LEVELS: usize = 10;

/// The priority of a message that has none.
const DEFAULT_LEVEL: u8 = 4;

/// Ready messages: one queue a priority, the highest first.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    levels: [VecDeque<Entry>; LEVELS],
    /// A bit for each level that has some.
    occupied: u16,
    len: usize,
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many there are of the highest priority.
    #[inline]
    pub(crate) fn first_len(&self) -> usize {
        if self.occupied == 0 { 0 } else { self.levels[self.occupied.ilog2() as usize].len() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn push_back(&mut self, entry: Entry) {
        let level = level(&entry);
        self.levels[level].push_back(entry);
        self.grew(level);
    }

    /// Puts an entry back where it stood: before all that were published after it.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        let level = level(&entry);
        let queue = &mut self.levels[level];
        // What was published later stands right behind: the scan ends at once unless several are put back.
        let at = queue.iter().position(|other| other.seq > entry.seq).unwrap_or(queue.len());
        queue.insert(at, entry);
        self.grew(level);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.occupied == 0 {
            return None;
        }
        let level = self.occupied.ilog2() as usize;
        let entry = self.levels[level].pop_front();
        self.len -= 1;
        if self.levels[level].is_empty() {
            self.occupied &= !(1 << level);
        }
        entry
    }

    /// In the order in which they would be delivered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.levels.iter().rev().flatten()
    }

    pub(crate) fn clear(&mut self) -> Vec<Entry> {
        let taken = self.levels.iter_mut().rev().flat_map(|level| level.drain(..)).collect();
        self.occupied = 0;
        self.len = 0;
        taken
    }

    #[inline]
    fn grew(&mut self, level: usize) {
        self.occupied |= 1 << level;
        self.len += 1;
    }
}

#[inline]
fn level(entry: &Entry) -> usize {
    usize::from(entry.message.priority().unwrap_or(DEFAULT_LEVEL)).min(LEVELS - 1)
}

/// Messages that wait for their time, the soonest first; those of one time in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    heap: BinaryHeap<Reverse<Waiting>>,
    count: u64,
}

#[derive(Debug)]
struct Waiting {
    due: u64,
    order: u64,
    entry: Entry,
}

impl Delayed {
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn push(&mut self, due: u64, entry: Entry) {
        self.count += 1;
        self.heap.push(Reverse(Waiting { due, order: self.count, entry }));
    }

    pub(crate) fn next_due(&self) -> u64 {
        self.heap.peek().map_or(NEVER, |Reverse(waiting)| waiting.due)
    }

    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Entry> {
        if self.next_due() > now {
            return None;
        }
        self.heap.pop().map(|Reverse(waiting)| waiting.entry)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.heap.iter().map(|Reverse(waiting)| &waiting.entry)
    }

    pub(crate) fn clear(&mut self) -> Vec<Entry> {
        self.heap.drain().map(|Reverse(waiting)| waiting.entry).collect()
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}
