//! Which offsets of one assignment are settled, behind a lock that settlers and the polling thread share.

use std::collections::{BTreeMap, VecDeque};

/// State of an offset that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Not settled. It was handed out if a higher one was: most go in the order in which they were read, and need no mark.
    Open,
    /// Not settled, and here whatever went past it: not due yet, held back, or given back.
    Waiting,
    /// Settled by the application.
    Settled,
    /// Never was a delivery: absent from the log, expired, or passed over.
    Absent,
}

impl Slot {
    fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Waiting)
    }
}

/// Which offsets are settled. The lowest that is not is what is committed.
#[derive(Debug, Default)]
pub(super) struct OffsetWindow {
    /// The lowest offset that is not settled.
    pub(super) base: i64,
    /// From `base` on.
    slots: VecDeque<Slot>,
    /// How often offsets that are not settled were tried, where it was more than once.
    pub(super) tried: BTreeMap<i64, u32>,
    /// How many deliveries were settled or given back. Counted under the lock under which they are marked, so that a
    /// partition that is taken away frees the places of the others, and of no other.
    back: u64,
    /// It was taken away: whatever is asked of it is stale.
    pub(super) is_dead: bool,
    /// It is being taken away: nothing new is handed out.
    pub(super) is_leaving: bool,
    /// There is more to commit than was.
    pub(super) changed: bool,
    /// Deliveries that the application has settled, and those of them below `base`.
    settled: u64,
    settled_below: u64,
    /// The latter, when the last commit was taken, and when the last was confirmed.
    committing: u64,
    committed: u64,
}

impl OffsetWindow {
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
        self.slots.extend(std::iter::repeat_n(Slot::Absent, usize::try_from(gap).unwrap_or(0)));
        self.slots.push_back(Slot::Open);
    }

    /// Settles an offset that is not handed out; false if it is not here any more.
    pub(super) fn pass_over(&mut self, offset: i64) -> bool {
        self.close(offset, Slot::Absent)
    }

    /// Settles a delivery; false if it is stale.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        let settled = self.close(offset, Slot::Settled);
        self.back += u64::from(settled);
        self.settled += u64::from(settled);
        settled
    }

    fn close(&mut self, offset: i64, to: Slot) -> bool {
        if !self.set(offset, to) {
            return false;
        }
        self.tried.remove(&offset);
        self.advance();
        true
    }

    /// Moves the base past all that is settled.
    fn advance(&mut self) {
        while let Some(slot) = self.slots.front().filter(|slot| !slot.is_open()) {
            self.settled_below += u64::from(*slot == Slot::Settled);
            self.slots.pop_front();
            self.base += 1;
            self.changed = true;
        }
    }

    /// The base and all that lies beside it is about to be committed.
    pub(super) fn note_committing(&mut self) {
        self.committing = self.settled_below;
    }

    /// The broker has confirmed the last commit.
    pub(super) fn note_committed(&mut self) {
        self.committed = self.committing;
    }

    /// How many settled deliveries come again if this member dies now: the commit does not cover them, or is not confirmed.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.settled - self.committed
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

    /// Hands out an offset that was given back or held back.
    pub(super) fn hand_out(&mut self, offset: i64) {
        self.set(offset, Slot::Open);
    }

    /// An offset is not handed out before others are.
    pub(super) fn hold_back(&mut self, offset: i64) {
        self.set(offset, Slot::Waiting);
    }

    /// Takes back an offset that was about to be handed out: it was tried no oftener than before.
    pub(super) fn withhold(&mut self, offset: i64, tried: u32) {
        // A suspect is noted before it goes.
        if self.set(offset, Slot::Waiting) && self.tried.contains_key(&offset) {
            self.note_tried(offset, tried);
        }
    }

    /// True if an offset is here and not settled.
    pub(super) fn holds(&self, offset: i64) -> bool {
        !self.is_dead && self.slot(offset).is_some_and(Slot::is_open)
    }

    pub(super) fn is_settled(&self, offset: i64) -> bool {
        offset < self.base || self.slot(offset).is_some_and(|slot| !slot.is_open())
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
            Some(slot) if slot.is_open() => {
                *slot = to;
                true
            }
            _ => false,
        }
    }

    fn note_tried(&mut self, offset: i64, attempts: u32) {
        match attempts {
            0 => self.tried.remove(&offset),
            _ => self.tried.insert(offset, attempts),
        };
        // The next commit carries it, so that a crash does not forget it.
        self.changed = true;
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
            self.slots.extend(std::iter::repeat_n(Slot::Absent, usize::try_from(offset - next).unwrap_or(0)));
            self.advance();
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

    fn window(start: i64, offsets: &[i64]) -> OffsetWindow {
        let mut window = OffsetWindow::new(start);
        offsets.iter().for_each(|offset| window.push(*offset));
        window
    }

    #[test]
    fn what_is_committed_never_passes_an_open_one() {
        let mut window = window(10, &[10, 11, 12, 13]);
        assert!(window.settle(12) && window.settle(11));
        assert_eq!((window.base, window.changed), (10, false));
        assert!(window.settle(10));
        assert_eq!((window.base, window.changed, window.span()), (13, true, 1));
        assert!(!window.settle(11), "it was settled before");
        assert!(window.settle(13));
        assert_eq!((window.base, window.span()), (14, 0));
    }

    #[test]
    fn offsets_that_are_not_there_hold_nothing_up() {
        let mut window = window(0, &[5, 9]);
        assert_eq!(window.base, 5);
        assert!(window.settle(9) && !window.settle(7) && window.settle(5));
        assert_eq!(window.base, 10);
        window.push(50);
        assert_eq!(window.base, 50);
    }

    #[test]
    fn a_dead_one_settles_nothing() {
        let mut window = window(0, &[0]);
        window.kill(1);
        assert!(!window.settle(0) && !window.holds(0) && !window.give_back(0, 1));
    }

    #[test]
    fn each_delivery_is_counted_back_once() {
        let mut window = window(0, &[0, 1, 2, 3, 4]);
        assert!(window.settle(0) && window.give_back(1, 1));
        assert!(window.pass_over(4), "it expired here, and was never out");
        assert_eq!(window.out_of(4), 2);
        assert_eq!(window.kill(4), 2);
        assert!(!window.settle(2) && !window.give_back(3, 1));
        assert_eq!((window.out_of(4), window.kill(4)), (0, 0));
    }

    #[test]
    fn only_what_was_handed_out_counts_as_tried() {
        let mut window = window(0, &[0, 1, 2, 3, 4]);
        window.hold_back(1);
        assert!(window.settle(2));
        assert_eq!(window.handed_below(4).collect::<Vec<_>>(), [0, 3]);
        assert!(window.give_back(0, 0) && window.give_back(3, 2));
        assert_eq!(window.handed_below(4).count(), 0);
        assert_eq!(window.tried, BTreeMap::from([(3, 2)]));
        window.hand_out(1);
        window.hand_out(0);
        assert_eq!(window.handed_below(5).collect::<Vec<_>>(), [0, 1, 4]);
        // Noted, and withheld before it went.
        window.tried.insert(4, 3);
        window.withhold(4, 2);
        assert_eq!(window.tried[&4], 2);
    }
}
