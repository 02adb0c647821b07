//! RecordBatch as they were read: many in one piece of memory, and not messages yet.
//!
//! The polling thread only copies. A message is made where it is taken, so that what is allocated for it is freed by the thread
//! that allocated it: with a million messages a second the allocator's locks would be the hottest of all.

use std::ops::Range;

use bytes::Bytes;
use messaging_core::wire;

use crate::raw::NativeRecord;

/// Payloads from this size on have memory of their own: a message that is held keeps all that lies beside it.
const LARGE_PAYLOAD: usize = 8 * 1024;

/// Bound of the bytes of one batch, but for its last record.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;

/// A part of the memory.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    len: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.at as usize..self.at as usize + self.len as usize
    }
}

#[derive(Clone, Copy, Debug)]
enum Payload {
    /// A tombstone.
    Null,
    Beside(Span),
    /// Which of the large ones.
    Large(u32),
}

#[derive(Debug)]
struct Entry {
    /// Number that the reader gave for its partition.
    source: u32,
    offset: i64,
    /// In milliseconds since 1970.
    made: u64,
    key: Option<Span>,
    payload: Payload,
    /// Which of the headers are its own.
    headers: Range<u32>,
    size: u32,
}

/// Builds a batch from records as they are read.
#[derive(Debug, Default)]
pub(crate) struct RecordBatchBuilder {
    memory: Vec<u8>,
    rest: Rest,
    /// How much there was the last time: there is likely to be about as much again.
    last: (usize, usize),
}

/// All but the memory.
#[derive(Debug, Default)]
struct Rest {
    entries: Vec<Entry>,
    headers: Vec<(Span, Option<Span>)>,
    large: Vec<Bytes>,
}

impl RecordBatchBuilder {
    /// Copies a record whose headers say nothing to the adapter, and gives its place; of another nothing is kept. `source` and
    /// `made` are what the caller knows of it already.
    pub(crate) fn take_plain(&mut self, record: NativeRecord<'_>, source: u32, made: u64) -> Option<u32> {
        let (begin, first) = (self.memory.len(), self.rest.headers.len());
        if !self.take_headers(record) {
            self.memory.truncate(begin);
            self.rest.headers.truncate(first);
            return None;
        }
        Some(self.take_rest(record, source, made, begin, first))
    }

    /// Copies the headers; whether none of them is the adapter's own.
    fn take_headers(&mut self, record: NativeRecord<'_>) -> bool {
        if self.rest.entries.is_empty() {
            self.memory.reserve(self.last.0);
            self.rest.entries.reserve(self.last.1);
        }
        let (memory, headers) = (&mut self.memory, &mut self.rest.headers);
        let mut is_plain = true;
        record.each_header(|name, value| {
            is_plain &= !name.starts_with(wire::PREFIX.as_bytes());
            headers.push((put(memory, name), value.map(|value| put(memory, value))));
        });
        is_plain
    }

    /// Copies the rest of a record whose headers lie here already.
    fn take_rest(&mut self, record: NativeRecord<'_>, source: u32, made: u64, begin: usize, first: usize) -> u32 {
        let Self { memory, rest: Rest { entries, headers, large }, .. } = self;
        let key = record.key().map(|key| put(memory, key));
        let mut beside = 0;
        let payload = match record.payload() {
            None => Payload::Null,
            Some(payload) if payload.len() < LARGE_PAYLOAD => Payload::Beside(put(memory, payload)),
            Some(payload) => {
                beside = payload.len();
                large.push(Bytes::copy_from_slice(payload));
                Payload::Large(to_u32(large.len() - 1))
            }
        };
        let size = to_u32(memory.len() - begin + beside);
        let headers = to_u32(first)..to_u32(headers.len());
        entries.push(Entry { source, offset: record.offset(), made, key, payload, headers, size });
        to_u32(entries.len() - 1)
    }

    /// Returns whether the batch is full: the next record goes into another.
    pub(crate) fn is_enough(&self) -> bool {
        self.memory.len() >= BATCH_BYTES
    }

    /// Finishes the batch.
    pub(crate) fn finish(&mut self) -> RecordBatch {
        let Self { memory, rest, last } = self;
        *last = (memory.len(), rest.entries.len());
        let mut memory = std::mem::take(memory);
        // A batch that is held for long should not hold memory that was reserved in excess.
        if memory.capacity() > 2 * memory.len() {
            memory.shrink_to_fit();
        }
        RecordBatch { memory: memory.into(), rest: std::mem::take(rest) }
    }
}

/// Copies to the end of the memory.
fn put(memory: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let at = to_u32(memory.len());
    memory.extend_from_slice(bytes);
    Span { at, len: to_u32(bytes.len()) }
}

/// A record has at most 2 GiB, and no more than one lies past [`BATCH_BYTES`].
fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// RecordBatch that were read together.
#[derive(Debug)]
pub(crate) struct RecordBatch {
    memory: Bytes,
    rest: Rest,
}

impl RecordBatch {
    /// One by itself.
    pub(crate) fn of(record: NativeRecord<'_>) -> Self {
        let mut builder = RecordBatchBuilder::default();
        builder.take_headers(record);
        builder.take_rest(record, 0, record.made(), 0, 0);
        builder.finish()
    }

    pub(crate) fn get(&self, at: u32) -> Record<'_> {
        Record { records: self, entry: &self.rest.entries[at as usize] }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    records: &'a RecordBatch,
    entry: &'a Entry,
}

impl<'a> Record<'a> {
    pub(crate) fn source(self) -> u32 {
        self.entry.source
    }

    pub(crate) fn offset(self) -> i64 {
        self.entry.offset
    }

    /// When it was made, in milliseconds since 1970.
    pub(crate) fn made(self) -> u64 {
        self.entry.made
    }

    pub(crate) fn key(self) -> Option<&'a [u8]> {
        self.entry.key.map(|span| self.bytes(span))
    }

    /// None for a tombstone.
    pub(crate) fn payload(self) -> Option<Bytes> {
        match self.entry.payload {
            Payload::Null => None,
            // An empty slice would keep the memory for nothing.
            Payload::Beside(span) if span.len == 0 => Some(Bytes::new()),
            Payload::Beside(span) => Some(self.records.memory.slice(span.range())),
            Payload::Large(at) => Some(self.records.rest.large[at as usize].clone()),
        }
    }

    /// Names and values, in order.
    pub(crate) fn headers(self) -> impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let Range { start, end } = self.entry.headers;
        let headers = &self.records.rest.headers[start as usize..end as usize];
        headers.iter().map(move |(name, value)| (self.bytes(*name), value.map(|value| self.bytes(value))))
    }

    /// Key, payload and headers together, in bytes.
    pub(crate) fn size(self) -> usize {
        self.entry.size as usize
    }

    fn bytes(self, span: Span) -> &'a [u8] {
        &self.records.memory[span.range()]
    }
}
