//! Reading on as long as there is room, and giving the group its turn when there is none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use messaging_core::wire::to_millis;
use messaging_core::{Flow, Order};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{BATCH, Held, Place, SPAN, Worker};
use crate::consumer::intake::{Batch, Content, Intake, Item, Settings, Waiting};
use crate::consumer::offsets;
use crate::consumer::partition::{Lane, Partition, Read};
use crate::convert::decode;
use crate::raw::NativeRecord;
use crate::records::{Gatherer, Records};

impl Worker {
    /// Whether there is room to read on. What is fetched meanwhile waits in the client, which bounds it.
    pub(super) fn has_room(&mut self) -> bool {
        let waiting = self.intake.waiting();
        let is_enough = if self.is_full { waiting.is_still_enough() } else { waiting.is_enough() };
        self.is_full = is_enough || self.intake.flow() != Flow::Running;
        self.intake.is_full.store(self.is_full, Ordering::Relaxed);
        self.pause_as_needed(waiting);
        !self.is_full
    }

    /// Pauses and resumes partitions: one that ran too far ahead of its lowest open offset, and delayed ones while too many wait
    /// already.
    pub(super) fn pause_as_needed(&mut self, waiting: Waiting) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (place, held) in &mut self.held {
            let span = held.partition.ring.lock().span();
            let far = span >= if held.is_paused { SPAN / 2 } else { SPAN };
            let is_late = if held.is_paused { waiting.is_still_enough_delayed() } else { waiting.is_enough_delayed() };
            let late = held.partition.lane != Lane::Main && is_late;
            let suspects = held.suspects.len() >= if held.is_paused { BATCH / 2 } else { BATCH };
            let wanted = far || late || suspects;
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
        if resume.is_empty() {
            return;
        }
        if let Err(error) = self.client.resume(&offsets::places(resume.iter().copied())) {
            tracing::warn!(target: "messaging::kafka", %error, "partitions cannot be resumed");
        }
        let resumed: Vec<_> = resume.into_iter().cloned().collect();
        for place in resumed {
            // A pause empties the client's queue, and with it goes its word that it stopped.
            if let Some(held) = self.held.get_mut(&place) {
                held.is_doubtful = true;
            }
        }
        self.look_at_doubtful = Some(Instant::now());
    }

    /// Takes in what is there, waiting up to `wait` for the first.
    pub(super) fn read(&mut self, wait: Duration) {
        let Self { fetch, intake, held, reading, .. } = self;
        let trouble = reading.take_all(intake, held, fetch.fetch(wait, BATCH).iter());
        for code in trouble {
            self.hear_trouble(&KafkaError::MessageConsumption(code));
        }
    }

    /// Lets the client say what it has to: of the group, of commits, of errors. Being asked is also its sign that this member
    /// lives, whether or not there is room for records.
    pub(super) fn listen(&mut self) {
        loop {
            let Self { client, intake, held, reading, .. } = self;
            match client.poll(Duration::ZERO) {
                // Only of a partition whose queue could not be attracted.
                Some(Ok(record)) => drop(reading.take_all(intake, held, std::iter::once(Ok((&record).into())))),
                Some(Err(error)) => self.hear_trouble(&error),
                None => {}
            }
            if !self.fetch.has_events() {
                return;
            }
        }
    }

    /// Hands out messages that may have killed a member before, as many as there is room for: each is noted at the broker before
    /// it goes, so that it is counted though it may kill this member too.
    ///
    /// They go before all that was read behind them, and have room of their own: a backlog does not hold them up. Those that would
    /// only wait behind another of their key are not noted yet: a member that dies has not tried them.
    pub(super) fn clear_suspects(&mut self) {
        let options = &self.intake.settings.options;
        let waiting = self.intake.waiting();
        let mut room = options.prefetch.saturating_sub(waiting.first + waiting.held);
        let (mut ready, mut commits) = (Vec::new(), Vec::new());
        for (place, held) in &mut self.held {
            let below = held.partition.suspects_below;
            if held.suspects.front().is_some_and(|item| item.offset >= below) {
                // These waited behind suspects, and were never any.
                self.intake.admit(std::mem::take(&mut held.suspects));
                continue;
            }
            let mut keys = HashSet::new();
            let next = held.suspects.iter().take(room).take_while(|item| {
                let is_first = item.key().is_none_or(|key| !self.intake.is_ordered() || keys.insert(key.into_owned()));
                item.offset < below && is_first && self.intake.is_free(item)
            });
            let tried: Vec<_> = next.map(|item| (item.offset, item.attempt)).collect();
            if !tried.is_empty() {
                room -= tried.len();
                ready.push((place.clone(), tried.len()));
                let (offset, metadata) = held.partition.commit_with(tried.into_iter());
                commits.push((place.clone(), offset, metadata));
            }
        }
        // Nothing to note is nothing to commit.
        if offsets::commit_now(&self.client, &commits).is_err() {
            return;
        }
        for (place, count) in ready {
            if let Some(held) = self.held.get_mut(&place) {
                self.intake.admit_first(held.suspects.drain(..count));
            }
        }
    }
}

/// What is read, on its way to the application.
#[derive(Default)]
pub(super) struct Reading {
    gatherer: Gatherer,
    drafts: Vec<Draft>,
}

impl Reading {
    /// Takes records in; gives what is wrong with partitions.
    fn take_all<'a>(
        &mut self,
        intake: &Intake,
        held: &mut HashMap<Place, Held>,
        records: impl Iterator<Item = Result<NativeRecord<'a>, RDKafkaErrorCode>>,
    ) -> Vec<RDKafkaErrorCode> {
        let now = to_millis(SystemTime::now());
        let mut trouble = Vec::new();
        let mut records = records.peekable();
        while records.peek().is_some() {
            let partitions = self.gather(held, &mut records, now, &mut trouble);
            // Before any of them can be settled.
            for held in held.values_mut().filter(|held| !held.read.is_empty()) {
                held.partition.note_read(held.read.drain(..));
            }
            if !self.drafts.is_empty() {
                // The oldest first; messages of one partition stay as they were.
                self.drafts.sort_by_key(|draft| draft.rank);
                let batch = Arc::new(Batch { records: self.gatherer.finish(), partitions });
                intake.admit(self.drafts.drain(..).map(|draft| draft.content.into_item(&batch)).collect());
            }
        }
        trouble
    }

    /// Copies records, as many as are to lie together; gives the partitions that they are from.
    fn gather<'a>(
        &mut self,
        held: &mut HashMap<Place, Held>,
        records: &mut impl Iterator<Item = Result<NativeRecord<'a>, RDKafkaErrorCode>>,
        now: u64,
        trouble: &mut Vec<RDKafkaErrorCode>,
    ) -> Vec<Arc<Partition>> {
        let mut partitions = Vec::new();
        // Records come in runs of one partition: it is looked up once a run.
        let mut run = None;
        let mut of_run: Option<(&mut Held, u32)> = None;
        while !self.gatherer.is_enough()
            && let Some(record) = records.next()
        {
            let record = match record {
                Ok(record) => record,
                Err(code) => {
                    trouble.push(code);
                    continue;
                }
            };
            let place = (record.topic_identity(), record.partition());
            if run != Some(place) {
                run = Some(place);
                let held = held.get_mut(&(record.topic().to_owned(), record.partition()));
                of_run = held.filter(|held| held.partition.is_wanted()).map(|held| {
                    partitions.push(Arc::clone(&held.partition));
                    (held, u32::try_from(partitions.len() - 1).unwrap_or(u32::MAX))
                });
            }
            if let Some((held, source)) = &mut of_run
                && let Some(content) = held.take_in(record, &mut self.gatherer, *source, now)
            {
                self.drafts.push(Draft { rank: held.rank, content });
            }
        }
        partitions
    }
}

/// A message that was read, before what lies beside it is known.
struct Draft {
    /// Sorts what was read at once from several partitions: the oldest first, and each partition in its own order.
    rank: u64,
    content: Taken,
}

/// What is to be handed out now.
enum Taken {
    /// Nothing has to be known of it before it is handed out.
    Plain {
        at: u32,
        offset: i64,
        attempt: u32,
    },
    Made(Item),
}

impl Taken {
    fn into_item(self, batch: &Arc<Batch>) -> Item {
        match self {
            Self::Plain { at, offset, attempt } => {
                Item { content: Content::Read(Arc::clone(batch), at), offset, attempt, redriven: 0, expires: 0 }
            }
            Self::Made(item) => item,
        }
    }
}

impl Held {
    /// Takes one record in: for now, for later, one by one, or not at all.
    fn take_in(&mut self, record: NativeRecord<'_>, gatherer: &mut Gatherer, source: u32, now: u64) -> Option<Taken> {
        let partition = &self.partition;
        let offset = record.offset();
        let Settings { only_key, filter, options, .. } = &partition.intake.settings;
        if only_key.as_ref().is_some_and(|key| record.key() != Some(key.as_bytes())) {
            self.read.push((offset, Read::PassedOver));
            return None;
        }
        let before = partition.tried_before.get(&offset).copied().unwrap_or(0);
        // In key order what comes after a suspect may be of its key, and waits behind it.
        let is_suspect =
            offset < partition.suspects_below || (options.order == Order::ByKey && !self.suspects.is_empty());
        let made = record.made();
        self.rank = self.rank.max(made);
        if filter.is_none()
            && !is_suspect
            && let Some(at) = gatherer.take_plain(record, source, made)
        {
            self.read.push((offset, Read::Kept));
            return Some(Taken::Plain { at, offset, attempt: before + 1 });
        }
        let decoded = decode(Records::of(record).get(0), &partition.topic, partition.number);
        let is_expired = decoded.expires().is_some_and(|at| at <= now);
        let is_wanted = filter.as_ref().is_none_or(|filter| filter.matches(decoded.message.subject()));
        if is_expired || !is_wanted {
            self.read.push((offset, Read::PassedOver));
            return None;
        }
        let (due, expires) = (decoded.due(), decoded.expires().unwrap_or(0));
        let is_late = due > now || is_suspect;
        self.read.push((offset, if is_late { Read::Later } else { Read::Kept }));
        let content = if is_late { Content::Late } else { Content::Made };
        let item = Item {
            content: content(Arc::clone(partition), decoded.message),
            offset,
            attempt: decoded.facts.attempts.max(before).saturating_add(1),
            redriven: decoded.facts.redriven,
            expires,
        };
        if due > now {
            partition.intake.delay(due, item);
        } else if is_suspect {
            self.suspects.push_back(item);
        } else {
            return Some(Taken::Made(item));
        }
        None
    }
}
