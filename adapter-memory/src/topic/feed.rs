//! A subscription's view of its topic: a filter and a cursor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use messaging_core::{Expired, Message, Start, SubjectFilter};

use super::{Log, LogState, Record};
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

    /// Whether a message that was not fetched yet may go before those that were.
    pub(crate) fn may_have_urgent(&self) -> bool {
        self.log.has_priorities() && self.has_more()
    }

    /// Skips to the end, as an ephemeral subscription does that was cut off; returns how many messages that pass the filter
    /// it missed. Called under the backlog's lock.
    pub(crate) fn skip_to_end(&self) -> u64 {
        let log = self.log.lock();
        let missed = self.missed(&log, self.log.end());
        self.cursor.store(self.log.end(), Ordering::Release);
        missed
    }

    /// How many messages are lost by going on at `to`. Of what the log has let go of nobody knows any more whether it would
    /// have passed the filter.
    fn missed(&self, log: &LogState, to: u64) -> u64 {
        log.base().saturating_sub(self.cursor()) + self.passing(log, self.cursor(), to).count() as u64
    }

    /// How many messages that pass the filter were not fetched yet: those that could be delivered now, and those that are
    /// due later. What has expired is neither, unless it is to go to the dead letter.
    pub(crate) fn depth(&self, now: u64, expired: Expired) -> (u64, u64) {
        let log = self.log.lock();
        let live = |record: &&Record| record.expires > now || expired == Expired::DeadLettered;
        self.unfetched(&log).filter(live).fold((0, 0), |(ready, delayed), record| {
            if record.due > now { (ready, delayed + 1) } else { (ready + 1, delayed) }
        })
    }

    /// The first messages that were not fetched yet and could be delivered now.
    pub(crate) fn peek(&self, max: usize, now: u64) -> Vec<Message> {
        let log = self.log.lock();
        let ready = self.unfetched(&log).filter(|record| record.due <= now && record.expires > now);
        ready.take(max).map(|record| record.message.clone()).collect()
    }

    fn unfetched<'a>(&'a self, log: &'a LogState) -> impl Iterator<Item = &'a Record> {
        self.passing(log, self.cursor(), self.log.end())
    }

    fn passing<'a>(&'a self, log: &'a LogState, from: u64, to: u64) -> impl Iterator<Item = &'a Record> {
        (from.max(log.base())..to).filter_map(|offset| log.get(offset)).filter(|record| self.passes(record))
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
        let missed = if oldest > cursor { self.missed(&log, oldest) } else { 0 };
        cursor = cursor.max(oldest);
        // Where priorities are used, what goes first can only be said of everything.
        let want = if self.log.has_priorities() { usize::MAX } else { want };
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

    fn passes(&self, record: &Record) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(record.message.subject()))
    }
}
