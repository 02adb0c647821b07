//! Reading on as long as there is room, and giving the group its turn when there is none.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use messaging_core::wire::to_millis;
use messaging_core::{Flow, Order};
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::{BATCH, DELAYED, Held, PATIENCE, SPAN, Worker};
use crate::consumer::intake::Item;
use crate::consumer::offsets;
use crate::consumer::partition::{Lane, Read};
use crate::convert::{Arena, decode};

impl Worker {
    /// Whether there is room to read on; pauses the partitions when there is none for long, and resumes them.
    pub(super) fn make_room(&mut self) -> bool {
        let waiting = self.intake.waiting();
        let is_full = if self.full.is_some() { waiting.is_still_enough() } else { waiting.is_enough() };
        let is_full = is_full || self.intake.flow() != Flow::Running;
        self.intake.is_full.store(is_full, Ordering::Relaxed);
        if !is_full {
            self.full = None;
            self.is_paused = false;
            self.pause_as_needed(waiting.delayed);
            return true;
        }
        let since = *self.full.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE || self.is_busy() {
            self.is_paused = true;
            self.pause_as_needed(waiting.delayed);
        }
        false
    }

    /// Pauses and resumes partitions: all while nothing can be taken in, one that ran too far ahead of its lowest open offset,
    /// and delayed ones while too many wait already.
    pub(super) fn pause_as_needed(&mut self, delayed: usize) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (place, held) in &mut self.held {
            let span = held.partition.ring.lock().span();
            let far = span >= if held.is_paused { SPAN / 2 } else { SPAN };
            let late =
                held.partition.lane != Lane::Main && delayed >= if held.is_paused { DELAYED / 2 } else { DELAYED };
            let suspects = held.suspects.len() >= if held.is_paused { BATCH / 2 } else { BATCH };
            let wanted = self.is_paused || far || late || suspects;
            if wanted != held.is_paused {
                held.is_paused = wanted;
                if wanted { pause.push(place) } else { resume.push(place) }
            }
        }
        if !pause.is_empty()
            && let Err(error) = self.client.pause(&offsets::places(pause))
        {
            tracing::warn!(target: "messaging::kafka", %error, "partitions cannot be paused");
        }
        if !resume.is_empty()
            && let Err(error) = self.client.resume(&offsets::places(resume))
        {
            tracing::warn!(target: "messaging::kafka", %error, "partitions cannot be resumed");
        }
    }

    /// Takes in what is there, waiting up to `wait` for the first.
    pub(super) fn read(&mut self, mut wait: Duration) {
        let now = to_millis(SystemTime::now());
        let mut trouble = None;
        let mut batch = std::mem::take(&mut self.batch);
        let Self { client, held, arena, .. } = self;
        // Records come in runs of one partition: it is looked up once a run.
        let mut run: Option<(*const (), i32)> = None;
        let mut of_run: Option<&mut Held> = None;
        let mut count = 0;
        while count < BATCH {
            match client.poll(wait) {
                Some(Ok(record)) => {
                    count += 1;
                    let place = (record.topic_ptr() as *const (), record.partition());
                    if run != Some(place) {
                        run = Some(place);
                        of_run = held.get_mut(&(record.topic().to_owned(), record.partition()));
                        of_run = of_run.filter(|held| held.partition.is_wanted());
                    }
                    if let Some(held) = &mut of_run {
                        take_in(held, &record, arena, now, &mut batch);
                    }
                }
                Some(Err(error)) => {
                    trouble = Some(error);
                    break;
                }
                None if wait.is_zero() => break,
                None => {}
            }
            wait = Duration::ZERO;
        }
        // Before any of them can be settled.
        for held in held.values_mut().filter(|held| !held.read.is_empty()) {
            held.partition.note_read(held.read.drain(..));
        }
        // The oldest first; messages of one partition stay as they were.
        batch.sort_by_key(|item| item.rank);
        if !batch.is_empty() {
            self.intake.admit(batch.drain(..));
        }
        self.batch = batch;
        if let Some(error) = trouble {
            self.hear_trouble(&error);
        }
    }

    /// Hands out messages that may have killed a member before, as many as there is room for: each is noted at the broker before
    /// it goes, so that it is counted though it may kill this member too.
    pub(super) fn clear_suspects(&mut self) {
        let options = &self.intake.settings.options;
        let mut room = options.prefetch.saturating_sub(self.intake.unsettled() + self.intake.waiting().messages);
        let (mut ready, mut commits) = (Vec::new(), Vec::new());
        for (place, held) in &self.held {
            let count = held.suspects.len().min(room);
            if count > 0 {
                room -= count;
                let below = held.partition.suspects_below;
                let suspects = held.suspects.iter().take(count).filter(|item| item.offset < below);
                let tried: Vec<_> = suspects.map(|item| (item.offset, item.attempt)).collect();
                if !tried.is_empty() {
                    let (offset, metadata) = held.partition.commit_with(tried.into_iter());
                    commits.push((place.clone(), offset, metadata));
                }
                ready.push((place.clone(), count));
            }
        }
        // Nothing to note is nothing to commit.
        if offsets::commit_now(&self.client, &commits).is_err() {
            return;
        }
        for (place, count) in ready {
            if let Some(held) = self.held.get_mut(&place) {
                self.intake.admit(held.suspects.drain(..count));
            }
        }
    }
}

/// Takes one record in: for now, for later, one by one, or not at all.
fn take_in(held: &mut Held, record: &BorrowedMessage<'_>, arena: &mut Arena, now: u64, batch: &mut Vec<Item>) {
    let partition = &held.partition;
    let offset = record.offset();
    let intake = &partition.intake;
    if intake.settings.only_key.as_ref().is_some_and(|key| record.key() != Some(key.as_bytes())) {
        return held.read.push((offset, Read::PassedOver));
    }
    let decoded = decode(record, arena);
    let is_expired = decoded.expires > 0 && decoded.expires <= now;
    let is_wanted = intake.settings.filter.as_ref().is_none_or(|filter| filter.matches(decoded.message.subject()));
    if is_expired || !is_wanted {
        return held.read.push((offset, Read::PassedOver));
    }
    held.read.push((offset, Read::Kept));
    let is_ordered = intake.settings.options.order == Order::ByKey;
    held.rank = held.rank.max(to_millis(decoded.message.timestamp()));
    let before = partition.tried_before.get(&offset).copied().unwrap_or(0);
    let item = Item {
        partition: Arc::clone(partition),
        message: decoded.message,
        offset,
        attempt: decoded.attempts.max(before) + 1,
        redriven: decoded.redriven,
        expires: decoded.expires,
        rank: held.rank,
    };
    if decoded.due > now {
        partition.intake.delay(decoded.due, item);
    } else if offset < partition.suspects_below || (is_ordered && !held.suspects.is_empty()) {
        // In key order what comes after a suspect may be of its key, and waits behind it.
        held.suspects.push_back(item);
    } else {
        batch.push(item);
    }
}
