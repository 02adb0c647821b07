//! Taking deliveries: the receiving half of the hot path.

use std::sync::Arc;
use std::task::Context;

use messaging_core::spi::{Settler, Unsettled};

use messaging_core::{Delivery, Event, Flow, Position};

use super::Backlog;
use super::effects::Effects;
use super::entry::{Entry, Lent, NEVER};
use super::state::State;
use crate::topic::Feed;

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
    #[inline]
    pub(crate) fn take(
        &self,
        id: u32,
        max: usize,
        settler: &Arc<dyn Settler>,
        cx: &mut Context<'_>,
        out: &mut Vec<Delivery>,
    ) -> Step {
        let mut effects = Effects::default();
        let mut taking = Taking { backlog: self, id, settler, now: None };
        let step = taking.take(&mut self.lock(), max, cx, out, &mut effects);
        effects.run();
        if let Some(feed) = self.feed() {
            // What was fetched made room for those that wait to publish.
            feed.log().admit_parked();
        }
        step
    }
}

/// One poll. The clock is read at most once, and only if something depends on it.
struct Taking<'a> {
    backlog: &'a Backlog,
    id: u32,
    settler: &'a Arc<dyn Settler>,
    now: Option<u64>,
}

impl Taking<'_> {
    fn now(&mut self) -> u64 {
        *self.now.get_or_insert_with(|| self.backlog.clock.now())
    }

    #[inline(always)]
    fn take(
        &mut self,
        state: &mut State,
        max: usize,
        cx: &mut Context<'_>,
        out: &mut Vec<Delivery>,
        effects: &mut Effects,
    ) -> Step {
        if state.gone {
            return Step::Gone;
        }
        let Some(member) = state.member(self.id).filter(|member| !member.closed) else { return Step::Closed };
        if member.flow == Flow::Stopped {
            return Step::Stopped;
        }
        let lease = member.lease;
        if state.delayed.len() > 0 || state.leases.wants_stamp() {
            self.tick(state, effects);
        }
        let free = self.free(state, max);
        let taken = self.lend_many(state, free, lease, out, effects);
        if taken == 0 {
            return self.take_late(state, max, lease, cx, out, effects);
        }
        self.took(state, taken, effects)
    }

    /// Before anybody waits, what depends on time is brought up to date; that may bring something to take, and an ended
    /// lease gives its holder room.
    #[inline(never)]
    fn take_late(
        &mut self,
        state: &mut State,
        max: usize,
        lease: u64,
        cx: &mut Context<'_>,
        out: &mut Vec<Delivery>,
        effects: &mut Effects,
    ) -> Step {
        self.tick(state, effects);
        let free = self.free(state, max);
        match self.lend_many(state, free, lease, out, effects) {
            0 => self.wait(state, free > 0, cx, effects),
            taken => self.took(state, taken, effects),
        }
    }

    #[inline]
    fn took(&mut self, state: &mut State, taken: usize, effects: &mut Effects) -> Step {
        if let Some(member) = state.member_mut(self.id) {
            member.held += taken;
            member.in_line = false;
            member.waker = None;
        }
        if !state.line.is_empty() {
            self.pass_on(state, effects);
        }
        Step::Took(taken)
    }

    /// Somebody else waits.
    #[inline(never)]
    fn pass_on(&mut self, state: &mut State, effects: &mut Effects) {
        // There may be more than this one could take: the next in line goes on.
        if self.backlog.has_more(state) {
            state.wake_one(effects);
        }
        if !state.line.is_empty() {
            // A lease that was granted now must not end later than it may.
            state.leases.stamp(self.now());
            state.keep_watch(effects);
        }
    }

    /// How many more the consumer may hold, at most `max`.
    #[inline]
    fn free(&self, state: &State, max: usize) -> usize {
        let running = state.member(self.id).filter(|member| member.flow == Flow::Running);
        running.map_or(0, |member| member.prefetch.saturating_sub(member.held).min(max))
    }

    #[inline(never)]
    fn tick(&mut self, state: &mut State, effects: &mut Effects) {
        state.tick(self.now(), effects);
    }

    fn wait(&self, state: &mut State, in_line: bool, cx: &mut Context<'_>, effects: &mut Effects) -> Step {
        if let Some(member) = state.member_mut(self.id) {
            match &mut member.waker {
                Some(known) => known.clone_from(cx.waker()),
                None => member.waker = Some(cx.waker().clone()),
            }
        }
        if in_line {
            state.stand_in_line(self.id);
        } else if self.backlog.has_more(state) {
            // What has become due is for others.
            state.wake_one(effects);
        }
        let until = state.next_due();
        state.watch(self.id, until);
        Step::Wait { until }
    }

    #[inline(always)]
    fn lend_many(
        &mut self,
        state: &mut State,
        count: usize,
        lease: u64,
        out: &mut Vec<Delivery>,
        effects: &mut Effects,
    ) -> usize {
        let mut lent = 0;
        if count > 1 && state.is_plain() && self.backlog.feed.is_none() {
            while lent < count {
                match self.lend_plain(state, count - lent, lease, out) {
                    0 => break,
                    more => lent += more,
                }
            }
            return lent;
        }
        while lent < count
            && let Some(entry) = self.next_entry(state, count - lent, effects)
        {
            out.push(self.lend(state, entry, lease));
            lent += 1;
        }
        lent
    }

    /// As [`lend_many`](Self::lend_many) from a queue where everything that is ready may be delivered: those of the highest
    /// priority.
    ///
    /// What may unwind comes before a delivery is made, and none is made before its place is there. Otherwise the compiler
    /// builds it elsewhere, word by word, and the copy of wider pieces waits for each word to arrive.
    #[inline(always)]
    #[allow(clippy::expect_used, reason = "as many are taken as were counted under the same lock")]
    fn lend_plain(&self, state: &mut State, count: usize, lease: u64, out: &mut Vec<Delivery>) -> usize {
        let (ready, leases) = (&mut state.ready, &mut state.leases);
        let count = ready.first_len().min(count);
        out.extend((0..count).map(|_| {
            let settler = Arc::clone(self.settler);
            let lent = leases.lend(self.id, lease, || ready.pop().expect("it was counted"));
            let Lent { message, tag, attempt, redriven } = lent;
            Delivery::new(Unsettled { message, tag, attempt, redriven, position: None }, settler)
        }));
        count
    }

    /// The next message that may be delivered: not expired, and its key's turn where order is kept.
    #[inline(always)]
    fn next_entry(&mut self, state: &mut State, want: usize, effects: &mut Effects) -> Option<Entry> {
        loop {
            let urgent = self.backlog.feed().is_some_and(Feed::may_have_urgent);
            let next = if urgent { None } else { state.ready.pop() };
            let entry = match next {
                Some(entry) => entry,
                None if self.backlog.feed.is_some() => {
                    self.refill(state, want, effects);
                    state.ready.pop()?
                }
                None => return None,
            };
            if entry.expires == NEVER && state.lanes.is_none() {
                return Some(entry);
            }
            if let Some(entry) = self.admit(state, entry, effects) {
                return Some(entry);
            }
        }
    }

    /// Lets an entry go that has expired, or that has to wait in the lane of its key.
    #[inline(never)]
    fn admit(&mut self, state: &mut State, entry: Entry, effects: &mut Effects) -> Option<Entry> {
        if entry.expires != NEVER && entry.expires <= self.now() {
            state.expire(entry, &self.backlog.options, effects);
            if !state.parking.is_empty() {
                self.backlog.admit_parked(state, effects);
            }
            return None;
        }
        match &mut state.lanes {
            None => Some(entry),
            Some(lanes) => lanes.admit(entry),
        }
    }

    /// Brings more of the topic's messages into a subscription.
    #[inline(never)]
    fn refill(&mut self, state: &mut State, want: usize, effects: &mut Effects) {
        let backlog = self.backlog;
        let Some(feed) = backlog.feed() else { return };
        if state.open() >= backlog.options.capacity {
            return;
        }
        let lag = backlog.options.ephemeral_lag;
        let pulled = feed.pull(want, || self.now(), state.waits_for_topic, &backlog.me, lag);
        state.waits_for_topic = pulled.registered;
        if pulled.missed > 0 {
            state.push_event(self.id, Event::Gap { missed: Some(pulled.missed) }, effects);
        }
        for (entry, due) in pulled.entries {
            state.bring(entry, due, effects);
        }
    }

    #[inline(always)]
    fn lend(&self, state: &mut State, mut entry: Entry, lease: u64) -> Delivery {
        entry.attempts += 1;
        let (message, attempt, redriven, offset) = (entry.message.clone(), entry.attempts, entry.redriven, entry.seq);
        let tag = state.leases.grant(entry, self.id, lease);
        let position = self.backlog.feed().map(|_| Position { partition: 0, offset });
        let unsettled = Unsettled { message, tag, attempt, redriven: u32::from(redriven), position };
        Delivery::new(unsettled, Arc::clone(self.settler))
    }
}
