//! Everything behind the outlet's lock.

use std::task::{Context, Waker};

use messaging_core::{Flow, Order, RetryMode};
use tokio::time::Instant;

use super::events::Events;
use super::ready::Ready;
use super::{Buffered, EndReason, Held, OutletOptions};
use crate::due_queue::DueQueue;
use crate::epoch::DeliveryId;
use crate::key_gate::KeyGate;

pub(super) struct State<H> {
    pub(super) ready: Ready<H>,
    pub(super) gate: KeyGate<H>,
    /// Messages that were read before they are due.
    pub(super) delayed: DueQueue<H>,
    pub(super) delayed_bytes: usize,
    /// Retries that wait here. They hold their keys.
    pub(super) held: DueQueue<H>,
    pub(super) held_bytes: usize,
    /// Size of what is ready or waits behind its key.
    pub(super) bytes: usize,
    /// High water was reached, and low water not since.
    pub(super) is_full: bool,
    pub(super) flow: Flow,
    pub(super) end: Option<EndReason>,
    pub(super) waker: Option<Waker>,
    pub(super) events: Events,
    pub(super) event_waker: Option<Waker>,
}

impl<H: Held> State<H> {
    pub(super) fn new() -> Self {
        Self {
            ready: Ready::new(),
            gate: KeyGate::new(),
            delayed: DueQueue::new(),
            delayed_bytes: 0,
            held: DueQueue::new(),
            held_bytes: 0,
            bytes: 0,
            is_full: false,
            flow: Flow::Running,
            end: None,
            waker: None,
            events: Events::default(),
            event_waker: None,
        }
    }

    /// Number of messages that are ready or wait behind their key.
    pub(super) fn messages(&self) -> usize {
        self.ready.len() + self.gate.waiting()
    }

    pub(super) fn buffered(&self, options: &OutletOptions) -> Buffered {
        Buffered {
            messages: self.messages(),
            bytes: self.bytes,
            first: self.ready.first(),
            held: self.held_places(options),
            delayed: self.delayed.len(),
            delayed_bytes: self.delayed_bytes,
            delayed_bound: options.delayed,
        }
    }

    /// Places of the prefetch that waiting retries use: all where keys are held, none where others go on, until as much waits as may
    /// be read ahead: that must have a bound too.
    pub(super) fn held_places(&self, options: &OutletOptions) -> usize {
        let is_free = options.retry_mode == RetryMode::Requeue
            && !options.read_ahead.is_reached(self.held.len(), self.held_bytes);
        if is_free { 0 } else { self.held.len() }
    }

    /// Makes an item ready, or lets it wait for its key.
    pub(super) fn admit(&mut self, item: H, options: &OutletOptions) {
        if let Some(item) = self.pass_gate(item, options) {
            self.ready.push(item);
        }
    }

    pub(super) fn admit_first(&mut self, item: H, options: &OutletOptions) {
        if let Some(item) = self.pass_gate(item, options) {
            self.ready.push_first(item);
        }
    }

    fn pass_gate(&mut self, item: H, options: &OutletOptions) -> Option<H> {
        self.bytes += item.size();
        if options.order != Order::ByKey {
            return Some(item);
        }
        self.gate.enter_by(item.id(), item, H::key)
    }

    /// Frees a key; the next message of it is ready. Returns whether there is one.
    pub(super) fn free_key(&mut self, id: DeliveryId) -> bool {
        let next = self.gate.leave(id);
        let is_any = next.is_some();
        next.into_iter().for_each(|item| self.ready.push(item));
        is_any
    }

    /// Releases what is due by `now`, retries and delayed messages in the order of their due times.
    pub(super) fn release_due(&mut self, now: Instant, options: &OutletOptions) -> bool {
        let mut is_any = false;
        loop {
            let (held, delayed) = (self.held.next_due(), self.delayed.next_due());
            let is_retry = match (held, delayed) {
                (Some(held), Some(delayed)) => held <= delayed,
                (held, _) => held.is_some(),
            };
            let item = if is_retry { self.held.pop_due(now) } else { self.delayed.pop_due(now) };
            let Some(item) = item else { return is_any };
            if is_retry {
                self.held_bytes = self.held_bytes.saturating_sub(item.size());
                self.admit_first(item, options);
            } else {
                self.delayed_bytes = self.delayed_bytes.saturating_sub(item.size());
                self.admit(item, options);
            }
            is_any = true;
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.held.next_due(), self.delayed.next_due()].into_iter().flatten().min()
    }

    /// Removes messages that were not handed out, and frees the keys that they hold.
    pub(super) fn take_unstarted(&mut self, mut which: impl FnMut(&H) -> bool) -> Vec<H> {
        let mut taken = self.ready.take_where(&mut which);
        taken.extend(self.gate.take_waiting(&mut which));
        let bytes: usize = taken.iter().map(H::size).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        let held = self.held.take_where(&mut which);
        self.held_bytes = self.held_bytes.saturating_sub(held.iter().map(H::size).sum());
        taken.extend(held);
        let delayed = self.delayed.take_where(&mut which);
        self.delayed_bytes = self.delayed_bytes.saturating_sub(delayed.iter().map(H::size).sum());
        taken.extend(delayed);
        for item in &taken {
            self.free_key(item.id());
        }
        taken
    }

    /// True if there is room to read on, with high and low water.
    pub(super) fn update_room(&mut self, options: &OutletOptions) -> bool {
        let messages = self.messages();
        self.is_full = if self.is_full {
            options.read_ahead.is_half_reached(messages, self.bytes)
        } else {
            options.read_ahead.is_reached(messages, self.bytes)
        };
        !self.is_full
    }

    /// Registers whoever polls for deliveries.
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(known) => known.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}
