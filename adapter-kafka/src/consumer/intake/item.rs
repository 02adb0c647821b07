//! A message that was read, on its way to becoming a delivery.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use messaging_core::wire::to_millis;
use messaging_core::{Delivery, Message, Settler, Unsettled};

use crate::consumer::partition::{Lane, Partition};

/// A message that was read.
pub(crate) struct Item {
    pub(in crate::consumer) partition: Arc<Partition>,
    pub(in crate::consumer) message: Message,
    pub(in crate::consumer) offset: i64,
    /// Which attempt its next delivery is.
    pub(in crate::consumer) attempt: u32,
    pub(in crate::consumer) redriven: u32,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub(in crate::consumer) expires: u64,
    /// Sorts what was read at once from several partitions: the oldest first, and each partition in its own order.
    pub(in crate::consumer) rank: u64,
}

impl Item {
    /// A delivery as it was before it was handed out.
    pub(crate) fn again(partition: &Arc<Partition>, delivery: Unsettled, attempt: u32) -> Self {
        let Unsettled { message, tag, redriven, .. } = delivery;
        let expires = message.ttl().map_or(0, |ttl| {
            to_millis(message.timestamp()).saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
        });
        let offset = i64::try_from(tag).unwrap_or(i64::MAX);
        Self { partition: Arc::clone(partition), message, offset, attempt, redriven, expires, rank: 0 }
    }

    pub(super) fn into_delivery(self) -> Delivery {
        let Self { partition, message, offset, attempt, redriven, .. } = self;
        partition.out.fetch_add(1, Ordering::SeqCst);
        partition.handed.fetch_max(offset + 1, Ordering::Relaxed);
        let position = match partition.lane {
            Lane::Main => crate::reports::position(partition.number, offset),
            Lane::Retry | Lane::Delayed => None,
        };
        // Offsets are never negative.
        let tag = u64::try_from(offset).unwrap_or(0);
        Delivery::new(Unsettled { message, tag, attempt, redriven, position }, partition as Arc<dyn Settler>)
    }
}
