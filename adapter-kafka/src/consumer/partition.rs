//! One assignment of one partition: what is out of it, and how far it may be committed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::intake::Intake;
use super::metadata::{Ending, Metadata};

/// Which of a source's topics a partition belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The queue or topic itself.
    Main,
    /// The group's own retries and redrives.
    Retry,
    /// Messages that are published for later.
    Delayed,
}

/// What became of a record when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Kept,
    /// It expired, or is not for this subscription: it counts as settled.
    PassedOver,
}

/// One assignment of one partition. It settles the deliveries that came from it; the tag of a delivery is its offset.
///
/// A partition that is taken away and given back is a new one of these: what came from the old is stale.
pub(crate) struct Partition {
    pub(crate) intake: Arc<Intake>,
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
    pub(crate) lane: Lane,
    /// How many deliveries are with the application, and how many copies are under way.
    pub(crate) out: AtomicUsize,
    /// The offset after the highest that was handed out.
    pub(super) handed: AtomicI64,
    pub(super) ring: Mutex<Ring>,
    /// How often offsets were tried before this assignment.
    pub(super) tried_before: HashMap<i64, u32>,
    /// Offsets below this may have killed the member before: see [`Metadata`].
    pub(super) suspects_below: i64,
}

/// Which offsets are settled. The lowest that is not is what is committed.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The lowest offset that is not settled.
    base: i64,
    /// From `base` on: settled or not.
    slots: VecDeque<bool>,
    /// How often offsets that are not settled were tried, where it was more than once.
    tried: BTreeMap<i64, u32>,
    /// Which key an offset holds up, where keys are ordered.
    keys: HashMap<i64, Box<str>>,
    /// It was taken away: whatever is asked of it is stale.
    pub(super) is_dead: bool,
    /// It is being taken away: nothing new is handed out.
    pub(super) is_leaving: bool,
    /// There is more to commit than was.
    changed: bool,
}

impl Ring {
    /// Notes the next offset that was read; those between it and the last are not there (compaction, transactions).
    pub(super) fn push(&mut self, offset: i64) {
        if self.slots.is_empty() {
            self.changed |= offset > self.base;
            self.base = offset;
        }
        let gap = offset - self.base - self.slots.len() as i64;
        self.slots.extend(std::iter::repeat_n(true, usize::try_from(gap).unwrap_or(0)));
        self.slots.push_back(false);
    }

    /// Settles an offset; false if it is not here any more.
    pub(super) fn settle(&mut self, offset: i64) -> bool {
        if !self.holds(offset) {
            return false;
        }
        if let Some(slot) = usize::try_from(offset - self.base).ok().and_then(|at| self.slots.get_mut(at)) {
            *slot = true;
        }
        self.tried.remove(&offset);
        while self.slots.front() == Some(&true) {
            self.slots.pop_front();
            self.base += 1;
            self.changed = true;
        }
        true
    }

    /// Whether an offset is here and not settled.
    pub(super) fn holds(&self, offset: i64) -> bool {
        !self.is_dead
            && usize::try_from(offset - self.base).ok().and_then(|at| self.slots.get(at)).is_some_and(|done| !done)
    }

    pub(super) fn note_tried(&mut self, offset: i64, attempts: u32) {
        self.tried.insert(offset, attempts);
        // What is committed says so too, so that a crash does not forget it.
        self.changed = true;
    }

    pub(super) fn hold_key(&mut self, offset: i64, key: Box<str>) {
        self.keys.insert(offset, key);
    }

    pub(super) fn holds_key(&self, offset: i64) -> bool {
        self.keys.contains_key(&offset)
    }

    pub(super) fn release_key(&mut self, offset: i64) -> Option<Box<str>> {
        // Nearly always there are none, and a look at an empty map hashes all the same.
        if self.keys.is_empty() { None } else { self.keys.remove(&offset) }
    }

    /// How many offsets lie between the lowest that is not settled and the highest that was read.
    pub(super) fn span(&self) -> usize {
        self.slots.len()
    }

    /// Nothing below an offset is to be read any more: what was not read counts as settled.
    fn skip_to(&mut self, offset: i64) {
        let next = self.base + self.slots.len() as i64;
        if offset <= next {
            return;
        }
        self.changed = true;
        if self.slots.is_empty() {
            self.base = offset;
        } else {
            self.slots.extend(std::iter::repeat_n(true, usize::try_from(offset - next).unwrap_or(0)));
        }
    }

    /// Which are not settled below an offset.
    fn open_below(&self, offset: i64) -> impl Iterator<Item = i64> {
        let base = self.base;
        self.slots
            .iter()
            .enumerate()
            .map(move |(at, done)| (base + at as i64, *done))
            .take_while(move |(at, _)| *at < offset)
            .filter(|(_, done)| !done)
            .map(|(at, _)| at)
    }
}

impl Partition {
    pub(super) fn new(
        intake: Arc<Intake>,
        topic: Arc<str>,
        number: i32,
        lane: Lane,
        start: i64,
        past: Metadata,
    ) -> Self {
        let suspects_below = if past.ending == Ending::Unknown { start + SUSPECTS } else { start };
        let ring = Ring { base: start, ..Ring::default() };
        Self {
            intake,
            topic,
            number,
            lane,
            out: AtomicUsize::new(0),
            handed: AtomicI64::new(start),
            ring: Mutex::new(ring),
            tried_before: past.tried.iter().map(|(delta, attempts)| (start + i64::from(*delta), *attempts)).collect(),
            suspects_below,
        }
    }

    /// Settles one; also gives the key that it held up.
    pub(crate) fn settle_one(&self, offset: i64) -> (bool, Option<Box<str>>) {
        let mut ring = self.ring.lock();
        let settled = ring.settle(offset);
        (settled, if settled { ring.release_key(offset) } else { None })
    }

    /// Settles many under one lock.
    pub(crate) fn settle_many(&self, tags: &[u64]) -> (usize, Vec<Box<str>>) {
        let mut ring = self.ring.lock();
        let mut keys = Vec::new();
        let mut settled = 0;
        for offset in tags.iter().filter_map(|tag| i64::try_from(*tag).ok()) {
            if ring.settle(offset) {
                settled += 1;
                keys.extend(ring.release_key(offset));
            }
        }
        (settled, keys)
    }

    /// Whether anything that is read of it is to be handed out.
    pub(super) fn is_wanted(&self) -> bool {
        let ring = self.ring.lock();
        !ring.is_dead && !ring.is_leaving
    }

    /// Notes what was read, in order.
    pub(super) fn note_read(&self, read: impl Iterator<Item = (i64, Read)>) {
        let mut ring = self.ring.lock();
        for (offset, what) in read {
            ring.push(offset);
            if what == Read::PassedOver {
                ring.settle(offset);
            }
        }
    }

    /// Settles one that was to be handed out and is not: expired, or not for this subscription.
    pub(super) fn pass_over(&self, offset: i64) {
        if let (_, Some(key)) = self.settle_one(offset) {
            self.intake.release_keys([key]);
        }
    }

    /// Whether an offset is this member's and open; notes how often it was tried by now.
    pub(crate) fn note_attempt(&self, offset: i64, attempts: Option<u32>) -> bool {
        let mut ring = self.ring.lock();
        let holds = ring.holds(offset);
        if let (true, Some(attempts)) = (holds, attempts) {
            ring.note_tried(offset, attempts);
        }
        holds
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.ring.lock().is_leaving
    }

    pub(crate) fn release_key(&self, offset: i64) -> Option<Box<str>> {
        self.ring.lock().release_key(offset)
    }

    /// What is to be committed, if it changed since it was last asked for.
    pub(super) fn take_commit(&self, ending: Ending) -> Option<(i64, Metadata)> {
        let mut ring = self.ring.lock();
        if !std::mem::take(&mut ring.changed) && ending != Ending::Clean {
            return None;
        }
        Some((ring.base, self.metadata(&ring, ending)))
    }

    /// What is to be committed with offsets marked as handed out that are about to be.
    pub(super) fn commit_with(&self, tried: impl Iterator<Item = (i64, u32)>) -> (i64, Metadata) {
        let mut ring = self.ring.lock();
        ring.tried.extend(tried);
        (ring.base, self.metadata(&ring, Ending::Unknown))
    }

    /// A commit failed: it has to be tried again.
    pub(super) fn commit_again(&self) {
        self.ring.lock().changed = true;
    }

    pub(super) fn has_changed(&self) -> bool {
        self.ring.lock().changed
    }

    fn metadata(&self, ring: &Ring, ending: Ending) -> Metadata {
        let mut metadata = Metadata { ending, tried: BTreeMap::new() };
        let mut note = |offset: i64, attempts: u32| {
            if let Ok(delta) = u32::try_from(offset - ring.base) {
                let known = metadata.tried.entry(delta).or_default();
                *known = (*known).max(attempts);
            }
        };
        // Those that wait behind another of their key were read and not handed out: they are left out.
        if !self.intake.is_ordered() {
            let handed = self.handed.load(Ordering::Relaxed);
            let open = ring.open_below(handed).take(Metadata::MOST);
            open.for_each(|offset| note(offset, self.tried_before.get(&offset).copied().unwrap_or(0) + 1));
        }
        for (offset, attempts) in ring.tried.iter().take(Metadata::MOST) {
            note(*offset, *attempts);
        }
        metadata
    }

    /// What is asked of it from now on is stale.
    pub(super) fn disown(&self) {
        self.ring.lock().is_dead = true;
    }

    /// Takes the partition away: what is asked of it from now on is stale. Returns how many deliveries were still out.
    pub(super) fn kill(&self) -> usize {
        self.disown();
        self.out.load(Ordering::SeqCst)
    }

    pub(super) fn skip_to(&self, offset: i64) {
        self.ring.lock().skip_to(offset);
    }

    /// The offset after the last that was read.
    pub(super) fn read_to(&self) -> i64 {
        let ring = self.ring.lock();
        ring.base + ring.slots.len() as i64
    }

    /// The offset that is handed out next, and the lowest that is not settled.
    pub(super) fn position(&self) -> (i64, i64) {
        (self.handed.load(Ordering::Relaxed), self.ring.lock().base)
    }
}

/// How many messages from the committed offset on are noted before they are handed out, after a member died.
const SUSPECTS: i64 = 100;

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(start: i64, offsets: &[i64]) -> Ring {
        let mut ring = Ring { base: start, ..Ring::default() };
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
        ring.is_dead = true;
        assert!(!ring.settle(0) && !ring.holds(0));
    }
}
