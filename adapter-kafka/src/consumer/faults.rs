//! Faults of single partitions. Health reports each until it is over.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::PartitionId;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The client cannot read a record, and would not go past it by itself.
    Unreadable,
    /// Records wait and none is read.
    Unread,
}

/// The faults of one consumer: at most one of each kind a partition.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<BTreeMap<(PartitionId, Fault), String>>);

impl Faults {
    /// Notes a fault, in place of an earlier one of its kind. Returns whether there was none.
    pub(crate) fn set(&self, id: &PartitionId, fault: Fault, text: String) -> bool {
        self.0.lock().insert((id.clone(), fault), text).is_none()
    }

    pub(crate) fn clear(&self, id: &PartitionId, fault: Fault) {
        self.0.lock().remove(&(id.clone(), fault));
    }

    /// Forgets the faults of a partition that this member does not have any more.
    pub(crate) fn clear_partition(&self, id: &PartitionId) {
        self.0.lock().retain(|(known, _), _| known != id);
    }

    /// One sentence for each.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().values().cloned().collect()
    }
}
