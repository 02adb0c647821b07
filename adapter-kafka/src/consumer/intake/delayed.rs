//! Messages that are held until they are due.

use adapter_kit::DueQueue;
use tokio::time::Instant;

use super::Item;
use crate::consumer::partition::Partition;

/// Held messages, and their size. The monotonic clock decides: a wall clock that is set moves nothing here.
#[derive(Default)]
pub(super) struct Delayed {
    items: DueQueue<Item>,
    bytes: usize,
}

impl Delayed {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, due: Instant, item: Item) {
        self.bytes += item.size();
        self.items.push(due, item);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.items.next_due()
    }

    /// Removes the earliest, if it is due by now.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Item> {
        let item = self.items.pop_due(now)?;
        self.bytes -= item.size();
        Some(item)
    }

    /// Removes the messages of some partitions, in the order in which they are due.
    pub(super) fn take_out(&mut self, leaving: impl Fn(&Partition) -> bool) -> Vec<Item> {
        let gone = self.items.take_where(|item| leaving(item.partition()));
        self.bytes -= gone.iter().map(Item::size).sum::<usize>();
        gone
    }
}
