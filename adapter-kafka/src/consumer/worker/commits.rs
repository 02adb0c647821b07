//! Commits: sent as often as is asked for, one at a time, and told to whoever waits for a flush.

use std::time::Instant;

use messaging_core::{ErrorKind, Result};

use super::Worker;
use crate::consumer::intake::End;
use crate::consumer::{metadata, offsets};

impl Worker {
    pub(super) fn commit_if_time(&mut self) {
        let interval = self.intake.settings.connection.options.commit_interval;
        if self.committed.elapsed() >= interval || !self.flushes.is_empty() {
            self.commit_changes();
        }
    }

    /// Sends a commit of what changed, if none is under way. It answers every flush that waits by now.
    pub(super) fn commit_changes(&mut self) {
        if self.committing.is_some() {
            return;
        }
        self.committed = Instant::now();
        let mut changes = Vec::new();
        if self.intake.settings.source.is_some() {
            for (place, held) in &self.held {
                if let Some((offset, metadata)) = held.partition.take_commit(metadata::Ending::Unknown) {
                    changes.push((place.clone(), offset, metadata));
                }
            }
        }
        self.flushing.append(&mut self.flushes);
        if changes.is_empty() {
            return self.answer_flushes(Ok(()));
        }
        self.sent = changes.iter().map(|(place, ..)| place.clone()).collect();
        match offsets::commit_soon(&self.client, &changes) {
            Ok(()) => self.committing = Some(Instant::now()),
            Err(error) => self.note_commit(Err(error)),
        }
    }

    /// Hears how a commit went.
    pub(super) fn note_commit(&mut self, result: Result<()>) {
        let sent = std::mem::take(&mut self.sent);
        let Err(error) = result else { return self.answer_flushes(Ok(())) };
        tracing::debug!(target: "messaging::kafka", %error, "a commit failed");
        for place in sent {
            match self.held.get(&place) {
                Some(held) => held.partition.commit_again(),
                None => self.has_lost = true,
            }
        }
        if error.kind() == ErrorKind::StaleDelivery {
            self.answer_flushes(Err(error));
        } else {
            // The next commit answers them.
            self.flushes.append(&mut self.flushing);
        }
    }

    /// Answers the flushes that the last commit was for.
    fn answer_flushes(&mut self, result: Result<()>) {
        if self.flushing.is_empty() {
            return;
        }
        let told = match result {
            // Told once, to whoever asks first after it.
            Ok(()) if std::mem::take(&mut self.has_lost) => Err(End::new(ErrorKind::StaleDelivery, LOST)),
            Ok(()) => Ok(()),
            Err(error) => Err(End::new(error.kind(), error.text())),
        };
        for flush in self.flushing.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = flush.send(told.clone().map_err(|end| end.error()));
        }
    }
}

/// What a flush says after partitions were taken away whose last commit did not come through.
pub(super) const LOST: &str =
    "partitions went to another member before their last settlements were committed: those come again";
