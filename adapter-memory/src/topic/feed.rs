//! A subscription's view of its topic: a filter and a cursor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use messaging_core::{Start, SubjectFilter};

use super::Log;
use crate::backlog::{Backlog, Entry, Turn};

/// How far a subscription has fetched, and what it lets pass.
#[derive(Debug)]
pub(crate) struct Feed {
    log: Arc<Log>,
    filter: Option<SubjectFilter>,
    /// The offset fetched next. Written under the backlog's lock, read by the log to know what is still wanted.
    cursor: AtomicU64,
    ephemeral: bool,
}

/// What a pull brought.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// Entries and when they are due; 0 is now.
    pub(crate) entries: Vec<(Entry, u64)>,
    /// Messages that were lost because the subscription lagged too far behind.
    pub(crate) missed: u64,
    /// The log tells the backlog when it grows.
    pub(crate) registered: bool,
}

impl Feed {
    pub(crate) fn durable(log: Arc<Log>, start: Start, filter: Option<SubjectFilter>) -> Self {
        let cursor = AtomicU64::new(log.start(start));
        Self { log, filter, cursor, ephemeral: false }
    }

    pub(crate) fn ephemeral(log: Arc<Log>, filter: Option<SubjectFilter>) -> Self {
        let cursor = AtomicU64::new(log.end());
        Self { log, filter, cursor, ephemeral: true }
    }

    pub(crate) fn filter(&self) -> Option<&SubjectFilter> {
        self.filter.as_ref()
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Acquire)
    }

    pub(crate) fn has_more(&self) -> bool {
        self.cursor() < self.log.end()
    }

    /// Skips to the end, as an ephemeral subscription does that was cut off; returns how many messages it missed.
    pub(crate) fn skip_to_end(&self) -> u64 {
        let end = self.log.end();
        end.saturating_sub(self.cursor.swap(end, Ordering::AcqRel))
    }

    /// How many messages that pass the filter were not fetched yet.
    pub(crate) fn unfetched(&self) -> u64 {
        let log = self.log.lock();
        let offsets = self.cursor().max(log.base())..self.log.end();
        offsets.filter_map(|offset| log.get(offset)).filter(|record| self.passes(record)).count() as u64
    }

    /// The first messages that pass the filter and were not fetched yet.
    pub(crate) fn peek(&self, max: usize) -> Vec<messaging_core::Message> {
        let log = self.log.lock();
        let offsets = self.cursor().max(log.base())..self.log.end();
        let records = offsets.filter_map(|offset| log.get(offset)).filter(|record| self.passes(record));
        records.take(max).map(|record| record.message.clone()).collect()
    }

    /// Fetches up to `want` messages that can be delivered now, those that are due later among them.
    ///
    /// `registered` says whether the log will tell the backlog when it grows; called under the backlog's lock.
    pub(crate) fn pull(
        &self,
        want: usize,
        mut now: impl FnMut() -> u64,
        mut registered: bool,
        backlog: &Weak<Backlog>,
        lag: usize,
    ) -> Pulled {
        let mut log = self.log.lock();
        let mut cursor = self.cursor();
        let end = self.log.end();
        let oldest = if self.ephemeral { log.base().max(end.saturating_sub(lag as u64)) } else { log.base() };
        let missed = oldest.saturating_sub(cursor);
        cursor = cursor.max(oldest);
        // Where priorities are used, what goes first can only be said of everything.
        let want = if log.has_priorities { usize::MAX } else { want };
        let mut entries = Vec::with_capacity(want.min(usize::try_from(end - cursor).unwrap_or(usize::MAX)));
        let mut now_ready = 0;
        while now_ready < want
            && let Some(record) = log.get(cursor)
        {
            let seq = cursor;
            cursor += 1;
            if !self.passes(record) {
                continue;
            }
            let due = if record.due != 0 && record.due > now() { record.due } else { 0 };
            now_ready += usize::from(due == 0);
            let entry = Entry {
                message: record.message.clone(),
                seq,
                expires: record.expires,
                attempts: 0,
                redriven: 0,
                turn: Turn::NONE,
            };
            entries.push((entry, due));
        }
        self.cursor.store(cursor, Ordering::Release);
        if cursor == end && !registered {
            log.wait(Weak::clone(backlog));
            registered = true;
        }
        Pulled { entries, missed, registered }
    }

    fn passes(&self, record: &super::Record) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(record.message.subject()))
    }
}
