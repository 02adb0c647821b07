//! Taking partitions up and giving them up, one by one and at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::{Error, ErrorKind, Result};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::commits::LOST;
use super::{AGAIN, Held, LAST, Leaving, Place, SOON, Worker};
use crate::consumer::group::{give_up, take_up};
use crate::consumer::intake::{End, Orders};
use crate::consumer::metadata;
use crate::consumer::offsets::{self, Begin};
use crate::consumer::partition::Partition;
use crate::error::{code_of, from_kafka};
use crate::raw::end_without_goodbye;

impl Worker {
    /// Takes up partitions that were assigned.
    pub(super) fn join(&mut self) {
        let places = std::mem::take(&mut self.joining);
        let error = match offsets::begin(&self.client, &places) {
            Ok(begins) => return self.take_up(begins),
            Err(error) => error,
        };
        tracing::debug!(target: "messaging::kafka", %error, "partitions cannot be taken up yet");
        if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Conflict) {
            // The group has gone on, with this member or without. The client does nothing about it before the assignment is
            // answered, and so it is, with nothing. Where the partitions are this member's all the same, its commit is taken once
            // the client has heard of the group's new epoch; where they are not, they are revoked.
            self.take_up(Vec::new());
        } else {
            // Partitions that were just added are not known to the client before it looks again.
            let _ = self.client.fetch_metadata(Some(&self.intake.settings.topics.main), offsets::ASK);
        }
        self.joining = places;
        self.join_again = Some(Instant::now() + AGAIN);
    }

    pub(super) fn take_up(&mut self, begins: Vec<Begin>) {
        let starts = begins.iter().map(|begin| (begin.place.clone(), begin.offset)).collect::<Vec<_>>();
        let taken = offsets::list(starts).and_then(|list| {
            take_up(&self.client, &self.fetch, &list)
                .map_err(|error| from_kafka("partitions cannot be taken up", &error))
        });
        if let Err(error) = taken {
            tracing::warn!(target: "messaging::kafka", %error, "partitions cannot be taken up");
        }
        let has_any = !begins.is_empty();
        for Begin { place, offset, past } in begins {
            self.hold_one(place, offset, past);
        }
        if has_any {
            self.intake.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.has_joined, true));
        }
    }

    /// Stops handing out of partitions that go to somebody else, and gives what is out of them time.
    pub(super) fn begin_to_leave(&mut self, mut places: Vec<Place>) {
        // The client refuses to let go of what was never taken up; nothing is an answer too.
        places.retain(|place| self.held.contains_key(place));
        for place in &places {
            let Some(held) = self.held.get_mut(place) else { continue };
            held.partition.ring.lock().is_leaving = true;
            held.suspects.clear();
        }
        self.intake.withhold(Partition::is_leaving);
        let is_lost = self.client.assignment_lost();
        let wait = if is_lost { Duration::ZERO } else { self.intake.settings.connection.options.revoke_wait };
        self.leaving = Some(Leaving { places, deadline: Instant::now() + wait });
        self.let_go_of_leaving();
    }

    pub(super) fn let_go_of_leaving(&mut self) {
        let Some(Leaving { places, deadline }) = &self.leaving else { return };
        let is_out = |place: &Place| self.held.get(place).is_some_and(|held| held.partition.out() > 0);
        if Instant::now() < *deadline && places.iter().any(is_out) {
            return;
        }
        let Some(Leaving { places, .. }) = self.leaving.take() else { return };
        self.end_partitions(&places);
        give_up(&self.client, &offsets::places(&places));
    }

    /// Ends this member's part in some partitions: what was settled is committed, the rest is stale from now on.
    pub(super) fn end_partitions(&mut self, places: &[Place]) {
        let is_mine = |place: &Place| self.held.get(place).is_some_and(|held| held.partition.has_changed());
        let has_changed = places.iter().any(is_mine);
        let last = self.kill(places);
        if last.is_empty() || self.intake.settings.source.is_none() {
            return;
        }
        if self.client.assignment_lost() {
            self.has_lost |= has_changed;
            return;
        }
        match offsets::commit_before_leaving(&self.client, &last) {
            // Whatever becomes of a commit under way: this one is newer.
            Ok(()) => self.sent.retain(|place| !places.contains(place)),
            Err(error) => {
                tracing::debug!(target: "messaging::kafka", %error, "the last commit of revoked partitions failed");
                self.has_lost |= has_changed;
            }
        }
    }

    /// Takes partitions out; gives what is to be committed of them.
    pub(super) fn kill(&mut self, places: &[Place]) -> Vec<(Place, i64, metadata::Metadata)> {
        let mut last = Vec::new();
        for place in places {
            let Some(Held { partition, .. }) = self.held.remove(place) else { continue };
            let still_out = partition.kill();
            // Nobody can settle these any more: their places come free now.
            self.intake.freed(still_out, false);
            if let Some((offset, metadata)) = partition.take_commit(metadata::Ending::Clean) {
                last.push((place.clone(), offset, metadata));
            }
            self.intake.partitions.lock().retain(|known| !Arc::ptr_eq(known, &partition));
        }
        last
    }

    /// The last things: commits, and leaves the group. Whatever waits on a dead broker waits here, on a thread of its own.
    pub(super) fn leave(mut self) {
        self.intake.withhold(|_| true);
        // From here on what the group says needs no answer.
        self.ear.close();
        let mut last = Vec::new();
        if let Some(Leaving { places, .. }) = self.leaving.take() {
            last.extend(self.kill(&places));
            give_up(&self.client, &offsets::places(&places));
        }
        let all: Vec<Place> = self.held.keys().cloned().collect();
        let has_changed = self.held.values().any(|held| held.partition.has_changed());
        last.extend(self.kill(&all));
        let mut result = self.commit_at_last(&last);
        if result.is_ok() && has_changed && self.client.assignment_lost() {
            result = Err(Error::new(ErrorKind::StaleDelivery, LOST));
        }
        let is_silent = self.is_cut || result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout);
        let told = result.map_err(|error| End::new(error.kind(), error.text()));
        self.intake.progress.send_modify(|progress| progress.committed = Some(told.clone()));
        let Orders { flushes: late, purges, .. } = std::mem::take(&mut *self.intake.orders.lock());
        // Whoever asked learns by the end of the channel that it came too late.
        drop(purges);
        let waiting = self.flushing.drain(..).chain(self.flushes.drain(..)).chain(late);
        let lost = || Err(Error::new(ErrorKind::StaleDelivery, LOST));
        for flush in waiting {
            let _ = flush.send(if self.has_lost { lost() } else { told.clone().map_err(|end| end.error()) });
        }
        drop(self.intake.bell.lock().take());
        drop(self.fetch);
        if is_silent {
            end_without_goodbye(self.client);
        } else {
            drop(self.client);
        }
        self.intake.progress.send_modify(|progress| progress.has_left = true);
    }

    /// Commits, and waits for the answer no longer than [`LAST`]: the client's own call would wait for the whole session. What is
    /// read meanwhile is of nobody.
    pub(super) fn commit_at_last(&mut self, last: &[(Place, i64, metadata::Metadata)]) -> Result<()> {
        if last.is_empty() || self.intake.settings.source.is_none() || self.client.assignment_lost() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut pending = usize::from(self.committing.is_some());
        offsets::commit_soon(&self.client, last)?;
        pending += 1;
        while begun.elapsed() < LAST {
            // A poll serves the events of the client.
            drop(self.client.poll(SOON));
            for result in self.ear.listen().commits {
                pending -= 1;
                if pending == 0 {
                    return match result {
                        // There was nothing new to commit.
                        Err(error) if code_of(&error) == Some(Code::NoOffset) => Ok(()),
                        other => other.map_err(|error| from_kafka(offsets::NOT_COMMITTED, &error)),
                    };
                }
            }
        }
        Err(Error::new(ErrorKind::Timeout, "the broker did not take the last commit in time"))
    }
}
