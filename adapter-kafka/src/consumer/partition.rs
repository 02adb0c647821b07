//! One assignment of one partition: what is out of it, and how far it may be committed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::intake::Intake;
use super::metadata::{Ending, Metadata};
use super::ring::Ring;

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
    /// It is not due, or waits for a word from the broker: others go before it.
    Later,
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
    /// How many deliveries were handed out. Whoever has the intake's lock writes it, and [`Ring`] counts those that came back.
    taken: AtomicU64,
    /// The offset after the highest that was handed out.
    handed: AtomicI64,
    pub(super) ring: Mutex<Ring>,
    /// How often offsets were tried before this assignment.
    pub(super) tried_before: HashMap<i64, u32>,
    /// Offsets below this may have killed the member before: see [`Metadata`].
    pub(super) suspects_below: i64,
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
        Self {
            intake,
            topic,
            number,
            lane,
            taken: AtomicU64::new(0),
            handed: AtomicI64::new(start),
            ring: Mutex::new(Ring::new(start)),
            tried_before: past.tried.iter().map(|(delta, attempts)| (start + i64::from(*delta), *attempts)).collect(),
            suspects_below,
        }
    }

    /// Notes that deliveries go to the application, `next` after the highest of them. Only under the intake's lock.
    pub(super) fn hand_out(&self, count: usize, next: i64) {
        self.taken.store(self.taken.load(Ordering::Relaxed) + count as u64, Ordering::Relaxed);
        if self.handed.load(Ordering::Relaxed) < next {
            self.handed.store(next, Ordering::Relaxed);
        }
    }

    /// How many deliveries are with the application, and how many copies are under way.
    pub(super) fn out(&self) -> u64 {
        let ring = self.ring.lock();
        ring.out_of(self.taken.load(Ordering::Relaxed))
    }

    /// Settles a delivery; also gives the key that it held up, stale or not.
    pub(crate) fn settle_one(&self, offset: i64) -> (bool, Option<Box<str>>) {
        let mut ring = self.ring.lock();
        (ring.settle_delivery(offset), ring.release_key(offset))
    }

    /// Settles many deliveries under one lock.
    pub(crate) fn settle_many(&self, tags: &[u64]) -> (usize, Vec<Box<str>>) {
        let mut ring = self.ring.lock();
        let mut keys = Vec::new();
        let mut settled = 0;
        for offset in tags.iter().filter_map(|tag| i64::try_from(*tag).ok()) {
            settled += usize::from(ring.settle_delivery(offset));
            keys.extend(ring.release_key(offset));
        }
        (settled, keys)
    }

    /// Takes a delivery back that was tried so often by now; false if it is stale.
    pub(crate) fn give_back(&self, offset: i64, tried: u32) -> bool {
        self.ring.lock().give_back(offset, tried)
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
            match what {
                Read::Kept => {}
                Read::Later => ring.hold_back(offset),
                Read::PassedOver => drop(ring.settle(offset)),
            }
        }
    }

    /// Settles one that was to be handed out and is not: expired, or not for this subscription.
    pub(super) fn pass_over(&self, offset: i64) {
        let key = {
            let mut ring = self.ring.lock();
            ring.settle(offset);
            ring.release_key(offset)
        };
        if let Some(key) = key {
            self.intake.release_keys([key]);
        }
    }

    /// Whether an offset is this member's and open.
    pub(crate) fn holds(&self, offset: i64) -> bool {
        self.ring.lock().holds(offset)
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
        // What was not tried again was tried before all the same.
        let before = self.tried_before.iter().filter(|(offset, _)| !ring.is_settled(**offset));
        before.for_each(|(offset, attempts)| note(*offset, *attempts));
        // Where keys are ordered, those that wait behind another of their key are overtaken: nothing is known of what is open.
        if !self.intake.is_ordered() {
            let handed = ring.handed_below(self.handed.load(Ordering::Relaxed)).take(Metadata::MOST);
            handed.for_each(|offset| note(offset, self.tried_before.get(&offset).copied().unwrap_or(0) + 1));
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
    ///
    /// Nothing of it may be handed out any more: the intake was asked to withhold it.
    pub(super) fn kill(&self) -> usize {
        let mut ring = self.ring.lock();
        let still_out = ring.kill(self.taken.load(Ordering::Relaxed));
        usize::try_from(still_out).unwrap_or(usize::MAX)
    }

    pub(super) fn skip_to(&self, offset: i64) {
        self.ring.lock().skip_to(offset);
    }

    /// The offset after the last that was read.
    pub(super) fn read_to(&self) -> i64 {
        self.ring.lock().next()
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
