//! Which offsets of one assignment are settled, behind a lock that settlers and the polling thread share.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// What became of an offset that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Not settled. It was handed out if a higher one was: most go in the order in which they were read, and need no mark.
    Open,
    /// Not settled, and here whatever went past it: not due yet, held back, or given back.
    Waiting,
    Settled,
}

/// Which offsets are settled. The lowest that is not is what is committed.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The lowest offset that is not settled.
    pub(super) base: i64,
    /// From `base` on.
    slots: VecDeque<Slot>,
    /// How often offsets that are not settled were tried, where it was more than once.
    pub(super) tried: BTreeMap<i64, u32>,
    /// Which key an offset holds up, where keys are ordered.
    keys: HashMap<i64, Box<str>>,
    /// How many deliveries were settled or given back. Counted under the lock under which they are marked, so that a
    /// partition that is taken away frees the places of the others, and of no other.
    back: u64,
    /// It was taken away: whatever is asked of it is stale.
    pub(super) is_dead: bool,
    /// It is being taken away: nothing new is handed out.
    pub(super) is_leaving: bool,
    /// There is more to commit than was.
    pub(super) changed: bool,
}

impl Ring {
    pub(super) fn new(start: i64) -> Self {
        Self { base: start, ..Self::default() }
    }

    /// Notes the next offset that was read; those between it and the last are not there (compaction, transactions).
    pub(super) fn push(&mut self, offset: i64) {
        if self.slots.is_empty() {
            self.changed |= offset > self.base;
            self.base = offset;
        }
        let gap = offset - self.next();
        self.slots.extend(std::iter::repeat_n(Slot::Settled, usize::try_from(gap).unwrap_or(0)));
        self.slots.push_back(Slot::Open);
    }

    /// Settles an offset; false if it is not here any more.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        if !self.set(offset, Slot::Settled) {
            return false;
        }
        self.tried.remove(&offset);
        while self.slots.front() == Some(&Slot::Settled) {
            self.slots.pop_front();
            self.base += 1;
            self.changed = true;
        }
        true
    }

    /// Settles a delivery; false if it is stale.
    pub(super) fn settle_delivery(&mut self, offset: i64) -> bool {
        let settled = self.settle(offset);
        self.back += u64::from(settled);
        settled
    }

    /// Takes a delivery back that was tried so often by now; false if it is stale.
    pub(super) fn give_back(&mut self, offset: i64, tried: u32) -> bool {
        if !self.set(offset, Slot::Waiting) {
            return false;
        }
        self.back += 1;
        self.note_tried(offset, tried);
        true
    }

    /// What was given back or held back is handed out.
    pub(super) fn hand_out(&mut self, offset: i64) {
        self.set(offset, Slot::Open);
    }

    /// An offset is not handed out before others are.
    pub(super) fn hold_back(&mut self, offset: i64) {
        self.set(offset, Slot::Waiting);
    }

    /// What was to be handed out is not, and was tried no oftener than before. Gives the key that it held up.
    pub(super) fn withhold(&mut self, offset: i64, tried: u32) -> Option<Box<str>> {
        // A suspect is noted before it goes.
        if self.set(offset, Slot::Waiting) && self.tried.contains_key(&offset) {
            self.note_tried(offset, tried);
        }
        self.release_key(offset)
    }

    /// Whether an offset is here and not settled.
    pub(super) fn holds(&self, offset: i64) -> bool {
        !self.is_dead && self.slot(offset).is_some_and(|slot| slot != Slot::Settled)
    }

    pub(super) fn is_settled(&self, offset: i64) -> bool {
        offset < self.base || self.slot(offset) == Some(Slot::Settled)
    }

    fn slot(&self, offset: i64) -> Option<Slot> {
        usize::try_from(offset - self.base).ok().and_then(|at| self.slots.get(at)).copied()
    }

    /// Changes what is here and not settled; false if it is not.
    fn set(&mut self, offset: i64, to: Slot) -> bool {
        if self.is_dead {
            return false;
        }
        match usize::try_from(offset - self.base).ok().and_then(|at| self.slots.get_mut(at)) {
            None | Some(Slot::Settled) => false,
            Some(slot) => {
                *slot = to;
                true
            }
        }
    }

    fn note_tried(&mut self, offset: i64, attempts: u32) {
        match attempts {
            0 => self.tried.remove(&offset),
            _ => self.tried.insert(offset, attempts),
        };
        // What is committed says so too, so that a crash does not forget it.
        self.changed = true;
    }

    pub(super) fn hold_key(&mut self, offset: i64, key: Box<str>) {
        self.keys.insert(offset, key);
    }

    pub(super) fn holds_key(&self, offset: i64) -> bool {
        self.keys.contains_key(&offset)
    }

    /// The key that an offset holds up, also of a partition that was taken away: until its handler is done, what comes again
    /// must not overtake it.
    pub(super) fn release_key(&mut self, offset: i64) -> Option<Box<str>> {
        // Nearly always there are none, and a look at an empty map hashes all the same.
        if self.keys.is_empty() { None } else { self.keys.remove(&offset) }
    }

    /// Of so many that were handed out, how many are still out.
    pub(super) fn out_of(&self, taken: u64) -> u64 {
        taken - self.back
    }

    /// Takes it away. Returns how many of so many that were handed out are still out; nobody else counts them back.
    pub(super) fn kill(&mut self, taken: u64) -> u64 {
        self.is_dead = true;
        taken - std::mem::replace(&mut self.back, taken)
    }

    /// How many offsets lie between the lowest that is not settled and the highest that was read.
    pub(super) fn span(&self) -> usize {
        self.slots.len()
    }

    /// The offset after the last that was read.
    pub(super) fn next(&self) -> i64 {
        self.base + self.slots.len() as i64
    }

    /// Nothing below an offset is to be read any more: what was not read counts as settled.
    pub(super) fn skip_to(&mut self, offset: i64) {
        let next = self.next();
        if offset <= next {
            return;
        }
        self.changed = true;
        if self.slots.is_empty() {
            self.base = offset;
        } else {
            self.slots.extend(std::iter::repeat_n(Slot::Settled, usize::try_from(offset - next).unwrap_or(0)));
        }
    }

    /// Which are not settled and were handed out, if all below an offset were whose turn it was.
    pub(super) fn handed_below(&self, offset: i64) -> impl Iterator<Item = i64> {
        let base = self.base;
        self.slots
            .iter()
            .enumerate()
            .map(move |(at, slot)| (base + at as i64, *slot))
            .take_while(move |(at, _)| *at < offset)
            .filter(|(_, slot)| *slot == Slot::Open)
            .map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(start: i64, offsets: &[i64]) -> Ring {
        let mut ring = Ring::new(start);
        offsets.iter().for_each(|offset| ring.push(*offset));
        ring
    }

    #[test]
    fn what_is_committed_never_passes_an_open_one() {
        let mut ring = ring(10, &[10, 11, 12, 13]);
        assert!(ring.settle(12) && ring.settle(11));
        assert_eq!((ring.base, ring.changed), (10, false));
        assert!(ring.settle(10));
        assert_eq!((ring.base, ring.changed, ring.span()), (13, true, 1));
        assert!(!ring.settle(11), "it was settled before");
        assert!(ring.settle(13));
        assert_eq!((ring.base, ring.span()), (14, 0));
    }

    #[test]
    fn offsets_that_are_not_there_hold_nothing_up() {
        let mut ring = ring(0, &[5, 9]);
        assert_eq!(ring.base, 5);
        assert!(ring.settle(9) && !ring.settle(7) && ring.settle(5));
        assert_eq!(ring.base, 10);
        ring.push(50);
        assert_eq!(ring.base, 50);
    }

    #[test]
    fn a_dead_one_settles_nothing() {
        let mut ring = ring(0, &[0]);
        ring.kill(1);
        assert!(!ring.settle(0) && !ring.holds(0) && !ring.give_back(0, 1));
    }

    #[test]
    fn each_delivery_is_counted_back_once() {
        let mut ring = ring(0, &[0, 1, 2, 3, 4]);
        assert!(ring.settle_delivery(0) && ring.give_back(1, 1));
        assert!(ring.settle(4), "it expired here, and was never out");
        assert_eq!(ring.out_of(4), 2);
        assert_eq!(ring.kill(4), 2);
        assert!(!ring.settle_delivery(2) && !ring.give_back(3, 1));
        assert_eq!((ring.out_of(4), ring.kill(4)), (0, 0));
    }

    #[test]
    fn a_key_is_given_back_after_its_partition_is_gone() {
        let mut ring = ring(0, &[0]);
        ring.hold_key(0, "a".into());
        ring.kill(1);
        assert!(!ring.settle_delivery(0));
        assert_eq!(ring.release_key(0).as_deref(), Some("a"));
    }

    #[test]
    fn only_what_was_handed_out_counts_as_tried() {
        let mut ring = ring(0, &[0, 1, 2, 3, 4]);
        ring.hold_back(1);
        assert!(ring.settle(2));
        assert_eq!(ring.handed_below(4).collect::<Vec<_>>(), [0, 3]);
        assert!(ring.give_back(0, 0) && ring.give_back(3, 2));
        assert_eq!(ring.handed_below(4).count(), 0);
        assert_eq!(ring.tried, BTreeMap::from([(3, 2)]));
        ring.hand_out(1);
        ring.hand_out(0);
        assert_eq!(ring.handed_below(5).collect::<Vec<_>>(), [0, 1, 4]);
        // Noted, and withheld before it went.
        ring.tried.insert(4, 3);
        ring.withhold(4, 2);
        assert_eq!(ring.tried[&4], 2);
    }
}
