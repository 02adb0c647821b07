//! What waits, behind the intake's lock.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::task::Waker;

use adapter_kit::{DeliveryId, KeyGate};
use messaging_core::{Event, Flow, RetryMode};

use super::delayed::Delayed;
use super::ready::Ready;
use super::waiting::is_ahead;
use super::{End, Item, Waiting};
use crate::consumer::partition::Partition;

pub(super) struct State {
    pub(super) ready: Ready,
    /// Where keys are ordered: lets one message of a key pass.
    pub(super) gate: KeyGate<Item>,
    /// What was read before it is due.
    pub(super) delayed: Delayed,
    /// Retries that wait here.
    pub(super) held: Delayed,
    retry_mode: RetryMode,
    /// Size of the messages in `ready` and at the gate.
    pub(super) bytes: usize,
    pub(super) flow: Flow,
    pub(super) end: Option<End>,
    pub(super) waker: Option<Waker>,
    pub(super) events: VecDeque<Event>,
    pub(super) event_waker: Option<Waker>,
}

impl State {
    pub(super) fn new(retry_mode: RetryMode) -> Self {
        Self {
            ready: Ready::default(),
            gate: KeyGate::new(),
            delayed: Delayed::default(),
            held: Delayed::default(),
            retry_mode,
            bytes: 0,
            flow: Flow::Running,
            end: None,
            waker: None,
            events: VecDeque::new(),
            event_waker: None,
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            messages: self.ready.len() + self.gate.waiting(),
            first: self.ready.first(),
            bytes: self.bytes,
            held: self.held_places(),
            delayed: self.delayed.len(),
            delayed_bytes: self.delayed.bytes(),
        }
    }

    /// How much of the prefetch the retries that wait here use. Where keys are held, each uses its place. Where others are to go
    /// on, they do until as much waits as is read ahead: it must have a bound too.
    pub(super) fn held_places(&self) -> usize {
        let is_free = self.retry_mode == RetryMode::Requeue && !is_ahead(self.held.len(), self.held.bytes());
        if is_free { 0 } else { self.held.len() }
    }

    pub(super) fn admit(&mut self, item: Item, is_ordered: bool) {
        if let Some(item) = self.enter(item, is_ordered) {
            self.ready.push(item);
        }
    }

    pub(super) fn admit_first(&mut self, item: Item, is_ordered: bool) {
        if let Some(item) = self.enter(item, is_ordered) {
            self.ready.push_first(item);
        }
    }

    /// Counts an item, and gives it back unless it waits behind another of its key.
    fn enter(&mut self, item: Item, is_ordered: bool) -> Option<Item> {
        self.bytes += item.size();
        if !is_ordered {
            return Some(item);
        }
        match item.key().map(Cow::into_owned) {
            Some(key) => self.gate.enter(item.id(), &key, item),
            None => Some(item),
        }
    }

    /// The key of a message is free: the next message of it may go.
    pub(super) fn leave(&mut self, id: DeliveryId) {
        if let Some(next) = self.gate.leave(id) {
            self.ready.push(next);
        }
    }

    /// Removes what waits behind other messages of its key.
    pub(super) fn take_waiting(&mut self, leaving: impl Fn(&Partition) -> bool) -> Vec<Item> {
        let gone = self.gate.take_waiting(|item| leaving(item.partition()));
        self.bytes = self.bytes.saturating_sub(gone.iter().map(Item::size).sum());
        gone
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
