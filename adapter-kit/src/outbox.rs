//! Items that have not left.

use std::collections::VecDeque;
use std::fmt;

use tokio::time::Instant;

/// Items to send that have not left yet, in order: kept while the connection is lost, and sent once it is back, until their time limit.
///
/// Bounded by count and by bytes: [`push`](Self::push) returns an item for which there is no room. Items that are put back after a
/// lost connection were counted before, and are taken whatever the bound.
///
/// Time limits need not be in order: [`expire`](Self::expire) finds each, and costs nothing before the earliest.
pub struct Outbox<T> {
    items: VecDeque<Kept<T>>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
    /// No item expires before.
    earliest: Option<Instant>,
}

struct Kept<T> {
    until: Instant,
    size: usize,
    item: T,
}

/// An item on its way out: it can be put back if it did not leave.
#[derive(Debug)]
pub struct Leaving<T> {
    /// The item.
    pub item: T,
    /// Instant at which its time limit runs out.
    pub until: Instant,
    size: usize,
}

impl<T> Outbox<T> {
    /// An empty outbox for so many items, and so many bytes. A single item that is larger than all bytes has room when it is alone.
    #[must_use]
    pub fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, count_max, bytes_max, earliest: None }
    }

    /// Adds an item of `size` bytes that may be sent until `until`.
    ///
    /// # Errors
    /// The item, if there is no room.
    pub fn push(&mut self, item: T, size: usize, until: Instant) -> Result<(), T> {
        let has_bytes = self.items.is_empty() || self.bytes.saturating_add(size) <= self.bytes_max;
        if self.items.len() >= self.count_max || !has_bytes {
            return Err(item);
        }
        self.note(size, until);
        self.items.push_back(Kept { until, size, item });
        Ok(())
    }

    /// Removes the next item to send, also one whose time limit has passed: call [`expire`](Self::expire) first.
    pub fn take_next(&mut self) -> Option<Leaving<T>> {
        let Kept { until, size, item } = self.items.pop_front()?;
        self.bytes -= size;
        Some(Leaving { item, until, size })
    }

    /// Puts back items that did not leave, in the order in which [`take_next`](Self::take_next) returned them. They are sent before all others.
    pub fn put_back(&mut self, unsent: impl IntoIterator<Item = Leaving<T>, IntoIter: DoubleEndedIterator>) {
        for Leaving { item, until, size } in unsent.into_iter().rev() {
            self.note(size, until);
            self.items.push_front(Kept { until, size, item });
        }
    }

    /// Removes the items whose time limit has passed by `now`, in order. They never left.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut expired = Vec::new();
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return expired;
        }
        self.earliest = None;
        for kept in std::mem::take(&mut self.items) {
            if kept.until <= now {
                self.bytes -= kept.size;
                expired.push(kept.item);
            } else {
                self.earliest = Some(self.earliest.map_or(kept.until, |earliest| earliest.min(kept.until)));
                self.items.push_back(kept);
            }
        }
        expired
    }

    /// Removes all items, in order: the connection never comes back.
    pub fn close(&mut self) -> Vec<T> {
        self.bytes = 0;
        self.earliest = None;
        std::mem::take(&mut self.items).into_iter().map(|kept| kept.item).collect()
    }

    /// Instant before which no item expires; none while it is empty. It may be earlier than the next time limit.
    #[must_use]
    pub fn earliest(&self) -> Option<Instant> {
        self.earliest.filter(|_| !self.items.is_empty())
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Size of all items in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn note(&mut self, size: usize, until: Instant) {
        self.bytes += size;
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("len", &self.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_bounded_by_count_and_by_bytes() {
        let now = Instant::now();
        let mut outbox = Outbox::new(2, 10);
        assert_eq!(outbox.push("huge", 50, now), Ok(()), "alone there is room for any");
        assert_eq!(outbox.push("small", 1, now), Err("small"));
        assert_eq!(outbox.close(), ["huge"]);
        assert!(outbox.push("a", 1, now).is_ok() && outbox.push("b", 9, now).is_ok());
        assert_eq!(outbox.push("c", 0, now), Err("c"));
        assert_eq!((outbox.len(), outbox.bytes()), (2, 10));
    }

    #[test]
    fn unsent_items_go_before_all_others_in_their_order() {
        let now = Instant::now();
        let mut outbox = Outbox::new(3, 100);
        (0..3).for_each(|item| outbox.push(item, 1, now).unwrap());
        let unsent: Vec<_> = std::iter::from_fn(|| outbox.take_next()).take(2).collect();
        outbox.push(3, 1, now).unwrap();
        outbox.put_back(unsent);
        let sent: Vec<_> = std::iter::from_fn(|| outbox.take_next()).map(|leaving| leaving.item).collect();
        assert_eq!((sent, outbox.bytes()), (vec![0, 1, 2, 3], 0));
    }

    proptest! {
        #[test]
        fn each_item_leaves_in_order_or_expires_at_its_limit(limits in proptest::collection::vec(0_u64..10, 0..40)) {
            let begin = Instant::now();
            let at = |seconds| begin + Duration::from_secs(seconds);
            let mut outbox = Outbox::new(100, 100);
            for (item, limit) in limits.iter().enumerate() {
                outbox.push(item, 1, at(*limit)).unwrap();
            }
            for second in 0..10 {
                let expected: Vec<_> = (0..limits.len()).filter(|item| limits[*item] == second).collect();
                prop_assert_eq!(outbox.expire(at(second)), expected);
                prop_assert!(outbox.earliest().is_none_or(|earliest| earliest > at(second)));
                prop_assert_eq!(outbox.bytes(), outbox.len());
            }
            prop_assert!(outbox.is_empty());
        }
    }
}
