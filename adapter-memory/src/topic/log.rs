//! The log of a topic.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;
use std::vec::IntoIter;

use messaging_core::{Message, Position, Receipt, Result, Start};
use parking_lot::{Mutex, MutexGuard};

use super::Record;
use crate::backlog::{Backlog, Effects, Parked, Parking, timing};
use crate::clock::Clock;
use crate::config::DestinationOptions;
use crate::publisher::Sends;

/// What became of a message handed to the log.
#[derive(Debug)]
pub(crate) enum Appended {
    At(Receipt),
    /// The slowest durable subscription is a whole capacity behind; the message comes back.
    Full(Message),
}

/// Everything published to a topic that someone may still want.
#[derive(Debug)]
pub(crate) struct Log {
    options: DestinationOptions,
    clock: Clock,
    state: Mutex<LogState>,
    /// The offset the next message gets; readable without the lock.
    end: AtomicU64,
    /// Someone waits for room; spares the lock where nobody does.
    parked: AtomicBool,
    /// A message with a priority was published: subscriptions must look at everything to know what goes first.
    has_priorities: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct LogState {
    records: VecDeque<Record>,
    /// The offset of the first record.
    base: u64,
    /// Durable subscriptions: what they have not fetched is kept.
    holders: Vec<Weak<Backlog>>,
    /// No holder is known to be behind this offset; brought up to date only when the log runs into a bound.
    floor: u64,
    /// Subscriptions that have fetched everything and want to be told.
    waiting: Vec<Weak<Backlog>>,
    parking: Parking,
}

impl Log {
    pub(crate) fn new(options: DestinationOptions, clock: Clock) -> Self {
        let (end, parked, has_priorities) = Default::default();
        Self { options, clock, state: Mutex::default(), end, parked, has_priorities }
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn has_priorities(&self) -> bool {
        self.has_priorities.load(Ordering::Acquire)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock()
    }

    pub(crate) fn append(&self, message: Message) -> Appended {
        let mut log = self.lock();
        if !log.parking.is_empty() || !log.has_room(&self.options) {
            return Appended::Full(message);
        }
        let offset = self.push(&mut log, message);
        let waiting = std::mem::take(&mut log.waiting);
        drop(log);
        tell(waiting);
        Appended::At(receipt(offset))
    }

    /// Appends up to `max` messages as far as there is room, under one lock; leaves the others.
    pub(crate) fn append_many(
        &self,
        messages: &mut IntoIter<Message>,
        max: usize,
        receipts: &mut Vec<Result<Receipt>>,
    ) {
        let mut log = self.lock();
        let mut appended = 0;
        while appended < max && log.parking.is_empty() && log.has_room(&self.options) {
            let Some(message) = messages.next() else { break };
            receipts.push(Ok(receipt(self.push(&mut log, message))));
            appended += 1;
        }
        let waiting = if appended > 0 { std::mem::take(&mut log.waiting) } else { Vec::new() };
        drop(log);
        tell(waiting);
    }

    /// Whether so many messages fit now.
    pub(crate) fn fits(&self, log: &mut LogState, count: usize) -> bool {
        log.parking.is_empty() && log.has_room(&self.options) && log.behind() + count <= self.options.capacity
    }

    /// Appends under the caller's lock; the caller tells those that wait.
    pub(crate) fn append_locked(&self, log: &mut LogState, message: Message) -> Vec<Weak<Backlog>> {
        self.push(log, message);
        std::mem::take(&mut log.waiting)
    }

    pub(crate) fn park(&self, parked: Parked) {
        self.lock().parking.push(parked);
        self.parked.store(true, Ordering::Release);
        self.admit_parked();
    }

    /// Takes a message out of the parking; none if it was stored meanwhile.
    pub(crate) fn unpark(&self, ticket: u64, sends: &Sends) -> Option<Message> {
        self.lock().parking.remove(ticket, sends)
    }

    /// Appends what waits for room, as far as there is some.
    pub(crate) fn admit_parked(&self) {
        if !self.parked.load(Ordering::Acquire) {
            return;
        }
        let mut log = self.lock();
        let mut effects = Effects::default();
        while log.has_room(&self.options)
            && let Some(parked) = log.parking.pop()
        {
            let offset = self.end.load(Ordering::Relaxed);
            let (message, answer) = parked.admit(receipt(offset));
            self.push(&mut log, message);
            effects.answer(answer);
        }
        self.parked.store(!log.parking.is_empty(), Ordering::Release);
        let waiting = std::mem::take(&mut log.waiting);
        drop(log);
        effects.run();
        tell(waiting);
    }

    /// Keeps what a durable subscription has not fetched.
    pub(crate) fn hold(&self, backlog: &Arc<Backlog>) {
        let mut log = self.lock();
        log.holders.push(Arc::downgrade(backlog));
        log.floor = log.base;
    }

    pub(crate) fn release(&self, backlog: &Arc<Backlog>) {
        self.lock().holders.retain(|holder| !std::ptr::eq(holder.as_ptr(), Arc::as_ptr(backlog)));
        self.admit_parked();
    }

    /// The offset at which a subscription begins.
    pub(crate) fn start(&self, start: Start) -> u64 {
        let log = self.lock();
        let end = log.base + log.records.len() as u64;
        match start {
            Start::New => end,
            Start::Earliest => log.base,
            Start::Offset(offset) => offset.clamp(log.base, end),
            Start::At(time) => {
                let at = millis(time);
                log.base + log.records.partition_point(|record| record.at < at) as u64
            }
        }
    }

    /// Forgets all records, as a restart without data does; offsets go on.
    pub(crate) fn wipe(&self) {
        let mut log = self.lock();
        log.base = self.end();
        let records = std::mem::take(&mut log.records);
        drop(log);
        drop(records);
    }

    fn push(&self, log: &mut LogState, message: Message) -> u64 {
        let (due, expires) = timing(&message, || self.clock.now());
        if message.priority().is_some() {
            self.has_priorities.store(true, Ordering::Release);
        }
        log.records.push_back(Record { message, at: millis(SystemTime::now()), due, expires });
        let offset = log.base + log.records.len() as u64 - 1;
        self.end.store(offset + 1, Ordering::Release);
        log.trim(self.options.retention);
        offset
    }
}

impl LogState {
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Record> {
        self.records.get(usize::try_from(offset.checked_sub(self.base)?).ok()?)
    }

    pub(super) fn wait(&mut self, backlog: Weak<Backlog>) {
        self.waiting.push(backlog);
    }

    /// How many messages the slowest durable subscription has not fetched, as far as is known.
    fn behind(&self) -> usize {
        let end = self.base + self.records.len() as u64;
        usize::try_from(end - self.floor.max(self.base)).unwrap_or(usize::MAX)
    }

    fn has_room(&mut self, options: &DestinationOptions) -> bool {
        if self.behind() < options.capacity {
            return true;
        }
        self.find_floor();
        self.behind() < options.capacity
    }

    fn find_floor(&mut self) {
        let end = self.base + self.records.len() as u64;
        self.holders.retain(|holder| holder.strong_count() > 0);
        let fetched =
            self.holders.iter().filter_map(Weak::upgrade).filter_map(|backlog| Some(backlog.feed()?.cursor()));
        self.floor = fetched.min().unwrap_or(end);
    }

    /// Lets go what nobody holds beyond the retention, an eighth at a time, so that finding out who holds what is rare.
    fn trim(&mut self, retention: usize) {
        if self.records.len() < retention + retention / 8 + 64 {
            return;
        }
        self.find_floor();
        let unheld = usize::try_from(self.floor.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let surplus = (self.records.len() - retention).min(unheld);
        self.records.drain(..surplus);
        self.base += surplus as u64;
    }
}

/// Tells subscriptions that there is more. Called without the log's lock: theirs comes first.
pub(crate) fn tell(waiting: Vec<Weak<Backlog>>) {
    for backlog in waiting.iter().filter_map(Weak::upgrade) {
        backlog.topic_grew();
    }
}

fn receipt(offset: u64) -> Receipt {
    Receipt { position: Some(Position { partition: 0, offset }) }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
