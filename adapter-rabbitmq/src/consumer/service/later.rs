//! What this consumer holds until its time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use messaging_core::spi::Unsettled;
use tokio::time::Instant;

/// What becomes of it then.
pub(super) enum Held {
    /// It is handed out again.
    Again(Unsettled),
    /// It goes back to the broker.
    Return(u64),
}

/// All that is held, the first due first; of those due at once, the one that came first.
#[derive(Default)]
pub(super) struct Waiting {
    all: BinaryHeap<Reverse<Later>>,
    count: u64,
}

struct Later {
    at: Instant,
    order: u64,
    held: Held,
}

impl Waiting {
    pub(super) fn hold(&mut self, after: Duration, held: Held) {
        self.count += 1;
        self.all.push(Reverse(Later { at: Instant::now() + after, order: self.count, held }));
    }

    /// When the next is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.all.peek().map(|Reverse(later)| later.at)
    }

    /// Takes the next that is due by `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Held> {
        if self.next_at()? > now {
            return None;
        }
        self.all.pop().map(|Reverse(later)| later.held)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
