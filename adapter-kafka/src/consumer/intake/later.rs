//! What waits for its time.

use std::collections::BTreeMap;

use super::Item;
use crate::consumer::partition::Partition;

#[derive(Default)]
pub(super) struct Later {
    /// By when they are due, and those of one time in the order in which they came.
    items: BTreeMap<(u64, u64), Item>,
    sequence: u64,
    bytes: usize,
}

impl Later {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(&mut self, due: u64, item: Item) {
        self.sequence += 1;
        self.bytes += item.size();
        self.items.insert((due, self.sequence), item);
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.items.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next, if it is due by now.
    pub(super) fn pop(&mut self, now: u64) -> Option<Item> {
        let next = self.items.first_entry().filter(|next| next.key().0 <= now)?;
        let item = next.remove();
        self.bytes -= item.size();
        Some(item)
    }

    /// Takes out what is of some partitions, in order.
    pub(super) fn take_out(&mut self, leaving: impl Fn(&Partition) -> bool) -> Vec<Item> {
        let (gone, left) = std::mem::take(&mut self.items)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, item)| leaving(item.partition()));
        self.items = left;
        self.bytes = self.items.values().map(Item::size).sum();
        gone.into_values().collect()
    }
}
