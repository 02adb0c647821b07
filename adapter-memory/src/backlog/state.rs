//! The state of a backlog, behind its mutex.

use std::collections::VecDeque;
use std::time::SystemTime;

use messaging_core::{DeadLetterReason, Depth};

use super::effects::Effects;
use super::entry::{Entry, Leased, Leases, NEVER, Turn};
use super::lanes::Lanes;
use super::members::Member;
use super::park::Parking;
use super::ready::{Delayed, Ready};
use super::watch::Watch;
use crate::config::DestinationOptions;

/// A dead letter.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) entry: Entry,
    pub(crate) reason: DeadLetterReason,
    pub(crate) at: SystemTime,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) ready: Ready,
    pub(super) delayed: Delayed,
    pub(super) leases: Leases,
    /// Key order, once someone asked for it.
    pub(super) lanes: Option<Lanes>,
    pub(super) members: Vec<Option<Member>>,
    /// Consumers that wait for messages, the first first. An entry counts only while its member says so.
    pub(super) line: VecDeque<u32>,
    pub(super) watch: Watch,
    pub(crate) dead: VecDeque<Dead>,
    pub(super) parking: Parking,
    seq: u64,
    /// Messages that are not settled, and the bytes of their payloads.
    open: usize,
    bytes: usize,
    /// A message with a time to live was here.
    has_expiring: bool,
    /// The topic will tell when it grows.
    pub(crate) waits_for_topic: bool,
    /// The queue or subscription was removed.
    pub(crate) gone: bool,
    /// The next dead letters fail, for tests.
    pub(crate) fail_dead_letters: u32,
}

impl State {
    #[inline]
    pub(super) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Whether a new message fits, and nobody waits for room before it.
    #[inline]
    pub(crate) fn has_room(&self, options: &DestinationOptions) -> bool {
        self.parking.is_empty() && self.fits(options)
    }

    #[inline]
    pub(super) fn fits(&self, options: &DestinationOptions) -> bool {
        self.open < options.capacity && (self.bytes < options.capacity_bytes || self.open == 0)
    }

    /// Whether a delivery is still its holder's.
    pub(crate) fn holds(&self, tag: u64) -> bool {
        self.leases.holds(tag)
    }

    pub(super) fn take_lease(&mut self, tag: u64) -> Option<Leased> {
        self.leases.take(tag)
    }

    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Adds a message that was not here before.
    #[inline]
    pub(crate) fn add(&mut self, entry: Entry, due: u64, effects: &mut Effects) {
        self.open += 1;
        self.has_expiring |= entry.expires != NEVER;
        self.bytes += entry.message.payload().len();
        if due == 0 {
            self.ready.push_back(entry);
            self.wake_one(effects);
        } else {
            self.delay(entry, due, effects);
        }
    }

    /// Adds a message of the topic for the poll that is about to take it, which passes the baton on itself.
    pub(super) fn bring(&mut self, entry: Entry, due: u64, effects: &mut Effects) {
        self.open += 1;
        self.has_expiring |= entry.expires != NEVER;
        self.bytes += entry.message.payload().len();
        if due == 0 { self.ready.push_back(entry) } else { self.delay(entry, due, effects) }
    }

    /// Lets a message wait; whoever waits for messages sets the timer anew if this is the earliest.
    pub(super) fn delay(&mut self, entry: Entry, due: u64, effects: &mut Effects) {
        let earlier = due < self.delayed.next_due();
        self.delayed.push(due, entry);
        if earlier {
            self.wake_all(effects);
        }
    }

    /// A message is settled for good.
    pub(super) fn finish(&mut self, entry: Entry, effects: &mut Effects) {
        self.settle_accounts(&entry);
        effects.drop_later(entry);
    }

    #[inline]
    pub(super) fn settle_accounts(&mut self, entry: &Entry) {
        self.open -= 1;
        self.bytes -= entry.message.payload().len();
        if entry.turn == Turn::OWN {
            self.free_lane(entry);
        }
    }

    /// Whether all that is ready may be delivered as it stands: no key order is kept, and nothing expires.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.lanes.is_none() && !self.has_expiring
    }

    /// Whether a settlement of this consumer may let someone go on.
    #[inline]
    pub(super) fn someone_waits(&self, consumer: u32) -> bool {
        !self.parking.is_empty()
            || !self.line.is_empty()
            || self.member(consumer).is_some_and(|member| member.waker.is_some())
    }

    pub(super) fn free_lane(&mut self, entry: &Entry) {
        if let Some(next) = self.lanes.as_mut().and_then(|lanes| lanes.free(entry)) {
            self.ready.put_back(next);
        }
    }

    /// Puts a delivery that was not settled back where it stood.
    pub(super) fn return_lease(&mut self, leased: Leased) {
        let Leased { entry, consumer, until: _ } = leased;
        self.let_go(consumer);
        self.ready.put_back(entry);
    }

    /// From now on messages of one key go one after the other.
    pub(crate) fn keep_order(&mut self) {
        if self.lanes.is_none() {
            let mut lanes = Lanes::default();
            for leased in self.leases.iter_mut() {
                lanes.occupy(&mut leased.entry);
            }
            self.lanes = Some(lanes);
        }
    }

    /// Makes ready what is due by now: delays that have passed, leases that have ended.
    pub(crate) fn tick(&mut self, now: u64, effects: &mut Effects) {
        self.leases.stamp(now);
        while let Some(entry) = self.delayed.pop_due(now) {
            if entry.turn == Turn::OWN { self.ready.put_back(entry) } else { self.ready.push_back(entry) }
        }
        let ended = self.leases.take_ended(now);
        if !ended.is_empty() {
            // Whoever held one has room again.
            self.wake_all(effects);
        }
        for leased in ended.into_iter().rev() {
            self.return_lease(leased);
        }
    }

    /// When something will be due that is not now.
    pub(super) fn next_due(&self) -> u64 {
        self.delayed.next_due().min(self.leases.next_end())
    }

    pub(super) fn bury(&mut self, entry: Entry, reason: DeadLetterReason) {
        self.dead.push_back(Dead { entry, reason, at: SystemTime::now() });
    }

    /// Lets go what has expired among what is ready.
    pub(crate) fn sweep(&mut self, now: u64, options: &DestinationOptions, effects: &mut Effects) {
        if self.ready.iter().all(|entry| entry.expires > now) {
            return;
        }
        for entry in self.ready.clear() {
            if entry.expires <= now { self.expire(entry, options, effects) } else { self.ready.push_back(entry) }
        }
    }

    pub(super) fn expire(&mut self, entry: Entry, options: &DestinationOptions, effects: &mut Effects) {
        if options.expired == messaging_core::Expired::DeadLettered {
            self.settle_accounts(&entry);
            self.bury(entry, DeadLetterReason::new(DeadLetterReason::EXPIRED));
        } else {
            self.finish(entry, effects);
        }
    }

    pub(crate) fn depth(&self) -> Depth {
        let in_lanes = self.lanes.as_ref().map_or(0, Lanes::len);
        Depth {
            ready: (self.ready.len() + in_lanes) as u64,
            unsettled: Some(self.leases.len() as u64),
            delayed: Some(self.delayed.len() as u64),
            dead: Some(self.dead.len() as u64),
            approximate: false,
        }
    }

    /// What is ready, in order of delivery.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Entry> {
        self.ready.iter().chain(self.lanes.iter().flat_map(Lanes::iter))
    }

    /// The lowest place among the messages that are not settled.
    pub(crate) fn lowest_open(&self) -> Option<u64> {
        let waiting = self.ready().chain(self.delayed.iter());
        waiting.chain(self.leases.iter().map(|leased| &leased.entry)).map(|entry| entry.seq).min()
    }

    /// The lowest place among those that are not out.
    pub(crate) fn lowest_waiting(&self) -> Option<u64> {
        self.ready().map(|entry| entry.seq).min()
    }

    /// How many of those that wait were never delivered.
    pub(crate) fn never_delivered(&self) -> u64 {
        self.ready().chain(self.delayed.iter()).filter(|entry| entry.attempts == 0).count() as u64
    }

    /// Deletes what waits; what is out stays. Returns how many.
    pub(crate) fn purge(&mut self, effects: &mut Effects) -> u64 {
        let mut gone = self.ready.clear();
        gone.extend(self.delayed.clear());
        gone.extend(self.lanes.as_mut().map(Lanes::clear_waiting).unwrap_or_default());
        let count = gone.len() as u64;
        for entry in gone {
            self.finish(entry, effects);
        }
        count
    }

    /// Forgets everything, as a restart without data does.
    pub(crate) fn wipe(&mut self, effects: &mut Effects) {
        self.purge(effects);
        for leased in self.leases.take_where(|_| true) {
            self.let_go(leased.consumer);
            self.finish(leased.entry, effects);
        }
        for waiting in self.lanes.iter_mut().flat_map(Lanes::clear) {
            effects.drop_later(waiting);
        }
        self.dead.clear();
    }
}
