//! Reading: records are taken in as long as there is room, and partitions that run too far ahead are paused.

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adapter_kit::instant_of;
use messaging_core::Order;
use messaging_core::wire::{from_millis, to_millis};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::assigned::{Assigned, AssignedPartition};
use super::client::GroupClient;
use super::watch::BacklogWatch;
use crate::consumer::PartitionId;
use crate::consumer::faults::Fault;
use crate::consumer::item::{Batch, Content, Item};
use crate::consumer::partition::{Partition, Read};
use crate::consumer::shared::{Settings, Shared};
use crate::convert::decode;
use crate::raw::{FetchReport, NativeRecord};
use crate::records::{RecordBatch, RecordBatchBuilder};
use crate::topology::Role;

/// Bound of the offsets of one partition between the lowest open one and the last read.
const OPEN_SPAN_MAX: usize = 200_000;
/// Bound of the records taken in with one call, and of the suspects that wait of one partition.
const READ_BATCH_MAX: usize = 512;

/// A problem that the client reports in place of a record.
pub(super) struct Problem {
    pub(super) code: Code,
    /// The partition and the offset, where it is of one.
    pub(super) at: Option<(PartitionId, i64)>,
    /// The client's own words.
    pub(super) text: String,
}

impl Problem {
    pub(super) fn of_client(code: Code) -> Self {
        Self { code, at: None, text: String::new() }
    }
}

impl From<FetchReport<'_>> for Problem {
    fn from(report: FetchReport<'_>) -> Self {
        let at = report.partition().map(|(topic, number)| ((topic.to_owned(), number), report.offset()));
        Self { code: report.code, at, text: report.text() }
    }
}

/// Reads for one consumer.
pub(super) struct Reading {
    shared: Arc<Shared>,
    builder: RecordBatchBuilder,
    drafts: Vec<Draft>,
    /// Messages of one batch; empty between two calls.
    items: VecDeque<Item>,
}

impl Reading {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, builder: RecordBatchBuilder::default(), drafts: Vec::new(), items: VecDeque::new() }
    }

    /// Pauses partitions that ran too far ahead of their lowest open offset, and delayed ones while too many wait already; resumes
    /// them later. Returns whether any was resumed: each is unverified then, because a pause empties the client's queue, and with
    /// it goes the client's report that it stopped.
    pub(super) fn update_pauses(&self, client: &GroupClient, assigned: &mut Assigned) -> bool {
        let buffered = self.shared.outlet.buffered();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (id, one) in assigned.iter_mut() {
            let span = one.partition.window.lock().span();
            let is_far = span >= if one.is_paused { OPEN_SPAN_MAX / 2 } else { OPEN_SPAN_MAX };
            let too_many = buffered.is_full_of_delayed(one.is_paused);
            let is_delayed = one.partition.role != Role::Main && too_many;
            let suspects = one.suspects.len() >= if one.is_paused { READ_BATCH_MAX / 2 } else { READ_BATCH_MAX };
            let wanted = is_far || is_delayed || suspects;
            if wanted != one.is_paused {
                one.is_paused = wanted;
                if wanted {
                    pause.push(id);
                } else {
                    one.is_unverified = true;
                    resume.push(id);
                }
            }
        }
        if !pause.is_empty() {
            client.pause(pause);
        }
        let has_resumed = !resume.is_empty();
        if has_resumed {
            client.resume(resume);
        }
        has_resumed
    }

    /// Takes in the records that are there, waiting up to `wait` for the first. Returns the problems between them.
    pub(super) fn read(&mut self, client: &mut GroupClient, assigned: &mut Assigned, wait: Duration) -> Vec<Problem> {
        self.take_all(client.fetch(wait, READ_BATCH_MAX).iter(), assigned)
    }

    /// Takes in one record.
    pub(super) fn take_one(&mut self, record: NativeRecord<'_>, assigned: &mut Assigned) -> Vec<Problem> {
        self.take_all(iter::once(Ok(record)), assigned)
    }

    fn take_all<'a>(
        &mut self,
        records: impl Iterator<Item = Result<NativeRecord<'a>, FetchReport<'a>>>,
        assigned: &mut Assigned,
    ) -> Vec<Problem> {
        let now = to_millis(SystemTime::now());
        let mut problems = Vec::new();
        let mut records = records.peekable();
        while records.peek().is_some() {
            let partitions = self.gather(assigned, &mut records, now, &mut problems);
            // Before any of them can be settled.
            assigned.iter_mut().for_each(|(_, one)| one.note_read());
            if !self.drafts.is_empty() {
                // The oldest first; messages of one partition keep their order.
                self.drafts.sort_by_key(|draft| draft.rank);
                let batch = Arc::new(Batch { records: self.builder.finish(), partitions });
                self.items.extend(self.drafts.drain(..).map(|draft| draft.content.into_item(&batch)));
                self.shared.outlet.offer(&mut self.items);
            }
        }
        problems
    }

    /// Copies records, as many as are to lie together; returns the partitions that they are from.
    fn gather<'a>(
        &mut self,
        assigned: &mut Assigned,
        records: &mut impl Iterator<Item = Result<NativeRecord<'a>, FetchReport<'a>>>,
        now: u64,
        problems: &mut Vec<Problem>,
    ) -> Vec<Arc<Partition>> {
        let mut partitions = Vec::new();
        let read_at = Instant::now();
        // Records come in runs of one partition: it is looked up once a run.
        let mut run = None;
        let mut of_run: Option<(&mut AssignedPartition, u32)> = None;
        while !self.builder.is_enough()
            && let Some(record) = records.next()
        {
            let record = match record {
                Ok(record) => record,
                Err(report) if report.code == Code::PartitionEOF => {
                    (run, of_run) = (None, None);
                    note_end(&self.shared, assigned, report, read_at);
                    continue;
                }
                Err(report) => {
                    problems.push(report.into());
                    continue;
                }
            };
            let place = (record.topic_identity(), record.partition());
            if run != Some(place) {
                run = Some(place);
                let id = (record.topic().to_owned(), record.partition());
                of_run = assigned.get_mut(&id).filter(|one| one.partition.is_wanted()).map(|one| {
                    one.note_progress(&self.shared, &id, record.offset(), read_at);
                    partitions.push(Arc::clone(&one.partition));
                    (one, u32::try_from(partitions.len() - 1).unwrap_or(u32::MAX))
                });
            }
            if let Some((one, source)) = &mut of_run
                && let Some(content) = one.take_in(record, &mut self.builder, *source, now)
            {
                self.drafts.push(Draft { rank: one.rank, content });
            }
        }
        partitions
    }
}

/// All of a partition was read: offsets behind the last record hold control records of transactions, or were compacted, and count
/// as settled. So lag comes to zero.
fn note_end(shared: &Shared, assigned: &mut Assigned, report: FetchReport<'_>, now: Instant) {
    let Some((topic, number)) = report.partition() else { return };
    let id = (topic.to_owned(), number);
    if let Some(one) = assigned.get_mut(&id).filter(|one| one.partition.is_wanted()) {
        one.note_read();
        one.note_progress(shared, &id, report.offset(), now);
        one.partition.skip_to(report.offset());
    }
}

/// A message that was read, before the memory beside it is final.
struct Draft {
    /// Orders what was read at once from several partitions: the oldest first, and each partition in its own order.
    rank: u64,
    content: Taken,
}

/// A message that is to be handed out now.
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
                Item { content: Content::Read(Arc::clone(batch), at), offset, attempt, redriven: 0, expires: None }
            }
            Self::Made(item) => item,
        }
    }
}

impl AssignedPartition {
    /// The client reads it, and is at this offset.
    fn note_progress(&mut self, shared: &Shared, id: &PartitionId, offset: i64, now: Instant) {
        BacklogWatch::note_read(shared, id, &mut self.idle, now);
        if self.unreadable.is_some_and(|at| offset >= at) {
            self.unreadable = None;
            shared.faults.clear(id, Fault::Unreadable);
        }
    }

    /// Takes one record in: for now, for later, one by one, or not at all.
    fn take_in(
        &mut self,
        record: NativeRecord<'_>,
        builder: &mut RecordBatchBuilder,
        source: u32,
        now: u64,
    ) -> Option<Taken> {
        let partition = &self.partition;
        let offset = record.offset();
        let Settings { only_key, filter, options, .. } = &partition.shared.settings;
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
            && let Some(at) = builder.take_plain(record, source, made)
        {
            self.read.push((offset, Read::Kept));
            return Some(Taken::Plain { at, offset, attempt: before + 1 });
        }
        let decoded = decode(RecordBatch::of(record).get(0), &partition.topic, partition.number);
        let is_expired = decoded.expires().is_some_and(|at| at <= now);
        let is_wanted = filter.as_ref().is_none_or(|filter| filter.matches(decoded.message.subject()));
        if is_expired || !is_wanted {
            self.read.push((offset, Read::PassedOver));
            return None;
        }
        let (due, expires) = (decoded.due(), decoded.facts.expires.map(instant_of));
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
            partition.shared.outlet.delay(item, instant_of(from_millis(due)));
        } else if is_suspect {
            self.suspects.push_back(item);
        } else {
            return Some(Taken::Made(item));
        }
        None
    }
}
