//! What a case really did: a pass without an operation proves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::Kind;

/// What a case really did.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The kind of place that is under way.
    place: Mutex<Option<Kind>>,
    operations: AtomicU64,
    proved: AtomicU64,
    refused: Mutex<Vec<String>>,
}

impl Tally {
    /// Counts operations: publishes confirmed, deliveries received, settlements made, questions answered.
    pub fn did(&self, count: usize) {
        self.0.operations.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn now_at(&self, kind: Kind) {
        *self.0.place.lock() = Some(kind);
    }

    /// Where the case was when it ended, in words.
    pub(crate) fn place(&self) -> String {
        self.0.place.lock().map_or_else(String::new, |kind| format!(" (on a {})", kind.name()))
    }

    pub(crate) fn note_proved(&self) {
        self.0.proved.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_refused(&self, what: String) {
        self.0.refused.lock().push(what);
    }

    pub(crate) fn proved(&self) -> u64 {
        self.0.proved.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> Vec<String> {
        self.0.refused.lock().clone()
    }
}
