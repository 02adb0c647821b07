//! Commits: sent as often as is asked for, one at a time, and told to whoever waits for a flush.

use std::time::Instant;

use messaging_core::{Error, ErrorKind, Result};

use super::Worker;
use crate::consumer::{metadata, offsets};

impl Worker {
    pub(super) fn commit_if_time(&mut self) {
        let interval = self.intake.settings.connection.options.commit_interval;
        if self.committed.elapsed() >= interval || !self.flushes.is_empty() {
            self.commit_changes();
        }
    }

    /// Sends a commit of what changed, if none is under way.
    pub(super) fn commit_changes(&mut self) {
        if self.intake.settings.source.is_none() {
            return self.answer_flushes(|| Ok(()));
        }
        if self.committing.is_some() {
            return;
        }
        self.committed = Instant::now();
        let mut changes = Vec::new();
        for (place, held) in &self.held {
            if let Some((offset, metadata)) = held.partition.take_commit(metadata::Ending::Unknown) {
                changes.push((place.clone(), offset, metadata));
            }
        }
        if changes.is_empty() {
            return self.answer_flushes(|| Ok(()));
        }
        match offsets::commit_soon(&self.client, &changes) {
            Ok(()) => self.committing = Some(Instant::now()),
            Err(error) => self.note_commit(Err(error)),
        }
    }

    pub(super) fn note_commit(&mut self, result: Result<()>) {
        match result {
            Ok(()) => {
                if !self.held.values().any(|held| held.partition.has_changed()) {
                    self.answer_flushes(|| Ok(()));
                }
            }
            Err(error) => {
                tracing::debug!(target: "messaging::kafka", %error, "a commit failed");
                self.held.values().for_each(|held| held.partition.commit_again());
                if error.kind() == ErrorKind::StaleDelivery {
                    let text = error.text().to_owned();
                    self.answer_flushes(|| Err(Error::new(ErrorKind::StaleDelivery, text.clone())));
                }
            }
        }
    }

    pub(super) fn answer_flushes(&mut self, mut answer: impl FnMut() -> Result<()>) {
        for flush in self.flushes.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = flush.send(answer());
        }
    }
}
