//! Membership of the group: taking partitions up, and giving them up once what is out of them is settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::{ErrorKind, Event};
use rdkafka::consumer::Consumer as _;

use super::assigned::Assigned;
use super::client::GroupClient;
use super::commits::Commits;
use crate::blocking::REQUEST_TIMEOUT;
use crate::consumer::PartitionId;
use crate::consumer::events::GroupEvent;
use crate::consumer::offsets::{self, Begin};
use crate::consumer::partition::Partition;
use crate::consumer::shared::Shared;
use crate::error::from_kafka;

/// Delay before a failed assignment is retried.
const ASSIGN_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Partitions that go to another member as soon as what is out of them is settled.
struct Leaving {
    ids: Vec<PartitionId>,
    deadline: Instant,
}

pub(super) struct Membership {
    shared: Arc<Shared>,
    leaving: Option<Leaving>,
    /// Partitions that were assigned and whose offsets could not be read yet.
    joining: Vec<PartitionId>,
    join_at: Option<Instant>,
}

impl Membership {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, leaving: None, joining: Vec::new(), join_at: None }
    }

    /// True while the group waits for this member to take partitions or to give them up.
    pub(super) fn is_rebalancing(&self) -> bool {
        self.leaving.is_some() || !self.joining.is_empty()
    }

    pub(super) fn apply(
        &mut self,
        event: GroupEvent,
        client: &GroupClient,
        assigned: &mut Assigned,
        commits: &mut Commits,
    ) {
        match event {
            GroupEvent::Assigned(ids) => {
                if self.shared.feed.progress.borrow().has_joined {
                    self.shared.outlet.report(Event::Rebalanced);
                }
                self.joining.retain(|id| !ids.contains(id));
                self.joining.extend(ids);
                self.join(client, assigned);
            }
            GroupEvent::Revoked(ids) => {
                self.shared.outlet.report(Event::Rebalanced);
                self.joining.retain(|id| !ids.contains(id));
                self.begin_to_leave(ids, client, assigned);
                self.tick(client, assigned, commits);
            }
        }
    }

    /// Retries a failed assignment, and gives up what is settled or past its time.
    pub(super) fn tick(&mut self, client: &GroupClient, assigned: &mut Assigned, commits: &mut Commits) {
        if !self.joining.is_empty() && self.join_at.is_some_and(|at| Instant::now() >= at) {
            self.join(client, assigned);
        }
        let Some(Leaving { ids, deadline }) = &self.leaving else { return };
        let is_out = |id: &PartitionId| assigned.get(id).is_some_and(|one| one.partition.out() > 0);
        if Instant::now() < *deadline && ids.iter().any(is_out) {
            return;
        }
        let Some(Leaving { ids, .. }) = self.leaving.take() else { return };
        let has_changed = assigned.any_changed(&ids);
        let partitions: Vec<_> =
            ids.iter().filter_map(|id| assigned.get(id)).map(|one| Arc::clone(&one.partition)).collect();
        let last = assigned.remove(&ids);
        if commits.before_leaving(client, &last, has_changed).is_ok() {
            partitions.iter().for_each(|partition| partition.note_committed());
        }
        self.shared.feed.note_unconfirmed(partitions.iter().map(|partition| partition.unconfirmed()).sum());
        client.give_up(&ids);
    }

    /// Takes up partitions that were assigned.
    fn join(&mut self, client: &GroupClient, assigned: &mut Assigned) {
        let ids = std::mem::take(&mut self.joining);
        let error = match offsets::begin(client.consumer(), &ids) {
            Ok(begins) => return self.take_up(begins, client, assigned),
            Err(error) => error,
        };
        tracing::debug!(%error, "partitions cannot be taken up yet");
        if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Conflict) {
            // The group has gone on, with this member or without. The client does nothing about it before the assignment is
            // answered, so it is, with nothing. Where the partitions are this member's all the same, its commit is taken once the
            // client knows the group's new epoch; where they are not, they are revoked.
            self.take_up(Vec::new(), client, assigned);
        } else {
            // The client does not know partitions that were just added before it looks again.
            let _ = client.consumer().fetch_metadata(Some(&self.shared.settings.topics.main), REQUEST_TIMEOUT);
        }
        self.joining = ids;
        self.join_at = Some(Instant::now() + ASSIGN_RETRY_DELAY);
    }

    fn take_up(&self, begins: Vec<Begin>, client: &GroupClient, assigned: &mut Assigned) {
        let starts = begins.iter().map(|begin| (begin.id.clone(), begin.offset)).collect::<Vec<_>>();
        let taken = offsets::list(starts).and_then(|list| {
            client.take_up(&list).map_err(|error| from_kafka("partitions cannot be taken up", &error))
        });
        if let Err(error) = taken {
            tracing::warn!(%error, "partitions cannot be taken up");
        }
        let has_any = !begins.is_empty();
        for Begin { id, offset, past } in begins {
            assigned.add(id, offset, past);
        }
        if has_any {
            self.shared.feed.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.has_joined, true));
        }
    }

    /// Stops handing out of partitions that go to another member, and gives what is out of them time.
    fn begin_to_leave(&mut self, mut ids: Vec<PartitionId>, client: &GroupClient, assigned: &mut Assigned) {
        // The client refuses to let go of what was never taken up; nothing is an answer too.
        ids.retain(|id| assigned.contains(id));
        for id in &ids {
            let Some(one) = assigned.get_mut(id) else { continue };
            one.partition.window.lock().is_leaving = true;
            one.suspects.clear();
        }
        self.shared.withhold(Partition::is_leaving);
        let wait = if client.is_assignment_lost() {
            Duration::ZERO
        } else {
            self.shared.settings.connection.options.revoke_wait
        };
        self.leaving = Some(Leaving { ids, deadline: Instant::now() + wait });
    }

    /// Gives up at once what is about to go, at the end of this member. Returns what is to be committed of it.
    pub(super) fn leave_now(&mut self) -> Vec<PartitionId> {
        self.leaving.take().map(|leaving| leaving.ids).unwrap_or_default()
    }
}
