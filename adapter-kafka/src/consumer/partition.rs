//! One assignment of one partition: what is out of it, and how far it may be committed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use adapter_kit::DeliveryId;
use messaging_core::Error;
use parking_lot::Mutex;

use super::metadata::{Ending, Metadata};
use super::shared::Shared;
use super::window::OffsetWindow;
use crate::topology::Role;

/// Fate of a record when it was read.
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
    pub(crate) shared: Arc<Shared>,
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
    pub(crate) role: Role,
    /// Number of this assignment within its consumer.
    epoch: u64,
    /// How many deliveries were handed out. Written under the outlet's lock, while [`OffsetWindow`] counts those that came back.
    taken: AtomicU64,
    /// The offset after the highest that was handed out.
    handed: AtomicI64,
    pub(super) window: Mutex<OffsetWindow>,
    /// How often offsets were tried before this assignment.
    pub(super) tried_before: HashMap<i64, u32>,
    /// Messages that cannot be copied to the retry topic or the dead letter, with the reason, by offset.
    uncopied: Mutex<BTreeMap<i64, String>>,
    /// Offsets below this may have killed the member before: see [`Metadata`].
    pub(super) suspects_below: i64,
}

impl Partition {
    pub(super) fn new(
        shared: Arc<Shared>,
        topic: Arc<str>,
        number: i32,
        role: Role,
        start: i64,
        past: Metadata,
    ) -> Self {
        let suspects_below = if past.ending == Ending::Unknown { start + SUSPECTS_SPAN } else { start };
        Self {
            epoch: shared.outlet.begin_epoch().number(),
            shared,
            topic,
            number,
            role,
            taken: AtomicU64::new(0),
            handed: AtomicI64::new(start),
            window: Mutex::new(OffsetWindow::new(start)),
            tried_before: past.tried.iter().map(|(delta, attempts)| (start + i64::from(*delta), *attempts)).collect(),
            uncopied: Mutex::default(),
            suspects_below,
        }
    }

    /// Notes that deliveries go to the application, `next` after the highest of them, and which of them were given back or held back
    /// before. Only under the outlet's lock.
    pub(super) fn hand_out(&self, count: usize, next: i64, late: impl Iterator<Item = i64>) {
        self.taken.store(self.taken.load(Ordering::Relaxed) + count as u64, Ordering::Relaxed);
        if self.handed.load(Ordering::Relaxed) < next {
            self.handed.store(next, Ordering::Relaxed);
        }
        let mut late = late.peekable();
        if late.peek().is_some() {
            let mut window = self.window.lock();
            late.for_each(|offset| window.hand_out(offset));
        }
    }

    /// How many deliveries are with the application, and how many copies are under way.
    pub(super) fn out(&self) -> u64 {
        let window = self.window.lock();
        window.out_of(self.taken.load(Ordering::Relaxed))
    }

    /// Settles a delivery; false if it is stale.
    pub(crate) fn settle_one(&self, offset: i64) -> bool {
        self.window.lock().settle(offset)
    }

    /// Settles many deliveries under one lock; returns how many were not stale.
    pub(crate) fn settle_many(&self, tags: &[u64]) -> usize {
        let mut window = self.window.lock();
        tags.iter().filter_map(|tag| i64::try_from(*tag).ok()).filter(|offset| window.settle(*offset)).count()
    }

    /// Identity of a delivery among all of its consumer.
    pub(crate) fn id(&self, offset: i64) -> DeliveryId {
        DeliveryId { epoch: self.epoch, tag: u64::try_from(offset).unwrap_or(0) }
    }

    /// Takes a delivery back that was tried so often by now; false if it is stale.
    pub(crate) fn give_back(&self, offset: i64, tried: u32) -> bool {
        self.window.lock().give_back(offset, tried)
    }

    /// True until the partition goes: records of it are handed out.
    pub(super) fn is_wanted(&self) -> bool {
        let window = self.window.lock();
        !window.is_dead && !window.is_leaving
    }

    /// Notes what was read, in order.
    pub(super) fn note_read(&self, read: impl Iterator<Item = (i64, Read)>) {
        let mut window = self.window.lock();
        for (offset, what) in read {
            window.push(offset);
            match what {
                Read::Kept => {}
                Read::Later => window.hold_back(offset),
                Read::PassedOver => drop(window.pass_over(offset)),
            }
        }
    }

    /// Settles one that was to be handed out and is not: expired, or not for this subscription.
    pub(super) fn pass_over(&self, offset: i64) {
        self.window.lock().pass_over(offset);
        self.shared.outlet.free_key(self.id(offset));
    }

    /// True if an offset is this member's and open.
    pub(crate) fn holds(&self, offset: i64) -> bool {
        self.window.lock().holds(offset)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.window.lock().is_leaving
    }

    /// Takes the offset to commit and its metadata, if they changed since the last call.
    pub(super) fn take_commit(&self, ending: Ending) -> Option<(i64, Metadata)> {
        let mut window = self.window.lock();
        if !std::mem::take(&mut window.changed) && ending != Ending::Clean {
            return None;
        }
        window.note_committing();
        Some((window.base, self.metadata(&window, ending)))
    }

    /// The offset to commit and its metadata, with the attempts of offsets that are about to be handed out.
    pub(super) fn commit_with(&self, tried: impl Iterator<Item = (i64, u32)>) -> (i64, Metadata) {
        let mut window = self.window.lock();
        window.tried.extend(tried);
        (window.base, self.metadata(&window, Ending::Unknown))
    }

    /// Notes that a message cannot be copied, and why; it stays open until it can.
    pub(crate) fn note_uncopied(&self, offset: i64, why: &Error, topic: &str) {
        let text = format!(
            "the message at offset {offset} of {}/{} cannot be copied to topic {topic:?}, and holds up what is committed: {}",
            self.topic,
            self.number,
            why.text()
        );
        let mut uncopied = self.uncopied.lock();
        let is_new = uncopied.insert(offset, text).is_none();
        // Health names the first ones; each is logged.
        while uncopied.len() > UNCOPIED_MAX {
            uncopied.pop_last();
        }
        drop(uncopied);
        if is_new {
            tracing::warn!(from = &*self.topic, partition = self.number, offset, to = topic, %why, "a message cannot be copied");
        }
    }

    /// The messages that still cannot be copied, a sentence for each.
    pub(crate) fn uncopied(&self) -> Vec<String> {
        let mut uncopied = self.uncopied.lock();
        if !uncopied.is_empty() {
            let window = self.window.lock();
            uncopied.retain(|offset, _| window.holds(*offset));
        }
        uncopied.values().cloned().collect()
    }

    /// The last commit that was taken is confirmed.
    pub(super) fn note_committed(&self) {
        self.window.lock().note_committed();
    }

    /// How many settlements the broker may not know.
    pub(super) fn unconfirmed(&self) -> u64 {
        self.window.lock().unconfirmed()
    }

    /// A commit failed: it has to be tried again.
    pub(super) fn commit_again(&self) {
        self.window.lock().changed = true;
    }

    pub(super) fn has_changed(&self) -> bool {
        self.window.lock().changed
    }

    fn metadata(&self, window: &OffsetWindow, ending: Ending) -> Metadata {
        let mut metadata = Metadata { ending, tried: BTreeMap::new() };
        let mut note = |offset: i64, attempts: u32| {
            if let Ok(delta) = u32::try_from(offset - window.base) {
                let known = metadata.tried.entry(delta).or_default();
                *known = (*known).max(attempts);
            }
        };
        // Offsets that were not tried again keep their earlier attempts.
        let before = self.tried_before.iter().filter(|(offset, _)| !window.is_settled(**offset));
        before.for_each(|(offset, attempts)| note(*offset, *attempts));
        // Where keys are ordered, those that wait behind another of their key are overtaken: nothing is known of what is open.
        if !self.shared.is_ordered() {
            let handed = window.handed_below(self.handed.load(Ordering::Relaxed)).take(Metadata::TRIED_MAX);
            handed.for_each(|offset| note(offset, self.tried_before.get(&offset).copied().unwrap_or(0) + 1));
        }
        for (offset, attempts) in window.tried.iter().take(Metadata::TRIED_MAX) {
            note(*offset, *attempts);
        }
        metadata
    }

    /// Settlements of its deliveries are stale from now on.
    pub(super) fn disown(&self) {
        self.window.lock().is_dead = true;
    }

    /// Takes the partition away: what is asked of it from now on is stale. Returns how many deliveries were still out.
    ///
    /// Nothing of it may be handed out any more: it was taken out of the outlet before.
    pub(super) fn kill(&self) -> usize {
        let mut window = self.window.lock();
        let still_out = window.kill(self.taken.load(Ordering::Relaxed));
        usize::try_from(still_out).unwrap_or(usize::MAX)
    }

    pub(super) fn skip_to(&self, offset: i64) {
        self.window.lock().skip_to(offset);
    }

    /// The offset after the last that was read.
    pub(super) fn read_to(&self) -> i64 {
        self.window.lock().next()
    }

    /// The offset that is handed out next, and the lowest that is not settled.
    pub(super) fn position(&self) -> (i64, i64) {
        (self.handed.load(Ordering::Relaxed), self.window.lock().base)
    }
}

/// Bound of the messages that health names because they cannot be copied, for each partition.
const UNCOPIED_MAX: usize = 3;
/// How many messages from the committed offset on are noted before they are handed out, after a member died.
const SUSPECTS_SPAN: i64 = 100;

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}
