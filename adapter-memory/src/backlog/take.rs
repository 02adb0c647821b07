//! Taking deliveries: the receiving half of the hot path.

use std::sync::Arc;
use std::task::Context;

use messaging_core::{Delivery, Event, Flow, Position, Settler, Unsettled};

use super::Backlog;
use super::effects::Effects;
use super::entry::{Entry, Leased};
use super::state::State;

/// What a poll came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// So many deliveries were taken.
    Took(usize),
    /// The consumer was stopped.
    Stopped,
    /// Its broker handle was closed.
    Closed,
    /// The queue or subscription was removed.
    Gone,
    /// Nothing now; the waker is registered. Something is due at this time.
    Wait { until: u64 },
}

impl Backlog {
    /// Takes up to `max` deliveries for a consumer, or registers its waker.
    pub(crate) fn take(
        &self,
        id: u32,
        max: usize,
        settler: &Arc<dyn Settler>,
        cx: &mut Context<'_>,
        out: &mut Vec<Delivery>,
    ) -> Step {
        // One reading of the clock for all that this poll takes.
        let now = self.clock.now();
        let mut effects = Effects::default();
        let step = self.take_locked(&mut self.lock(), id, max, now, settler, cx, out, &mut effects);
        effects.run();
        if let Some(feed) = self.feed() {
            // What was fetched made room for those that wait to publish.
            feed.log().admit_parked();
        }
        step
    }

    #[allow(clippy::too_many_arguments, reason = "the lock has one caller, which owns all of these")]
    fn take_locked(
        &self,
        state: &mut State,
        id: u32,
        max: usize,
        now: u64,
        settler: &Arc<dyn Settler>,
        cx: &mut Context<'_>,
        out: &mut Vec<Delivery>,
        effects: &mut Effects,
    ) -> Step {
        if state.gone {
            return Step::Gone;
        }
        let Some(member) = state.member(id) else { return Step::Closed };
        if member.closed {
            return Step::Closed;
        }
        let free = match member.flow {
            Flow::Stopped => return Step::Stopped,
            Flow::Paused => 0,
            Flow::Running => member.prefetch.saturating_sub(member.held).min(max),
        };
        let (lease, running) = (member.lease, member.flow == Flow::Running);
        if state.next_due() <= now {
            state.tick(now);
        }
        let before = out.len();
        while out.len() - before < free {
            let Some(entry) = self.next_entry(state, id, free - (out.len() - before), now, effects) else { break };
            out.push(self.lend(state, entry, id, now.saturating_add(lease), settler));
        }
        let taken = out.len() - before;
        let has_more = self.has_more(state);
        if let Some(member) = state.member_mut(id) {
            if taken > 0 {
                member.held += taken;
                member.in_line = false;
                member.waker = None;
            } else {
                match &mut member.waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => member.waker = Some(cx.waker().clone()),
                }
            }
        }
        if taken > 0 {
            // There may be more than this one could take: the next in line goes on.
            if has_more {
                state.wake_one(effects);
            }
            if !state.parking.is_empty() {
                self.admit_parked(state, effects);
            }
            return Step::Took(taken);
        }
        if running && free > 0 {
            state.stand_in_line(id);
        }
        Step::Wait { until: state.next_due() }
    }

    /// The next message that may be delivered: not expired, and its key's turn where order is kept.
    fn next_entry(&self, state: &mut State, id: u32, want: usize, now: u64, effects: &mut Effects) -> Option<Entry> {
        loop {
            if state.ready.is_empty() {
                self.refill(state, id, want, now, effects);
            }
            let entry = state.ready.pop()?;
            if entry.expires <= now {
                state.expire(entry, &self.options, effects);
                continue;
            }
            match &mut state.lanes {
                None => return Some(entry),
                Some(lanes) => {
                    if let Some(entry) = lanes.admit(entry) {
                        return Some(entry);
                    }
                }
            }
        }
    }

    /// Brings more of the topic's messages into a subscription.
    fn refill(&self, state: &mut State, id: u32, want: usize, now: u64, effects: &mut Effects) {
        let Some(feed) = self.feed() else { return };
        if state.open() >= self.options.capacity {
            return;
        }
        let pulled = feed.pull(want, now, state.waits_for_topic, &self.me, self.options.ephemeral_lag);
        state.waits_for_topic = pulled.registered;
        if pulled.missed > 0 {
            state.push_event(id, Event::Gap { missed: Some(pulled.missed) }, effects);
        }
        for (entry, due) in pulled.entries {
            state.bring(entry, due, effects);
        }
    }

    fn lend(&self, state: &mut State, mut entry: Entry, id: u32, until: u64, settler: &Arc<dyn Settler>) -> Delivery {
        entry.attempts += 1;
        let (message, attempt, redriven, offset) = (entry.message.clone(), entry.attempts, entry.redriven, entry.seq);
        state.next_lease_end = if state.leases.len() == 0 { until } else { state.next_lease_end.min(until) };
        let tag = state.leases.grant(Leased { entry, consumer: id, until });
        let position = self.feed().map(|_| Position { partition: 0, offset });
        let unsettled = Unsettled { message, tag, attempt, redriven: u32::from(redriven), position };
        Delivery::new(unsettled, Arc::clone(settler))
    }
}
