//! The partitions that this member has, and how far it has read each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::watch::Idle;
use crate::consumer::PartitionId;
use crate::consumer::item::Item;
use crate::consumer::metadata::{Ending, Metadata};
use crate::consumer::partition::{Partition, Read};
use crate::consumer::shared::Shared;

/// An offset to commit, and what goes beside it.
pub(super) type Commit = (PartitionId, i64, Metadata);

/// One partition, as the polling thread knows it.
pub(super) struct AssignedPartition {
    pub(super) partition: Arc<Partition>,
    pub(super) is_paused: bool,
    /// The client may have stopped reading it.
    pub(super) is_unverified: bool,
    /// Orders messages of several partitions by their time, without ever changing the order within one.
    pub(super) rank: u64,
    /// Records of the batch under way that are not noted in the partition yet: settlers want the same lock, and a batch takes it
    /// once.
    pub(super) read: Vec<(i64, Read)>,
    /// Messages that may have killed a member before: each is noted at the broker before it is handed out.
    pub(super) suspects: VecDeque<Item>,
    pub(super) idle: Idle,
    /// The offset of a record that the client cannot read.
    pub(super) unreadable: Option<i64>,
}

impl AssignedPartition {
    /// Notes in the partition what was read of it.
    pub(super) fn note_read(&mut self) {
        if !self.read.is_empty() {
            self.partition.note_read(self.read.drain(..));
        }
    }
}

/// All of them.
pub(super) struct Assigned {
    shared: Arc<Shared>,
    partitions: HashMap<PartitionId, AssignedPartition>,
}

impl Assigned {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, partitions: HashMap::new() }
    }

    /// Adds a partition that is read from `offset` on.
    pub(super) fn add(&mut self, id: PartitionId, offset: i64, past: Metadata) {
        let role = self.shared.settings.topics.role(&id.0);
        let topic: Arc<str> = id.0.as_str().into();
        let partition = Arc::new(Partition::new(Arc::clone(&self.shared), topic, id.1, role, offset, past));
        self.shared.feed.add_partition(&partition);
        let assigned = AssignedPartition {
            partition,
            is_paused: false,
            is_unverified: false,
            rank: 0,
            read: Vec::new(),
            suspects: VecDeque::new(),
            idle: Idle::new(Instant::now()),
            unreadable: None,
        };
        self.partitions.insert(id, assigned);
    }

    /// Takes partitions out: what is out of them is stale from now on. Returns what is to be committed of them.
    pub(super) fn remove(&mut self, ids: &[PartitionId]) -> Vec<Commit> {
        let mut last = Vec::new();
        for id in ids {
            let Some(AssignedPartition { partition, .. }) = self.partitions.remove(id) else { continue };
            self.shared.remove_partition(&partition);
            if let Some((offset, metadata)) = partition.take_commit(Ending::Clean) {
                last.push((id.clone(), offset, metadata));
            }
            self.shared.faults.clear_partition(id);
        }
        last
    }

    pub(super) fn get(&self, id: &PartitionId) -> Option<&AssignedPartition> {
        self.partitions.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &PartitionId) -> Option<&mut AssignedPartition> {
        self.partitions.get_mut(id)
    }

    pub(super) fn contains(&self, id: &PartitionId) -> bool {
        self.partitions.contains_key(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PartitionId, &AssignedPartition)> {
        self.partitions.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PartitionId, &mut AssignedPartition)> {
        self.partitions.iter_mut()
    }

    pub(super) fn ids(&self) -> Vec<PartitionId> {
        self.partitions.keys().cloned().collect()
    }

    /// Where each is: the offset after the last that was read.
    pub(super) fn positions(&self) -> impl Iterator<Item = (PartitionId, i64)> + '_ {
        self.partitions.iter().map(|(id, one)| (id.clone(), one.partition.read_to()))
    }

    /// True if any of these partitions has settlements that are not committed.
    pub(super) fn any_changed<'a>(&self, ids: impl IntoIterator<Item = &'a PartitionId>) -> bool {
        ids.into_iter().filter_map(|id| self.get(id)).any(|one| one.partition.has_changed())
    }

    pub(super) fn has_suspects(&self) -> bool {
        self.partitions.values().any(|one| !one.suspects.is_empty())
    }

    /// Goes on at other offsets, never before what was read: what lies between counts as settled.
    pub(super) fn skip_to(&self, positions: &[(PartitionId, i64)]) {
        for (id, offset) in positions {
            if let Some(one) = self.get(id) {
                one.partition.skip_to(*offset);
            }
        }
    }
}
