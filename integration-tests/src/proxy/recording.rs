//! A copy of what servers answer, to see that something has happened whose answer never reaches the client.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const KEPT_BYTES: usize = 1024 * 1024;

/// The copies, by connection; none while nothing is recorded.
#[derive(Debug, Default)]
pub(super) struct Recording(Mutex<Option<BTreeMap<u64, Vec<u8>>>>);

impl Recording {
    pub(super) fn begin(&self) {
        *self.lock() = Some(BTreeMap::new());
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    pub(super) fn note(&self, connection: u64, answer: &[u8]) {
        if let Some(kept) = self.lock().as_mut() {
            let kept = kept.entry(connection).or_default();
            let room = KEPT_BYTES - kept.len();
            kept.extend_from_slice(&answer[..answer.len().min(room)]);
        }
    }

    pub(super) fn kept(&self) -> Vec<Vec<u8>> {
        self.lock().as_ref().map(|kept| kept.values().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<u64, Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
