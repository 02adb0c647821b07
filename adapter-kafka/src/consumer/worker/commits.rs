//! Commits: one at a time, at the configured interval or for a flush, and the answers to flushes.

use std::time::{Duration, Instant};

use adapter_kit::EndReason;
use messaging_core::{Error, ErrorKind, Result};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::assigned::{Assigned, Commit};
use super::client::GroupClient;
use crate::consumer::{Flush, PartitionId, metadata, offsets};
use crate::error::{code_of, from_kafka};

/// Poll timeout while the last commit is awaited.
const LAST_COMMIT_POLL_TIMEOUT: Duration = Duration::from_millis(5);

/// The error of a flush after partitions were taken away whose last commit failed.
pub(super) const LOST_TEXT: &str =
    "partitions went to another member before their last settlements were committed: those come again";

pub(super) struct Commits {
    interval: Duration,
    /// An ephemeral subscription has no group, and commits nothing.
    has_group: bool,
    sent_at: Instant,
    /// The partitions of the commit under way.
    under_way: Option<Vec<PartitionId>>,
    /// Flushes that the next commit answers.
    waiting: Vec<Flush>,
    /// Flushes that the commit under way answers.
    answered_next: Vec<Flush>,
    /// Settlements were lost with partitions that were taken away, and no flush has reported it yet.
    has_lost: bool,
}

impl Commits {
    pub(super) fn new(interval: Duration, has_group: bool) -> Self {
        Self {
            interval,
            has_group,
            sent_at: Instant::now(),
            under_way: None,
            waiting: Vec::new(),
            answered_next: Vec::new(),
            has_lost: false,
        }
    }

    /// True while a flush waits for its answer.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty() || !self.answered_next.is_empty()
    }

    pub(super) fn tick(&mut self, client: &GroupClient, assigned: &Assigned) {
        if self.sent_at.elapsed() >= self.interval || !self.waiting.is_empty() {
            self.send(client, assigned);
        }
    }

    pub(super) fn flush(&mut self, flushes: Vec<Flush>, client: &GroupClient, assigned: &Assigned) {
        if !flushes.is_empty() {
            self.waiting.extend(flushes);
            self.send(client, assigned);
        }
    }

    /// Sends a commit of all that changed, if none is under way. It answers every flush that waits by now.
    fn send(&mut self, client: &GroupClient, assigned: &Assigned) {
        if self.under_way.is_some() {
            return;
        }
        self.sent_at = Instant::now();
        let mut changes: Vec<Commit> = Vec::new();
        if self.has_group {
            for (id, one) in assigned.iter() {
                if let Some((offset, metadata)) = one.partition.take_commit(metadata::Ending::Unknown) {
                    changes.push((id.clone(), offset, metadata));
                }
            }
        }
        self.answered_next.append(&mut self.waiting);
        if changes.is_empty() {
            return self.answer_flushes(Ok(()));
        }
        self.under_way = Some(changes.iter().map(|(id, ..)| id.clone()).collect());
        if let Err(error) = offsets::commit_soon(client.consumer(), &changes) {
            self.note_answer(Err(error), assigned);
        }
    }

    /// Takes the answer to the commit under way.
    pub(super) fn note_answer(&mut self, result: Result<()>, assigned: &Assigned) {
        let sent = self.under_way.take().unwrap_or_default();
        let Err(error) = result else {
            sent.iter().filter_map(|id| assigned.get(id)).for_each(|one| one.partition.note_committed());
            return self.answer_flushes(Ok(()));
        };
        tracing::debug!(%error, "a commit failed");
        for id in sent {
            match assigned.get(&id) {
                Some(one) => one.partition.commit_again(),
                None => self.has_lost = true,
            }
        }
        if error.kind() == ErrorKind::StaleDelivery {
            self.answer_flushes(Err(error));
        }
    }

    /// Answers the flushes that the last commit was for.
    fn answer_flushes(&mut self, result: Result<()>) {
        if self.answered_next.is_empty() {
            return;
        }
        let answer = match result {
            // Reported once, to the first flush after it.
            Ok(()) if std::mem::take(&mut self.has_lost) => Err(EndReason::new(ErrorKind::StaleDelivery, LOST_TEXT)),
            Ok(()) => Ok(()),
            Err(error) => Err(EndReason::new(error.kind(), error.text())),
        };
        for flush in self.answered_next.drain(..) {
            // The caller may have stopped waiting.
            let _ = flush.send(answer.clone().map_err(|end| end.error()));
        }
    }

    /// Commits the last of partitions that are about to go, and waits for the answer.
    pub(super) fn before_leaving(&mut self, client: &GroupClient, last: &[Commit], has_changed: bool) -> Result<()> {
        if last.is_empty() || !self.has_group {
            return Ok(());
        }
        if client.is_assignment_lost() {
            self.has_lost |= has_changed;
            return Err(Error::new(ErrorKind::StaleDelivery, LOST_TEXT));
        }
        let committed = offsets::commit_before_leaving(client.consumer(), last);
        match &committed {
            // The answer to a commit under way does not matter any more: this one is newer.
            Ok(()) => {
                if let Some(under_way) = &mut self.under_way {
                    under_way.retain(|id| last.iter().all(|(gone, ..)| gone != id));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the last commit of revoked partitions failed");
                self.has_lost |= has_changed;
            }
        }
        committed
    }

    /// Commits the last of this member and waits for the answer until `by`: the client's own call would wait for the whole
    /// session. Records that arrive meanwhile are dropped.
    pub(super) fn at_last(&mut self, client: &GroupClient, last: &[Commit], by: tokio::time::Instant) -> Result<()> {
        if last.is_empty() || !self.has_group || client.is_assignment_lost() {
            return Ok(());
        }
        let mut pending = usize::from(self.under_way.is_some());
        offsets::commit_soon(client.consumer(), last)?;
        pending += 1;
        loop {
            // A poll serves the events of the client.
            drop(client.poll(LAST_COMMIT_POLL_TIMEOUT));
            for result in client.reported().commits {
                pending -= 1;
                if pending == 0 {
                    return match result {
                        // There was nothing new to commit.
                        Err(error) if code_of(&error) == Some(Code::NoOffset) => Ok(()),
                        other => other.map_err(|error| from_kafka(offsets::NOT_COMMITTED, &error)),
                    };
                }
            }
            if tokio::time::Instant::now() >= by {
                return Err(Error::new(ErrorKind::Timeout, "the broker did not take the last commit in time"));
            }
        }
    }

    /// Answers every flush that still waits, `late` ones included, with the result of the last commit.
    pub(super) fn finish(&mut self, result: &std::result::Result<(), EndReason>, late: Vec<Flush>) {
        let answer =
            if self.has_lost { Err(EndReason::new(ErrorKind::StaleDelivery, LOST_TEXT)) } else { result.clone() };
        for flush in self.answered_next.drain(..).chain(self.waiting.drain(..)).chain(late) {
            let _ = flush.send(answer.clone().map_err(|end| end.error()));
        }
    }
}
