//! Items held until a point in time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Delay that stands for "never" where a longer one cannot be represented.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The instant that lies `after` in the future; 30 years ahead where the clock cannot represent it.
#[must_use]
pub fn instant_after(after: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(after).unwrap_or_else(|| now + LONGEST_DELAY)
}

/// The instant of the monotonic clock at which the wall clock shows `time`, by what it shows now. A time in the past is now.
///
/// Called once, when a message arrives: a wall clock that is set later moves nothing that is held in memory.
#[must_use]
pub fn instant_of(time: SystemTime) -> Instant {
    instant_after(time.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Items held until they are due, the earliest first; those due at the same instant in the order in which they were added.
///
/// Due times are of the monotonic clock ([`tokio::time::Instant`]), so that a wall clock that jumps delays nothing and releases
/// nothing early. The queue is not bounded: whoever adds to it bounds what it holds. Adding and removing take logarithmic time.
pub struct DueQueue<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    arrivals: u64,
}

struct Entry<T> {
    due: Instant,
    arrival: u64,
    item: T,
}

impl<T> DueQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: BinaryHeap::new(), arrivals: 0 }
    }

    /// Adds an item that is due at `due`.
    pub fn push(&mut self, due: Instant, item: T) {
        self.arrivals += 1;
        self.entries.push(Reverse(Entry { due, arrival: self.arrivals, item }));
    }

    /// Instant at which the earliest item is due; none while the queue is empty.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse(entry)| entry.due)
    }

    /// Removes the earliest item if it is due by `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry.item)
    }

    /// Removes the items that `which` selects, in the order in which they are due. Takes linear time.
    pub fn take_where(&mut self, mut which: impl FnMut(&T) -> bool) -> Vec<T> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let (mut taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.entries).into_vec().into_iter().partition(|Reverse(entry)| which(&entry.item));
        self.entries = kept.into();
        taken.sort_unstable_by(|Reverse(one), Reverse(other)| one.cmp(other));
        taken.into_iter().map(|Reverse(entry)| entry.item).collect()
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all items.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl<T> Default for DueQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for DueQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DueQueue").field("len", &self.len()).field("next_due", &self.next_due()).finish()
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.arrival).cmp(&(other.due, other.arrival))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_released_before_it_is_due() {
        let now = Instant::now();
        let mut queue = DueQueue::new();
        queue.push(now + Duration::from_millis(5), "late");
        assert_eq!(queue.pop_due(now), None);
        assert_eq!(queue.next_due(), Some(now + Duration::from_millis(5)));
        assert_eq!(queue.pop_due(now + Duration::from_millis(5)), Some("late"));
        assert!(queue.is_empty() && queue.next_due().is_none());
    }

    #[test]
    fn a_delay_without_end_is_far_away() {
        assert!(instant_after(Duration::MAX) > Instant::now() + LONGEST_DELAY / 2);
        assert!(instant_of(SystemTime::UNIX_EPOCH) <= Instant::now());
    }

    proptest! {
        #[test]
        fn items_leave_by_due_time_and_then_by_arrival(delays in proptest::collection::vec(0_u64..8, 0..64), taken in 0_u64..8) {
            let now = Instant::now();
            let mut queue = DueQueue::new();
            let mut expected: Vec<(u64, usize)> = Vec::new();
            for (arrival, delay) in delays.iter().enumerate() {
                queue.push(now + Duration::from_secs(*delay), (*delay, arrival));
                expected.push((*delay, arrival));
            }
            expected.sort_unstable();
            let (gone, left): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(delay, _)| *delay == taken);
            prop_assert_eq!(queue.take_where(|(delay, _)| *delay == taken), gone);
            prop_assert_eq!(queue.len(), left.len());
            for due in 0..8 {
                let at = now + Duration::from_secs(due);
                let released: Vec<_> = std::iter::from_fn(|| queue.pop_due(at)).collect();
                let wanted: Vec<_> = left.iter().copied().filter(|(delay, _)| *delay == due).collect();
                prop_assert_eq!(released, wanted);
            }
            prop_assert!(queue.is_empty());
        }
    }
}
