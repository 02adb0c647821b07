//! The polling thread of a consumer: the only one that talks to its client.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use messaging_core::wire::to_millis;
use messaging_core::{ErrorKind, Event, Flow, Result};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};

use super::group::{Ear, GroupEvent, Heard, Place, give_up, take_up};
use super::intake::{End, Intake, Item, Orders};
use super::metadata;
use super::offsets::{self, Begin};
use super::partition::{Lane, Partition};
use crate::config::GroupProtocol;
use crate::convert::{Arena, decode};
use crate::error::{code_of, from_kafka, is_passing};
use crate::raw::{Bell, end_without_goodbye};

pub(super) type Client = BaseConsumer<Ear>;

/// How much is read ahead of the application.
const AHEAD: usize = 10_000;
const AHEAD_BYTES: usize = 32 * 1024 * 1024;
/// How many delayed messages are kept until they are due; behind them, later ones of the same partitions wait.
const DELAYED: usize = 100_000;
/// The most offsets of one partition between the lowest open one and the last read.
const SPAN: usize = 200_000;
/// After so long without room the fetched messages are given back, so that the group's events come through.
const PATIENCE: Duration = Duration::from_millis(200);
/// Before partitions are tried again that could not be taken up.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest wait in a poll.
const POLL: Duration = Duration::from_millis(50);
/// The longest wait while something is to be due or settled.
const SOON: Duration = Duration::from_millis(5);
/// How long the last commit of a member that leaves may take.
const LAST: Duration = Duration::from_secs(5);
/// The most messages taken in at once.
const BATCH: usize = 512;

/// What the thread knows of a partition it has.
pub(super) struct Held {
    pub(super) partition: Arc<Partition>,
    is_paused: bool,
    /// Sorts messages of several partitions by their time, without ever changing the order within one.
    rank: u64,
    /// Messages that may have killed a member before: each is noted before it goes.
    suspects: VecDeque<Item>,
}

/// Partitions that go to somebody else as soon as what is out of them is settled.
struct Leaving {
    places: Vec<Place>,
    deadline: Instant,
}

/// How the thread's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Over,
    /// The broker does not know the protocol that was tried.
    WrongProtocol,
}

pub(super) struct Worker {
    client: Client,
    ear: Ear,
    intake: Arc<Intake>,
    protocol: GroupProtocol,
    is_refused: bool,
    held: HashMap<Place, Held>,
    arena: Arena,
    batch: Vec<Item>,
    leaving: Option<Leaving>,
    /// Partitions that were assigned and whose offsets could not be read yet.
    joining: Vec<Place>,
    join_again: Option<Instant>,
    /// When the commit under way was sent.
    committing: Option<Instant>,
    committed: Instant,
    flushes: Vec<tokio::sync::oneshot::Sender<Result<()>>>,
    /// Since when there is no room to read on.
    full: Option<Instant>,
    is_paused: bool,
    /// The connection was lost, and not seen to be back.
    is_cut: bool,
    probed: Instant,
}

impl Worker {
    pub(super) fn new(client: Client, ear: Ear, intake: Arc<Intake>, protocol: GroupProtocol) -> Self {
        let now = Instant::now();
        Self {
            client,
            ear,
            intake,
            protocol,
            is_refused: false,
            held: HashMap::new(),
            arena: Arena::default(),
            batch: Vec::with_capacity(BATCH),
            leaving: None,
            joining: Vec::new(),
            join_again: None,
            committing: None,
            committed: now,
            flushes: Vec::new(),
            full: None,
            is_paused: false,
            is_cut: false,
            probed: now,
        }
    }

    /// Lets others wake this thread while it polls.
    pub(super) fn hang_bell(&mut self, bell: impl FnOnce(&Client) -> Bell) {
        *self.intake.bell.lock() = Some(bell(&self.client));
    }

    /// Takes partitions that were assigned by hand.
    pub(super) fn hold(&mut self, begins: Vec<(Place, i64)>) {
        for (place, offset) in begins {
            self.hold_one(place, offset, metadata::Metadata::new(metadata::Ending::Clean));
        }
    }

    fn hold_one(&mut self, place: Place, offset: i64, past: metadata::Metadata) {
        let lane = self.intake.settings.topics.lane(&place.0);
        let topic: Arc<str> = place.0.as_str().into();
        let partition = Arc::new(Partition::new(Arc::clone(&self.intake), topic, place.1, lane, offset, past));
        self.intake.partitions.lock().push(Arc::clone(&partition));
        self.held.insert(place, Held { partition, is_paused: false, rank: 0, suspects: VecDeque::new() });
    }

    /// Runs until the consumer is stopped and has nothing out any more, is told to leave, or cannot go on.
    pub(super) fn run(mut self) -> Ending {
        while !self.is_over() {
            self.obey();
            let now = to_millis(SystemTime::now());
            let due = self.intake.release_due(now);
            self.let_go_of_leaving();
            self.commit_if_time();
            self.clear_suspects();
            if self.is_cut {
                self.look_for_the_broker();
            }
            let has_room = self.make_room();
            let wait = match due {
                _ if self.is_busy() => SOON,
                Some(due) => Duration::from_millis(due.saturating_sub(now)).clamp(Duration::from_millis(1), POLL),
                None => POLL,
            };
            if has_room || self.is_paused {
                self.read(wait);
            } else {
                thread::park_timeout(wait);
            }
            self.hear();
        }
        if self.is_refused {
            self.ear.close();
            drop(self.intake.bell.lock().take());
            return Ending::WrongProtocol;
        }
        self.leave();
        Ending::Over
    }

    fn is_over(&self) -> bool {
        let is_done = self.intake.flow() == Flow::Stopped && self.intake.unsettled() == 0;
        // Whoever waits for a flush waits for what is under way; the last commit answers it.
        is_done || self.is_refused || self.intake.orders.lock().leave
    }

    fn is_busy(&self) -> bool {
        self.leaving.is_some() || !self.flushes.is_empty() || !self.joining.is_empty()
    }

    fn obey(&mut self) {
        let orders = std::mem::take(&mut *self.intake.orders.lock());
        let Orders { flushes, purges, leave } = orders;
        self.intake.orders.lock().leave |= leave;
        if !flushes.is_empty() {
            self.flushes.extend(flushes);
            self.commit_changes();
        }
        for purged in purges {
            let _ = purged.send(self.skip_to_end());
        }
    }

    /// Passes over all that waits.
    fn skip_to_end(&mut self) -> Result<()> {
        self.intake.discard();
        let mut ends = Vec::new();
        for place in self.held.keys() {
            ends.push((place.clone(), offsets::watermarks(&self.client, place)?.1));
        }
        self.restart_at(ends)
    }

    /// Goes on at other offsets; what lies between counts as settled.
    fn restart_at(&mut self, ends: Vec<(Place, i64)>) -> Result<()> {
        let list = offsets::list(ends.clone())?;
        self.client.seek_partitions(list, offsets::ASK).map_err(|error| from_kafka("cannot seek", &error))?;
        for (place, end) in ends {
            if let Some(held) = self.held.get_mut(&place) {
                held.suspects.clear();
                held.partition.skip_to(end);
            }
        }
        Ok(())
    }

    /// Whether there is room to read on; pauses the partitions when there is none for long, and resumes them.
    fn make_room(&mut self) -> bool {
        let waiting = self.intake.waiting();
        let is_above = |count: usize, bytes: usize| waiting.messages >= count || waiting.bytes >= bytes;
        let was_full = self.full.is_some();
        let is_full = if was_full { is_above(AHEAD / 2, AHEAD_BYTES / 2) } else { is_above(AHEAD, AHEAD_BYTES) };
        let is_full = is_full || self.intake.flow() != Flow::Running;
        self.intake.is_full.store(is_full, std::sync::atomic::Ordering::Relaxed);
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
    fn pause_as_needed(&mut self, delayed: usize) {
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
    fn read(&mut self, mut wait: Duration) {
        let now = to_millis(SystemTime::now());
        let mut trouble = None;
        let mut batch = std::mem::take(&mut self.batch);
        let mut last: Option<(*const (), i32, Place)> = None;
        while batch.len() < BATCH {
            match self.client.poll(wait) {
                Some(Ok(record)) => {
                    let rkt = record.topic_ptr() as *const ();
                    if last.as_ref().is_none_or(|(known, number, _)| *known != rkt || *number != record.partition()) {
                        last = Some((rkt, record.partition(), (record.topic().to_owned(), record.partition())));
                    }
                    let Some((_, _, place)) = &last else { continue };
                    if let Some(held) = self.held.get_mut(place) {
                        take_in(held, &record, &mut self.arena, now, &mut batch);
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

    /// Acts on what the client said meanwhile.
    fn hear(&mut self) {
        let Heard { group, commits, is_cut, is_disturbed, is_fatal } = self.ear.listen();
        // An ephemeral subscription loses nothing with a connection that it does not read from.
        if (is_cut || is_disturbed && self.intake.settings.source.is_some()) && !self.is_cut {
            self.is_cut = true;
            self.intake.tell(Event::Disconnected);
        }
        for result in commits {
            self.committing = None;
            self.note_commit(result.map_err(|error| from_kafka(offsets::NOT_COMMITTED, &error)));
        }
        for event in group {
            match event {
                GroupEvent::Assigned(places) => {
                    if self.intake.progress.borrow().has_joined {
                        self.intake.tell(Event::Rebalanced);
                    }
                    self.joining.extend(places);
                    self.join();
                }
                GroupEvent::Revoked(places) => {
                    self.intake.tell(Event::Rebalanced);
                    self.begin_to_leave(places);
                }
            }
        }
        if !self.joining.is_empty() && self.join_again.is_some_and(|at| Instant::now() >= at) {
            self.join();
        }
        if is_fatal {
            self.end_for_good();
        }
    }

    /// The client cannot go on.
    fn end_for_good(&mut self) {
        let (code, reason) = self.client.client().fatal_error().unwrap_or((Code::Fatal, String::new()));
        let is_unknown = matches!(code, Code::UnsupportedFeature | Code::UnsupportedVersion);
        if is_unknown && self.protocol == GroupProtocol::Auto && !self.intake.progress.borrow().has_joined {
            self.is_refused = true;
            return;
        }
        let error = crate::error::from_code("the consumer cannot go on", code);
        self.intake.end(End::new(error.kind(), format!("{} ({reason})", error.text())));
    }

    /// Takes up partitions that were assigned.
    fn join(&mut self) {
        let places = std::mem::take(&mut self.joining);
        match offsets::begin(&self.client, &places) {
            Ok(begins) => self.take_up(begins),
            Err(error) => {
                tracing::debug!(target: "messaging::kafka", %error, "partitions cannot be taken up yet");
                // Partitions that were just added are not known to the client before it looks again.
                let _ = self.client.fetch_metadata(Some(&self.intake.settings.topics.main), offsets::ASK);
                self.joining = places;
                self.join_again = Some(Instant::now() + AGAIN);
            }
        }
    }

    fn take_up(&mut self, begins: Vec<Begin>) {
        let starts = begins.iter().map(|begin| (begin.place.clone(), begin.offset)).collect::<Vec<_>>();
        let taken = offsets::list(starts).and_then(|list| {
            take_up(&self.client, &list).map_err(|error| from_kafka("partitions cannot be taken up", &error))
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
    fn begin_to_leave(&mut self, places: Vec<Place>) {
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

    fn let_go_of_leaving(&mut self) {
        let Some(Leaving { places, deadline }) = &self.leaving else { return };
        let is_out = |place: &Place| {
            self.held.get(place).is_some_and(|held| held.partition.out.load(std::sync::atomic::Ordering::SeqCst) > 0)
        };
        if Instant::now() < *deadline && places.iter().any(is_out) {
            return;
        }
        let Some(Leaving { places, .. }) = self.leaving.take() else { return };
        self.end_partitions(&places);
        give_up(&self.client, &offsets::places(&places));
    }

    /// Ends this member's part in some partitions: what was settled is committed, the rest is stale from now on.
    fn end_partitions(&mut self, places: &[Place]) {
        let last = self.kill(places);
        if self.intake.settings.source.is_none() || self.client.assignment_lost() {
            return;
        }
        if let Err(error) = offsets::commit_now(&self.client, &last) {
            tracing::debug!(target: "messaging::kafka", %error, "the last commit of revoked partitions failed");
        }
    }

    /// Takes partitions out; gives what is to be committed of them.
    fn kill(&mut self, places: &[Place]) -> Vec<(Place, i64, metadata::Metadata)> {
        let mut last = Vec::new();
        for place in places {
            let Some(Held { partition, .. }) = self.held.remove(place) else { continue };
            let still_out = partition.kill();
            // Nobody can settle these any more: their places come free now.
            self.intake.freed(still_out, false);
            partition.out.fetch_sub(still_out, std::sync::atomic::Ordering::SeqCst);
            if let Some((offset, metadata)) = partition.take_commit(metadata::Ending::Clean) {
                last.push((place.clone(), offset, metadata));
            }
            self.intake.partitions.lock().retain(|known| !Arc::ptr_eq(known, &partition));
        }
        last
    }

    fn commit_if_time(&mut self) {
        let interval = self.intake.settings.connection.options.commit_interval;
        if self.committed.elapsed() >= interval || !self.flushes.is_empty() {
            self.commit_changes();
        }
    }

    /// Sends a commit of what changed, if none is under way.
    fn commit_changes(&mut self) {
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

    fn note_commit(&mut self, result: Result<()>) {
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
                    self.answer_flushes(|| Err(messaging_core::Error::new(ErrorKind::StaleDelivery, text.clone())));
                }
            }
        }
    }

    fn answer_flushes(&mut self, mut answer: impl FnMut() -> Result<()>) {
        for flush in self.flushes.drain(..) {
            // Whoever asked may have stopped waiting.
            let _ = flush.send(answer());
        }
    }

    /// Hands out messages that may have killed a member before, as many as there is room for: each is noted at the broker before
    /// it goes, so that it is counted though it may kill this member too.
    fn clear_suspects(&mut self) {
        let options = &self.intake.settings.options;
        let mut room = options.prefetch.saturating_sub(self.intake.unsettled() + self.intake.waiting().messages);
        let mut noted = Vec::new();
        for (place, held) in &self.held {
            let count = held.suspects.len().min(room);
            if count > 0 {
                room -= count;
                let tried = held.suspects.iter().take(count).map(|item| (item.offset, item.attempt));
                let (offset, metadata) = held.partition.commit_with(tried);
                noted.push((place.clone(), offset, metadata, count));
            }
        }
        let commits: Vec<_> =
            noted.iter().map(|(place, offset, data, _)| (place.clone(), *offset, data.clone())).collect();
        if noted.is_empty() || offsets::commit_now(&self.client, &commits).is_err() {
            return;
        }
        for (place, _, _, count) in noted {
            if let Some(held) = self.held.get_mut(&place) {
                self.intake.admit(held.suspects.drain(..count));
            }
        }
    }

    fn hear_trouble(&mut self, error: &KafkaError) {
        let Some(code) = code_of(error) else { return };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return self.end_for_good();
        }
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => self.check_topic(),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.find_the_beginning(),
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => {
                let error = crate::error::from_code("the consumer cannot go on", code);
                self.intake.end(End::new(error.kind(), error.text()));
            }
            code if is_passing(code) => {
                if matches!(code, Code::BrokerTransportFailure | Code::AllBrokersDown) && !self.is_cut {
                    self.is_cut = true;
                    self.intake.tell(Event::Disconnected);
                }
            }
            code => tracing::warn!(target: "messaging::kafka", %code, "a poll failed"),
        }
    }

    /// Ends the consumer if its topic is gone.
    fn check_topic(&mut self) {
        let main = &self.intake.settings.topics.main;
        let Ok(metadata) = self.client.fetch_metadata(Some(main), offsets::ASK) else { return };
        let is_gone = metadata.topics().iter().all(|topic| topic.error().is_some() || topic.partitions().is_empty());
        if is_gone {
            let text = format!("topic {main:?} was deleted while it was consumed: create it and consume again");
            self.intake.end(End::new(ErrorKind::NotFound, text));
        }
    }

    /// The log was cut off past what was committed: goes on at the oldest message that is left, which is told as a gap.
    fn find_the_beginning(&mut self) {
        let mut behind = Vec::new();
        let mut missed = 0;
        for (place, held) in &self.held {
            let Ok((low, _)) = offsets::watermarks(&self.client, place) else { continue };
            let (_, open) = held.partition.position();
            if open < low {
                missed += u64::try_from(low - open).unwrap_or(0);
                behind.push((place.clone(), low));
            }
        }
        if behind.is_empty() {
            return;
        }
        tracing::warn!(target: "messaging::kafka", missed, "messages were deleted before they were consumed");
        self.intake.tell(Event::Gap { missed: Some(missed) });
        if let Err(error) = self.restart_at(behind) {
            tracing::warn!(target: "messaging::kafka", %error, "cannot go on at the oldest message");
        }
    }

    /// After a connection was lost: asks until the broker answers.
    fn look_for_the_broker(&mut self) {
        if self.probed.elapsed() < PATIENCE {
            return;
        }
        self.probed = Instant::now();
        let main = self.intake.settings.topics.main.clone();
        if self.client.fetch_metadata(Some(&main), Duration::from_millis(500)).is_err() {
            return;
        }
        self.is_cut = false;
        if self.intake.settings.source.is_none() {
            self.skip_what_was_missed();
        }
        self.intake.tell(Event::Reconnected);
    }

    /// An ephemeral subscription sees nothing from while it was cut off, and says how much that was.
    fn skip_what_was_missed(&mut self) {
        let mut missed = u64::try_from(self.intake.discard()).unwrap_or(0);
        let mut ends = Vec::new();
        for (place, held) in &self.held {
            let Ok((_, end)) = offsets::watermarks(&self.client, place) else { continue };
            missed += u64::try_from(end - held.partition.read_to()).unwrap_or(0);
            ends.push((place.clone(), end));
        }
        if let Err(error) = self.restart_at(ends) {
            tracing::warn!(target: "messaging::kafka", %error, "cannot go on at the end");
        }
        self.intake.tell(Event::Gap { missed: Some(missed) });
    }

    /// The last things: commits, and leaves the group. Whatever waits on a dead broker waits here, on a thread of its own.
    fn leave(mut self) {
        self.intake.withhold(|_| true);
        // From here on what the group says needs no answer.
        self.ear.close();
        let mut last = Vec::new();
        if let Some(Leaving { places, .. }) = self.leaving.take() {
            last.extend(self.kill(&places));
            give_up(&self.client, &offsets::places(&places));
        }
        let all: Vec<Place> = self.held.keys().cloned().collect();
        last.extend(self.kill(&all));
        let result = self.commit_at_last(&last);
        let is_silent = self.is_cut || result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout);
        let told = result.map_err(|error| End::new(error.kind(), error.text()));
        self.intake.progress.send_modify(|progress| progress.committed = Some(told.clone()));
        let late = std::mem::take(&mut self.intake.orders.lock().flushes);
        for flush in std::mem::take(&mut self.flushes).into_iter().chain(late) {
            let _ = flush.send(told.clone().map_err(|end| end.error()));
        }
        drop(self.intake.bell.lock().take());
        if is_silent {
            end_without_goodbye(self.client);
        } else {
            drop(self.client);
        }
        self.intake.progress.send_modify(|progress| progress.has_left = true);
    }

    /// Commits, and waits for the answer no longer than [`LAST`]: the client's own call would wait for the whole session. What is
    /// read meanwhile is of nobody.
    fn commit_at_last(&mut self, last: &[(Place, i64, metadata::Metadata)]) -> Result<()> {
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
        Err(messaging_core::Error::new(ErrorKind::Timeout, "the broker did not take the last commit in time"))
    }
}

/// Takes one record in: for now, for later, one by one, or not at all.
fn take_in(held: &mut Held, record: &BorrowedMessage<'_>, arena: &mut Arena, now: u64, batch: &mut Vec<Item>) {
    let partition = &held.partition;
    let offset = record.offset();
    {
        let mut ring = partition.ring.lock();
        if ring.is_dead || ring.is_leaving {
            return;
        }
        ring.push(offset);
    }
    let intake = &partition.intake;
    if intake.settings.only_key.as_ref().is_some_and(|key| record.key() != Some(key.as_bytes())) {
        return partition.pass_over(offset);
    }
    let decoded = decode(record, arena);
    let is_expired = decoded.expires > 0 && decoded.expires <= now;
    let is_wanted = intake.settings.filter.as_ref().is_none_or(|filter| filter.matches(decoded.message.subject()));
    if is_expired || !is_wanted {
        return partition.pass_over(offset);
    }
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
    } else if offset < partition.suspects_below {
        held.suspects.push_back(item);
    } else {
        batch.push(item);
    }
}
