//! The consumers of a backlog.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use messaging_core::{ConsumeOptions, Event, Flow, Order, RetryMode};
use tokio::sync::Notify;

use super::effects::Effects;
use super::state::State;
use crate::clock::nanos;

/// What a consumer brings when it joins.
#[derive(Debug)]
pub(crate) struct Membership {
    prefetch: usize,
    lease: u64,
    ordered: bool,
    hold: bool,
}

impl Membership {
    pub(crate) fn of(options: &ConsumeOptions) -> Self {
        Self {
            prefetch: options.prefetch,
            lease: nanos(options.lease.max),
            ordered: options.order == Order::ByKey,
            hold: options.retry_mode == RetryMode::Hold,
        }
    }
}

/// A consumer's part of the state.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) prefetch: usize,
    /// How long its deliveries are leased, in nanoseconds.
    pub(super) lease: u64,
    pub(super) hold: bool,
    /// Deliveries it holds unsettled.
    pub(super) held: usize,
    pub(super) flow: Flow,
    /// The broker handle it was opened on was closed.
    pub(super) closed: bool,
    /// It stands in the line of those that wait for messages.
    pub(super) in_line: bool,
    pub(super) waker: Option<Waker>,
    /// What its timer is set to while it waits.
    pub(super) timer: u64,
    pub(super) events: VecDeque<Event>,
    pub(super) event_waker: Option<Waker>,
    /// Settlements since it was stopped, for the report of a drain.
    pub(super) settled_since_stop: u64,
    /// Told when it holds nothing any more.
    pub(super) idle: Arc<Notify>,
}

/// At most so many events wait to be read; gaps are merged, older others make room.
const EVENTS_MAX: usize = 64;

impl Member {
    #[inline]
    fn is_ending(&self) -> bool {
        self.flow == Flow::Stopped || self.closed
    }

    #[cold]
    fn settled_while_ending(&mut self, count: usize) {
        if self.flow == Flow::Stopped {
            self.settled_since_stop += count as u64;
        }
        self.tell_if_idle();
    }

    fn tell_if_idle(&self) {
        if self.held == 0 {
            self.idle.notify_waiters();
        }
    }

    fn push_event(&mut self, event: Event, effects: &mut Effects) {
        match (self.events.back_mut(), &event) {
            (Some(Event::Gap { missed: Some(sum) }), Event::Gap { missed: Some(more) }) => *sum += more,
            _ => {
                if self.events.len() == EVENTS_MAX {
                    self.events.pop_front();
                }
                self.events.push_back(event);
            }
        }
        for waker in self.event_waker.take().into_iter().chain(self.waker.clone()) {
            effects.wake(waker);
        }
    }
}

impl State {
    pub(crate) fn join(&mut self, membership: Membership) -> u32 {
        let Membership { prefetch, lease, ordered, hold } = membership;
        if ordered {
            self.keep_order();
        }
        let member = Member {
            prefetch,
            lease,
            hold,
            held: 0,
            flow: Flow::Running,
            closed: false,
            in_line: false,
            waker: None,
            timer: 0,
            events: VecDeque::new(),
            event_waker: None,
            settled_since_stop: 0,
            idle: Arc::default(),
        };
        match self.members.iter().position(Option::is_none) {
            Some(index) => {
                self.members[index] = Some(member);
                index as u32
            }
            None => {
                self.members.push(Some(member));
                (self.members.len() - 1) as u32
            }
        }
    }

    /// Takes a consumer out; what it holds goes to the others.
    pub(crate) fn leave(&mut self, id: u32, effects: &mut Effects) {
        self.take_back(id, effects);
        if let Some(place) = self.members.get_mut(id as usize) {
            *place = None;
        }
        self.wake_all(effects);
    }

    /// Takes back what a consumer holds; returns how many. Its settlements are stale from now on.
    pub(crate) fn take_back(&mut self, id: u32, effects: &mut Effects) -> u64 {
        let taken = self.leases.take_where(|leased| leased.consumer == id);
        let count = taken.len() as u64;
        for leased in taken.into_iter().rev() {
            self.return_lease(leased);
        }
        if count > 0 {
            self.wake_all(effects);
        }
        count
    }

    /// How many consumers there are.
    pub(crate) fn consumers(&self) -> usize {
        self.members.iter().flatten().count()
    }

    #[inline]
    pub(crate) fn member(&self, id: u32) -> Option<&Member> {
        self.members.get(id as usize)?.as_ref()
    }

    #[inline]
    pub(crate) fn member_mut(&mut self, id: u32) -> Option<&mut Member> {
        self.members.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn set_flow(&mut self, id: u32, flow: Flow, effects: &mut Effects) {
        let Some(member) = self.member_mut(id) else { return };
        if member.flow == Flow::Stopped {
            return;
        }
        member.flow = flow;
        member.in_line = false;
        if flow == Flow::Stopped {
            member.settled_since_stop = 0;
        }
        if let Some(waker) = member.waker.take() {
            effects.wake(waker);
        }
        // It may have been the one that was woken for a message.
        self.wake_one(effects);
    }

    pub(crate) fn close_member(&mut self, id: u32, effects: &mut Effects) {
        if let Some(member) = self.member_mut(id) {
            member.closed = true;
            for waker in member.waker.take().into_iter().chain(member.event_waker.take()) {
                effects.wake(waker);
            }
            // It may have been the one that was woken for a message.
            self.wake_one(effects);
        }
    }

    pub(crate) fn push_event(&mut self, id: u32, event: Event, effects: &mut Effects) {
        if let Some(member) = self.member_mut(id) {
            member.push_event(event, effects);
        }
    }

    /// Ends a consumer's wait. If it was woken for a message, the next in line gets the chance.
    pub(crate) fn stop_waiting(&mut self, id: u32, has_more: bool, effects: &mut Effects) {
        if let Some(member) = self.member_mut(id) {
            member.in_line = false;
            member.waker = None;
        }
        if has_more {
            self.wake_one(effects);
        }
        self.keep_watch(effects);
    }

    /// Wakes the first consumer in line.
    #[inline]
    pub(crate) fn wake_one(&mut self, effects: &mut Effects) {
        if !self.line.is_empty() {
            self.wake_first(effects);
        }
    }

    fn wake_first(&mut self, effects: &mut Effects) {
        while let Some(id) = self.line.pop_front() {
            let Some(member) = self.members.get_mut(id as usize).and_then(Option::as_mut) else { continue };
            if !member.in_line {
                continue;
            }
            member.in_line = false;
            if let Some(waker) = member.waker.take() {
                effects.wake(waker);
                return;
            }
        }
    }

    pub(crate) fn wake_all(&mut self, effects: &mut Effects) {
        self.line.clear();
        for member in self.members.iter_mut().flatten() {
            member.in_line = false;
            if let Some(waker) = member.waker.take() {
                effects.wake(waker);
            }
        }
    }

    /// Puts a consumer in the line of those that wait for messages.
    pub(super) fn stand_in_line(&mut self, id: u32) {
        if self.member(id).is_some_and(|member| !member.in_line) {
            // Whoever left the line early still stands in it, and is passed over; not too often.
            if self.line.len() > 2 * self.members.len() + 16 {
                let members = &self.members;
                self.line.retain(|id| members[*id as usize].as_ref().is_some_and(|member| member.in_line));
            }
            self.line.push_back(id);
            if let Some(member) = self.member_mut(id) {
                member.in_line = true;
            }
        }
    }

    /// A consumer has settled so many of its deliveries.
    #[inline]
    pub(super) fn settled(&mut self, id: u32, count: usize) {
        if let Some(member) = self.member_mut(id) {
            member.held = member.held.saturating_sub(count);
            if member.is_ending() {
                member.settled_while_ending(count);
            }
        }
    }

    /// What a drain has to know: how much is held, how much was settled since the stop, and whom to wait for.
    pub(crate) fn drain_status(&self, id: u32) -> Option<(usize, u64, Arc<Notify>)> {
        let member = self.member(id)?;
        Some((member.held, member.settled_since_stop, Arc::clone(&member.idle)))
    }

    /// The next event of a consumer, or its waker is registered for one.
    pub(crate) fn poll_event(&mut self, id: u32, waker: &Waker) -> Option<Event> {
        let member = self.member_mut(id)?;
        let event = member.events.pop_front();
        if event.is_none() {
            member.event_waker = Some(waker.clone());
        }
        event
    }

    /// Registers a consumer's waker without looking for messages.
    pub(crate) fn wait_for_link(&mut self, id: u32, waker: &Waker) {
        if let Some(member) = self.member_mut(id) {
            member.waker = Some(waker.clone());
        }
    }

    /// A consumer has lost a delivery without settling it.
    pub(super) fn let_go(&mut self, id: u32) {
        if let Some(member) = self.member_mut(id) {
            member.held = member.held.saturating_sub(1);
            if member.is_ending() {
                member.tell_if_idle();
            }
        }
    }
}
