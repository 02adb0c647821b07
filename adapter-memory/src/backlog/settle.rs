//! Settling deliveries: the returning half of the hot path.

use std::time::Duration;

use messaging_core::{Acked, DeadLetterReason, Delivery, Error, ErrorKind, Flow, Result, Settlement};

use super::Backlog;
use super::effects::Effects;
use super::entry::{Entry, Leased, Turn};
use super::state::State;
use crate::clock::nanos;

impl Backlog {
    #[inline]
    pub(crate) fn settle(&self, tag: u64, how: Settlement) -> Result<()> {
        if matches!(how, Settlement::Ack) {
            return self.ack(tag);
        }
        self.settle_otherwise(tag, how)
    }

    #[inline(never)]
    fn settle_otherwise(&self, tag: u64, how: Settlement) -> Result<()> {
        let mut effects = Effects::default();
        let mut state = self.lock();
        let Some(leased) = state.leases.take(tag) else { return Err(stale()) };
        let consumer = leased.consumer;
        let result = match how {
            Settlement::Ack => {
                self.done(&mut state, leased, &mut effects);
                Ok(())
            }
            Settlement::Retry { after } => {
                self.retry(&mut state, leased, after, &mut effects);
                Ok(())
            }
            Settlement::Release => {
                let mut leased = leased;
                leased.entry.attempts -= 1;
                state.return_lease(leased);
                state.wake_one(&mut effects);
                Ok(())
            }
            Settlement::DeadLetter(reason) => self.dead_letter(&mut state, leased, *reason, &mut effects),
        };
        self.admit_more(&mut state, consumer, &mut effects);
        drop(state);
        effects.run();
        result
    }

    /// The usual settlement: what is let go of is dropped after the lock.
    #[inline]
    fn ack(&self, tag: u64) -> Result<()> {
        let mut effects = Effects::default();
        let mut state = self.lock();
        let Some(Leased { entry, consumer, until: _ }) = state.leases.take(tag) else { return Err(stale()) };
        state.settle_accounts(&entry);
        state.settled(consumer, 1);
        if state.someone_waits(consumer) {
            self.pass_on(&mut state, consumer, &mut effects);
        }
        drop(state);
        effects.run();
        drop(entry);
        Ok(())
    }

    /// Acknowledges deliveries of one consumer; what is let go of is dropped after the lock.
    pub(crate) fn ack_many(&self, tags: &[u64]) -> Acked {
        let mut effects = Effects::default();
        let mut finished = Vec::with_capacity(tags.len());
        let mut state = self.lock();
        let mut holder = None;
        for tag in tags {
            if let Some(Leased { entry, consumer, until: _ }) = state.leases.take(*tag) {
                state.settle_accounts(&entry);
                holder = Some(consumer);
                finished.push(entry.message);
            }
        }
        if let Some(consumer) = holder {
            state.settled(consumer, finished.len());
            if state.someone_waits(consumer) {
                self.pass_on(&mut state, consumer, &mut effects);
            }
        }
        drop(state);
        effects.run();
        let acked = finished.len() as u64;
        Acked { acked, stale: tags.len() as u64 - acked }
    }

    /// A settlement made room: for those that wait to publish, and for a consumer that held all it may.
    #[cold]
    fn pass_on(&self, state: &mut State, consumer: u32, effects: &mut Effects) {
        self.admit_parked(state, effects);
        self.admit_more(state, consumer, effects);
    }

    pub(crate) fn extend(&self, tag: u64, by: Duration) -> Result<()> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.leases.stamp(now);
        if state.leases.keep_until(tag, now.saturating_add(nanos(by))) { Ok(()) } else { Err(stale()) }
    }

    /// Acknowledges under the caller's lock.
    pub(crate) fn ack_locked(&self, state: &mut State, tag: u64, effects: &mut Effects) {
        if let Some(leased) = state.take_lease(tag) {
            let consumer = leased.consumer;
            self.done(state, leased, effects);
            self.admit_more(state, consumer, effects);
        }
    }

    /// A delivery is done for good.
    pub(crate) fn done(&self, state: &mut State, leased: Leased, effects: &mut Effects) {
        let Leased { entry, consumer, until: _ } = leased;
        state.settled(consumer, 1);
        state.finish(entry, effects);
        if !state.parking.is_empty() {
            self.admit_parked(state, effects);
        }
    }

    fn retry(&self, state: &mut State, leased: Leased, after: Duration, effects: &mut Effects) {
        let Leased { mut entry, consumer, until: _ } = leased;
        let hold = state.member(consumer).is_some_and(|member| member.hold);
        state.settled(consumer, 1);
        if !hold {
            state.free_lane(&entry);
            entry.turn = Turn::NONE;
        }
        if after.is_zero() {
            if entry.turn == Turn::OWN {
                state.ready.put_back(entry)
            } else {
                state.ready.push_back(entry)
            }
            state.wake_one(effects);
        } else {
            state.delay(entry, self.clock.after(after), effects);
        }
    }

    /// Moves a message to the dead letter, or lets it wait for another try if the dead letter cannot take it.
    fn dead_letter(
        &self,
        state: &mut State,
        leased: Leased,
        reason: DeadLetterReason,
        effects: &mut Effects,
    ) -> Result<()> {
        let refused = if state.fail_dead_letters > 0 {
            state.fail_dead_letters -= 1;
            Some(Error::new(ErrorKind::Unreachable, "the dead letter cannot be reached"))
        } else if state.dead.len() >= self.options.capacity {
            Some(Error::new(
                ErrorKind::Full,
                format!(
                    "the dead letter holds {} messages, which is the capacity: redrive or purge some",
                    state.dead.len()
                ),
            ))
        } else {
            None
        };
        if let Some(error) = refused {
            let wait = Delivery::drop_backoff(leased.entry.attempts.max(2));
            self.retry(state, leased, wait, effects);
            return Err(error.with_context("message", format_args!("kept, again in {wait:?}")));
        }
        let Leased { entry, consumer, until: _ } = leased;
        state.settled(consumer, 1);
        state.settle_accounts(&entry);
        state.bury(Entry { turn: Turn::NONE, ..entry }, reason);
        if !state.parking.is_empty() {
            self.admit_parked(state, effects);
        }
        Ok(())
    }

    /// Wakes a consumer that waited because it held all it may, and whoever is next for what became ready.
    fn admit_more(&self, state: &mut State, consumer: u32, effects: &mut Effects) {
        if let Some(member) = state.member_mut(consumer)
            && !member.in_line
            && member.flow == Flow::Running
            && let Some(waker) = member.waker.take()
        {
            // Also if there is nothing for it yet: from now on it waits for messages.
            effects.wake(waker);
        }
        if self.has_more(state) {
            state.wake_one(effects);
        }
    }
}

#[cold]
pub(crate) fn stale() -> Error {
    Error::new(
        ErrorKind::StaleDelivery,
        "the delivery has moved on to another consumer or was settled: nothing was changed; make the handler faster or the lease longer",
    )
}
