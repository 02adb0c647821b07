//! The polling thread of a consumer: the only one that talks to its client.
//!
//! The parts know nothing of each other. Each has its own fields, and gets the client and the assigned partitions for a call; the
//! loop here decides their order.

mod assigned;
mod client;
mod commits;
mod membership;
mod reading;
mod reconnection;
mod recovery;
mod suspects;
mod watch;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use adapter_kit::EndReason;
use messaging_core::{Error, ErrorKind, Event, Flow};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;

use self::assigned::Assigned;
pub(super) use self::client::GroupClient;
use self::commits::{Commits, LOST_TEXT};
use self::membership::Membership;
use self::reading::{Problem, Reading};
use self::reconnection::Reconnection;
use self::recovery::Recovery;
use self::suspects::release_suspects;
use self::watch::BacklogWatch;
use crate::blocking::REQUEST_TIMEOUT;
use crate::config::GroupProtocol;
use crate::consumer::PartitionId;
use crate::consumer::events::Reported;
use crate::consumer::faults::Fault;
use crate::consumer::metadata::{Ending, Metadata};
use crate::consumer::offsets;
use crate::consumer::shared::{Orders, Shared};
use crate::error::{code_of, from_code, from_kafka, is_passing};

/// Poll timeout while nothing is pending.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// Poll timeout while a commit, a rebalance or a flush is pending.
const BUSY_POLL_TIMEOUT: Duration = Duration::from_millis(5);
/// Time limit of the last commit where the caller gives none.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the thread's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerEnd {
    Over,
    /// The broker does not know the protocol that was tried.
    WrongProtocol,
}

pub(super) struct Worker {
    client: GroupClient,
    shared: Arc<Shared>,
    protocol: GroupProtocol,
    is_refused: bool,
    assigned: Assigned,
    reading: Reading,
    membership: Membership,
    commits: Commits,
    recovery: Recovery,
    reconnection: Reconnection,
    watch: BacklogWatch,
}

impl Worker {
    pub(super) fn new(mut client: GroupClient, shared: Arc<Shared>, protocol: GroupProtocol) -> Self {
        *shared.feed.queue_waker.lock() = Some(client.waker());
        let interval = shared.settings.connection.options.commit_interval;
        Self {
            client,
            protocol,
            is_refused: false,
            assigned: Assigned::new(Arc::clone(&shared)),
            reading: Reading::new(Arc::clone(&shared)),
            membership: Membership::new(Arc::clone(&shared)),
            commits: Commits::new(interval, shared.settings.source.is_some()),
            recovery: Recovery::new(Arc::clone(&shared)),
            reconnection: Reconnection::new(Arc::clone(&shared)),
            watch: BacklogWatch::new(Arc::clone(&shared)),
            shared,
        }
    }

    /// Adds partitions that were assigned by hand.
    pub(super) fn add(&mut self, begins: Vec<(PartitionId, i64)>) {
        for (id, offset) in begins {
            self.assigned.add(id, offset, Metadata::new(Ending::Clean));
        }
    }

    /// Runs until the consumer is stopped and has nothing out any more, is asked to leave, or cannot go on.
    pub(super) fn run(mut self) -> WorkerEnd {
        // Reports before the client is dropped, which may take long.
        let _guard = PanicGuard(Arc::clone(&self.shared));
        while !self.is_over() {
            self.apply_orders();
            let now = tokio::time::Instant::now();
            let due = self.shared.outlet.release_due(now);
            self.membership.tick(&self.client, &mut self.assigned, &mut self.commits);
            self.commits.tick(&self.client, &self.assigned);
            release_suspects(&self.shared, &self.client, &mut self.assigned);
            if self.reconnection.tick(&self.client) {
                if self.shared.settings.source.is_none() {
                    self.recovery.skip_missed(&self.client, &self.assigned);
                }
                self.shared.outlet.back();
            }
            self.serve_events();
            self.apply_reported();
            if !self.membership.is_rebalancing() {
                self.recovery.recover_stalled(&self.client, &mut self.assigned);
            }
            if self.reading.update_pauses(&self.client, &mut self.assigned) {
                self.recovery.verify_soon();
            }
            let has_room = self.shared.outlet.has_room();
            self.look_for_unread(has_room);
            let is_busy = self.membership.is_rebalancing() || self.commits.is_awaited() || self.assigned.has_suspects();
            let wait = match due {
                _ if is_busy => BUSY_POLL_TIMEOUT,
                Some(due) => due.duration_since(now).clamp(Duration::from_millis(1), POLL_TIMEOUT),
                None => POLL_TIMEOUT,
            };
            if has_room {
                let problems = self.reading.read(&mut self.client, &mut self.assigned, wait);
                problems.into_iter().for_each(|problem| self.note_problem(problem));
            } else {
                thread::park_timeout(wait);
            }
        }
        if self.is_refused {
            self.client.close_events();
            drop(self.shared.feed.queue_waker.lock().take());
            return WorkerEnd::WrongProtocol;
        }
        self.leave();
        WorkerEnd::Over
    }

    fn is_over(&self) -> bool {
        let is_done = self.shared.outlet.flow() == Flow::Stopped && self.shared.outlet.unsettled() == 0;
        // A flush that waits is answered by the last commit.
        is_done || self.is_refused || self.shared.outlet.is_dropped() || self.shared.feed.orders.lock().leave
    }

    fn apply_orders(&mut self) {
        let (flushes, purges) = {
            let mut orders = self.shared.feed.orders.lock();
            (std::mem::take(&mut orders.flushes), std::mem::take(&mut orders.purges))
        };
        self.commits.flush(flushes, &self.client, &self.assigned);
        for purged in purges {
            let _ = purged.send(self.recovery.skip_to_end(&self.client, &mut self.assigned));
        }
    }

    /// Serves the client's events: of the group, of commits, of errors. It is also the client's sign that this member lives,
    /// whether or not there is room for records.
    fn serve_events(&mut self) {
        loop {
            match self.client.poll(Duration::ZERO) {
                Some(Ok(record)) => drop(self.reading.take_one((&record).into(), &mut self.assigned)),
                Some(Err(error)) => {
                    let is_fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                    match code_of(&error) {
                        _ if is_fatal => self.end_for_good(),
                        Some(code) => self.note_problem(Problem::of_client(code)),
                        None => {}
                    }
                }
                None => {}
            }
            if !self.client.has_events() {
                return;
            }
        }
    }

    /// Acts on what the client has reported since the last call.
    fn apply_reported(&mut self) {
        let Reported { group, commits, cut, disturbed, is_in_doubt, is_fatal } = self.client.reported();
        if let Some(why) = cut {
            self.shared.outlet.lost(why);
        }
        // An ephemeral subscription loses nothing with a connection that it does not read from.
        if let Some(why) = disturbed.filter(|_| self.shared.settings.source.is_some()) {
            self.shared.outlet.lost(why);
        }
        for result in commits {
            let result = result.map_err(|error| from_kafka(offsets::NOT_COMMITTED, &error));
            self.commits.note_answer(result, &self.assigned);
        }
        if !group.is_empty() {
            // The client pauses while the group shares out, and may lose its own report of a partition where it stopped.
            self.recovery.mark_all_unverified(&mut self.assigned);
        }
        for event in group {
            self.membership.apply(event, &self.client, &mut self.assigned, &mut self.commits);
        }
        if is_in_doubt {
            self.check_topic();
        }
        if is_fatal {
            self.end_for_good();
        }
    }

    fn look_for_unread(&mut self, has_room: bool) {
        if !has_room || self.reconnection.is_lost() || self.membership.is_rebalancing() {
            return self.watch.rest(&mut self.assigned);
        }
        let anew = self.watch.look(&self.client, &mut self.assigned);
        if let Err(error) = self.client.take_up_anew(&anew, self.assigned.positions()) {
            tracing::warn!(%error, "partitions of which nothing is read cannot be taken up anew");
        }
    }

    /// The client cannot go on.
    fn end_for_good(&mut self) {
        let (code, reason) = self.client.fatal_error().unwrap_or((Code::Fatal, String::new()));
        let is_unknown = matches!(code, Code::UnsupportedFeature | Code::UnsupportedVersion);
        if is_unknown && self.protocol == GroupProtocol::Auto && !self.shared.feed.progress.borrow().has_joined {
            self.is_refused = true;
            return;
        }
        let error = from_code("the consumer cannot go on", code);
        self.shared.outlet.end(EndReason::new(error.kind(), format!("{} ({reason})", error.text())));
    }

    fn note_problem(&mut self, problem: Problem) {
        match problem.code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => self.check_topic(),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.recovery.mark_all_unverified(&mut self.assigned),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                let error = from_code("the consumer cannot go on", problem.code);
                self.shared.outlet.end(EndReason::new(error.kind(), error.text()));
            }
            code @ (Code::BrokerTransportFailure | Code::AllBrokersDown) => self.shared.outlet.lost(code.to_string()),
            code if is_passing(code) => {}
            code => match problem.at {
                Some((id, offset)) => self.note_unreadable(&id, offset, code, &problem.text),
                None => tracing::warn!(%code, text = problem.text, "a poll failed"),
            },
        }
    }

    /// The client cannot read a record, and tries it again for ever.
    fn note_unreadable(&mut self, id: &PartitionId, offset: i64, code: Code, why: &str) {
        let Some(one) = self.assigned.get_mut(id) else { return };
        one.unreadable = Some(offset);
        let text = format!(
            "partition {}/{} cannot be read at offset {offset}: {code} ({why}): move the group past it with kafka-consumer-groups \
             --reset-offsets once its consumers are stopped, or have the record removed",
            id.0, id.1
        );
        if self.shared.faults.set(id, Fault::Unreadable, text) {
            tracing::warn!(topic = id.0, partition = id.1, offset, %code, why, "a record cannot be read");
            self.shared.outlet.report(Event::Gap { missed: None });
        }
    }

    /// Ends the consumer if its topic is gone, or not for it to read.
    fn check_topic(&mut self) {
        let main = &self.shared.settings.topics.main;
        let Ok(metadata) = self.client.consumer().fetch_metadata(Some(main), REQUEST_TIMEOUT) else { return };
        let is_forbidden =
            |topic: &MetadataTopic| topic.error().map(Code::from) == Some(Code::TopicAuthorizationFailed);
        if metadata.topics().iter().any(is_forbidden) {
            let error = from_code("the consumer cannot go on", Code::TopicAuthorizationFailed);
            return self.shared.outlet.end(EndReason::new(error.kind(), error.text()));
        }
        let is_gone = metadata.topics().iter().all(|topic| topic.error().is_some() || topic.partitions().is_empty());
        if is_gone {
            let text = format!("topic {main:?} was deleted while it was consumed: create it and consume again");
            self.shared.outlet.end(EndReason::new(ErrorKind::NotFound, text));
        }
    }

    /// Commits for the last time and leaves the group. This thread alone waits for a dead broker.
    fn leave(mut self) {
        self.shared.withhold(|_| true);
        // From here on the group's events need no answer.
        self.client.close_events();
        let leaving = self.membership.leave_now();
        let partitions: Vec<_> = self.assigned.iter().map(|(_, one)| Arc::clone(&one.partition)).collect();
        let ids = self.assigned.ids();
        let has_changed = self.assigned.any_changed(&ids);
        let last = self.assigned.remove(&ids);
        if !leaving.is_empty() {
            self.client.give_up(&leaving);
        }
        let by = self
            .shared
            .feed
            .orders
            .lock()
            .leave_by
            .unwrap_or_else(|| tokio::time::Instant::now() + LAST_COMMIT_TIMEOUT);
        let mut result = self.commits.at_last(&self.client, &last, by);
        if result.is_ok() && has_changed && self.client.is_assignment_lost() {
            result = Err(Error::new(ErrorKind::StaleDelivery, LOST_TEXT));
        }
        if result.is_ok() {
            partitions.iter().for_each(|partition| partition.note_committed());
        }
        self.shared.feed.note_unconfirmed(partitions.iter().map(|partition| partition.unconfirmed()).sum());
        let is_silent =
            self.reconnection.is_lost() || result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout);
        let result = result.map_err(|error| EndReason::new(error.kind(), error.text()));
        self.shared.feed.progress.send_modify(|progress| progress.committed = Some(result.clone()));
        let Orders { flushes: late, purges, .. } = std::mem::take(&mut *self.shared.feed.orders.lock());
        // The end of the channel says that a purge came too late.
        drop(purges);
        self.commits.finish(&result, late);
        drop(self.shared.feed.queue_waker.lock().take());
        self.client.end(is_silent);
        self.shared.feed.progress.send_modify(|progress| progress.has_left = true);
    }
}

#[cfg(test)]
mod tests;

/// Ends the consumer with an error if its polling thread panics; otherwise the application would wait for ever.
pub(super) struct PanicGuard(pub(super) Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let Shared { outlet, feed, .. } = &*self.0;
        // Before the client is dropped, which it must not outlive.
        drop(feed.queue_waker.lock().take());
        outlet.end(EndReason::new(ErrorKind::Internal, "the consumer's thread has died: consume again"));
        // Nobody is left to hand these out or to settle them.
        self.0.withhold(|_| true);
        feed.partitions().iter().for_each(|partition| self.0.remove_partition(partition));
        feed.progress.send_modify(|progress| progress.has_left = true);
    }
}
