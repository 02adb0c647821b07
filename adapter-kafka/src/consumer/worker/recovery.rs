//! Going on at another offset: past records that are to be skipped, and where the client stopped by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::{Event, Result};

use super::assigned::Assigned;
use super::client::GroupClient;
use crate::consumer::PartitionId;
use crate::consumer::metadata::{Ending, Metadata};
use crate::consumer::offsets;
use crate::consumer::partition::Partition;
use crate::consumer::shared::Shared;

/// Delay before a failed look at unverified partitions is repeated.
const VERIFY_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Goes on at other offsets, which are never before what was read; the records between count as settled.
pub(super) fn restart_at(client: &GroupClient, assigned: &Assigned, positions: &[(PartitionId, i64)]) -> Result<()> {
    let stopped = client.seek(positions)?;
    client.take_up_anew(&stopped, assigned.positions())?;
    assigned.skip_to(positions);
    Ok(())
}

pub(super) struct Recovery {
    shared: Arc<Shared>,
    verify_at: Option<Instant>,
}

impl Recovery {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, verify_at: None }
    }

    /// Looks at the partitions that are marked as unverified, as soon as the group allows it.
    pub(super) fn verify_soon(&mut self) {
        self.verify_at = Some(Instant::now());
    }

    /// Marks every partition as unverified: the client may have stopped at any of them.
    pub(super) fn mark_all_unverified(&mut self, assigned: &mut Assigned) {
        assigned.iter_mut().for_each(|(_, one)| one.is_unverified = true);
        self.verify_soon();
    }

    /// Restarts partitions where the client stopped: where it read, the log was cut off at its beginning or at its end. It goes on
    /// at what is left, and what is lost is reported as a gap.
    ///
    /// The client reports this once and without the place, and forgets to if the partition is paused meanwhile. A seek to where a
    /// partition is anyway shows it: the client refuses the seek where it stopped.
    pub(super) fn recover_stalled(&mut self, client: &GroupClient, assigned: &mut Assigned) {
        if self.verify_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.verify_at = None;
        if let Err(error) = self.restart_stopped(client, assigned) {
            tracing::debug!(%error, "whether all partitions are read cannot be seen yet");
            self.verify_at = Some(Instant::now() + VERIFY_RETRY_DELAY);
        }
    }

    fn restart_stopped(&self, client: &GroupClient, assigned: &mut Assigned) -> Result<()> {
        let unverified = assigned.iter().filter(|(_, one)| one.is_unverified);
        let positions: Vec<_> = unverified.map(|(id, one)| (id.clone(), one.partition.read_to())).collect();
        let stopped = client.seek(&positions)?;
        let (mut onward, mut back, mut missed) = (Vec::new(), Vec::new(), 0);
        for (id, at) in stopped {
            let (low, end) = offsets::watermarks(client.consumer(), &id)?;
            if at > end {
                back.push((id, end));
            } else {
                missed += u64::try_from(low - at).unwrap_or(0);
                onward.push((id, at.max(low)));
            }
        }
        let is_shorter = !back.is_empty();
        let mut restarted = onward.clone();
        restarted.extend(back.into_iter().filter_map(|(id, end)| self.go_back(assigned, id, end)));
        client.take_up_anew(&restarted, assigned.positions())?;
        assigned.skip_to(&onward);
        assigned.iter_mut().for_each(|(_, one)| one.is_unverified = false);
        if missed > 0 {
            tracing::warn!(missed, "messages were deleted before they were consumed");
            self.shared.outlet.report(Event::Gap { missed: Some(missed) });
        }
        if is_shorter {
            tracing::warn!("a log ends before what was read of it: what is new may be missed");
            self.shared.outlet.report(Event::Gap { missed: None });
        }
        Ok(())
    }

    /// A log that ends before what was read of it, after an unclean election, goes on with offsets that were given out before:
    /// what is out is stale, and what was not settled is read again where it is still there.
    fn go_back(&self, assigned: &mut Assigned, id: PartitionId, end: i64) -> Option<(PartitionId, i64)> {
        let one = assigned.get_mut(&id)?;
        one.partition.window.lock().is_leaving = true;
        let (_, open) = one.partition.position();
        self.shared.withhold(Partition::is_leaving);
        assigned.remove(std::slice::from_ref(&id));
        let offset = open.min(end);
        assigned.add(id.clone(), offset, Metadata::new(Ending::Clean));
        if let Some(one) = assigned.get(&id) {
            // The committed offset may lie past the end.
            one.partition.commit_again();
        }
        Some((id, offset))
    }

    /// Skips to the ends of an ephemeral subscription, which sees nothing from while it was cut off, and reports how much that was.
    pub(super) fn skip_missed(&self, client: &GroupClient, assigned: &Assigned) {
        let mut missed = u64::try_from(self.shared.discard()).unwrap_or(0);
        let mut ends = Vec::new();
        for (id, one) in assigned.iter() {
            let Ok((_, end)) = offsets::watermarks(client.consumer(), id) else { continue };
            let at = one.partition.read_to();
            missed += u64::try_from(end - at).unwrap_or(0);
            ends.push((id.clone(), end.max(at)));
        }
        if let Err(error) = restart_at(client, assigned, &ends) {
            tracing::warn!(%error, "an ephemeral subscription cannot go on at the end");
        }
        self.shared.outlet.report(Event::Gap { missed: Some(missed) });
    }

    /// Passes over all that waits.
    pub(super) fn skip_to_end(&self, client: &GroupClient, assigned: &mut Assigned) -> Result<()> {
        self.shared.discard();
        let mut ends = Vec::new();
        for (id, one) in assigned.iter_mut() {
            one.suspects.drain(..).for_each(|item| one.partition.pass_over(item.offset));
            let (_, end) = offsets::watermarks(client.consumer(), id)?;
            ends.push((id.clone(), end.max(one.partition.read_to())));
        }
        restart_at(client, assigned, &ends)
    }
}
