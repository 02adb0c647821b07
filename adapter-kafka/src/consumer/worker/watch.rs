//! Finds partitions that have a backlog and from which nothing is read, whatever the reason, and has them taken up anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assigned::Assigned;
use super::client::GroupClient;
use crate::consumer::PartitionId;
use crate::consumer::faults::Fault;
use crate::consumer::offsets;
use crate::consumer::shared::Shared;

/// Interval between two looks at idle partitions, and how long one is idle before it is looked at. Twice this is the longest
/// that a backlog stays unread before health reports it.
const LOOK_INTERVAL: Duration = Duration::from_secs(4);
/// How long a partition with a backlog is idle before it is taken up anew for the first time; doubled each further time. A single
/// large record on a slow line takes its time, which the remedy would only take away.
const FIRST_REMEDY_AFTER: Duration = Duration::from_secs(8);
const LAST_REMEDY_AFTER: Duration = Duration::from_secs(120);

/// Since when nothing was read of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    since: Instant,
    remedy_after: Duration,
    is_reported: bool,
}

impl Idle {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, remedy_after: FIRST_REMEDY_AFTER, is_reported: false }
    }
}

pub(super) struct BacklogWatch {
    shared: Arc<Shared>,
    look_at: Instant,
}

impl BacklogWatch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, look_at: Instant::now() + LOOK_INTERVAL }
    }

    /// Notes that something was read of a partition, or that all of it was.
    pub(super) fn note_read(shared: &Shared, id: &PartitionId, idle: &mut Idle, now: Instant) {
        if idle.is_reported {
            shared.faults.clear(id, Fault::Unread);
            tracing::info!(topic = id.0, partition = id.1, "the partition is read again");
        }
        *idle = Idle::new(now);
    }

    /// Nothing is read on purpose at the moment: no partition counts as idle.
    pub(super) fn rest(&mut self, assigned: &mut Assigned) {
        let now = Instant::now();
        if now >= self.look_at {
            assigned.iter_mut().for_each(|(_, one)| one.idle.since = now);
            self.look_at = now + LOOK_INTERVAL;
        }
    }

    /// Looks for partitions with a backlog of which nothing is read. Returns those to be taken up anew, and where.
    pub(super) fn look(&mut self, client: &GroupClient, assigned: &mut Assigned) -> Vec<(PartitionId, i64)> {
        let now = Instant::now();
        if now < self.look_at {
            return Vec::new();
        }
        self.look_at = now + LOOK_INTERVAL;
        for (_, one) in assigned.iter_mut().filter(|(_, one)| one.is_paused) {
            one.idle.since = now;
        }
        let is_idle = |since: Instant| now.duration_since(since) >= LOOK_INTERVAL;
        let idle: Vec<PartitionId> =
            assigned.iter().filter(|(_, one)| is_idle(one.idle.since)).map(|(id, _)| id.clone()).collect();
        let ends = match offsets::ends(client.consumer(), &idle) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "the ends of idle partitions cannot be read");
                return Vec::new();
            }
        };
        let mut anew = Vec::new();
        for (id, end) in ends {
            let Some(one) = assigned.get_mut(&id) else { continue };
            let next = one.partition.read_to();
            let unread = end - next;
            if unread <= 0 {
                Self::note_read(&self.shared, &id, &mut one.idle, now);
                continue;
            }
            let waited = now.duration_since(one.idle.since);
            let text = format!(
                "nothing is read of partition {}/{} since {} s, though {unread} records wait: it is taken up anew",
                id.0,
                id.1,
                waited.as_secs()
            );
            if !std::mem::replace(&mut one.idle.is_reported, true) {
                tracing::warn!(topic = id.0, partition = id.1, unread, "nothing is read of a partition");
            }
            self.shared.faults.set(&id, Fault::Unread, text);
            if waited >= one.idle.remedy_after {
                let remedy_after = (one.idle.remedy_after * 2).min(LAST_REMEDY_AFTER);
                one.idle = Idle { since: one.idle.since, remedy_after: waited + remedy_after, is_reported: true };
                anew.push((id, next));
            }
        }
        anew
    }
}
