//! What the consumer's task, its settlers and whoever receives have in common.

mod receiver;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use messaging_core::spi::Unsettled;

use messaging_core::{Capabilities, Event, Flow, Health, HealthState, Scope, Source};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Consumed;
use crate::gate::Gate;
use crate::settle::Epoch;

/// Events that nobody takes are forgotten past this, the oldest first.
const EVENTS_MAX: usize = 64;

/// A delivery that waits to be handed out.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) delivery: Unsettled,
    pub(crate) expires: Option<Instant>,
}

/// What the task, the settlers and the receiver share.
#[derive(Debug)]
pub(crate) struct Shared {
    scope: Scope,
    source: Option<Source>,
    /// How many deliveries came and are not settled at the broker.
    unacknowledged: AtomicU64,
    capabilities: Arc<Capabilities>,
    prefetch: u64,
    has_gate: bool,
    core: Mutex<Core>,
    /// Settled since the consumer was opened.
    settled: AtomicU64,
    /// Something is ready, and someone waits for the prefetch to have room for it.
    wants_room: AtomicBool,
    /// Someone waits for all to be settled.
    is_draining: AtomicBool,
    /// The last delivery in the application's hands was settled.
    pub(in crate::consumer) all_settled: Notify,
    /// The flow changed, or the consumer was dropped.
    pub(in crate::consumer) changed: Notify,
}

#[derive(Debug)]
struct Core {
    epoch: Option<Arc<Epoch>>,
    flow: Flow,
    ready: VecDeque<Item>,
    gate: Gate<Item>,
    waker: Option<Waker>,
    events: VecDeque<Event>,
    event_waker: Option<Waker>,
    trouble: Option<(Instant, String)>,
    is_closed: bool,
    is_ended: bool,
    is_dropped: bool,
}

/// Whom a change wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wakes {
    Nobody,
    /// Whoever receives deliveries.
    Receiver,
    /// Whoever waits for an event.
    Watcher,
    Both,
}

impl Shared {
    pub(in crate::consumer) fn new(
        scope: Scope,
        capabilities: Arc<Capabilities>,
        prefetch: usize,
        has_gate: bool,
        what: &Consumed,
    ) -> Self {
        let source = match what {
            Consumed::Source { source, .. } => Some(source.clone()),
            Consumed::Ephemeral { .. } => None,
        };
        Self {
            scope,
            source,
            unacknowledged: AtomicU64::new(0),
            capabilities,
            prefetch: prefetch as u64,
            has_gate,
            core: Mutex::new(Core {
                epoch: None,
                flow: Flow::Running,
                ready: VecDeque::new(),
                gate: Gate::default(),
                waker: None,
                events: VecDeque::new(),
                event_waker: None,
                trouble: None,
                is_closed: false,
                is_ended: false,
                is_dropped: false,
            }),
            settled: AtomicU64::new(0),
            wants_room: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            all_settled: Notify::new(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// The queue or subscription, unless it is an ephemeral one.
    pub(crate) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    pub(crate) fn unacknowledged(&self) -> u64 {
        self.unacknowledged.load(Ordering::Relaxed)
    }

    pub(in crate::consumer) fn set_unacknowledged(&self, count: u64) {
        self.unacknowledged.store(count, Ordering::Relaxed);
    }

    pub(crate) fn has_gate(&self) -> bool {
        self.has_gate
    }

    /// Changes what is shared, and wakes whom it concerns; after the lock, or they would wake up to wait for it.
    fn change(&self, change: impl FnOnce(&mut Core) -> Wakes) {
        let (receiver, watcher) = {
            let mut core = self.core.lock();
            match change(&mut core) {
                Wakes::Nobody => (None, None),
                Wakes::Receiver => (core.waker.take(), None),
                Wakes::Watcher => (None, core.event_waker.take()),
                Wakes::Both => (core.waker.take(), core.event_waker.take()),
            }
        };
        receiver.into_iter().chain(watcher).for_each(Waker::wake);
    }

    // --- whoever steers ---

    pub(in crate::consumer) fn set_flow(&self, flow: Flow) {
        self.change(|core| {
            if core.flow == Flow::Stopped {
                return Wakes::Nobody;
            }
            core.flow = flow;
            Wakes::Receiver
        });
        self.changed.notify_one();
    }

    pub(in crate::consumer) fn flow(&self) -> Flow {
        self.core.lock().flow
    }

    /// The consumer was dropped: the task gives everything back and ends.
    pub(in crate::consumer) fn set_dropped(&self) {
        self.core.lock().is_dropped = true;
        self.changed.notify_one();
    }

    pub(in crate::consumer) fn is_dropped(&self) -> bool {
        self.core.lock().is_dropped
    }

    /// The subscription is no more: whoever receives learns it.
    pub(crate) fn set_ended(&self) {
        self.change(|core| {
            core.is_ended = true;
            Wakes::Receiver
        });
    }

    pub(in crate::consumer) fn is_ended(&self) -> bool {
        self.core.lock().is_ended
    }

    /// The broker handle was closed: whoever receives learns it.
    pub(crate) fn set_closed(&self) {
        self.change(|core| {
            core.is_closed = true;
            Wakes::Receiver
        });
    }

    // --- settlers ---

    /// Deliveries were settled; `left` are still out.
    pub(crate) fn settled(&self, count: u64, left: u64) {
        self.settled.fetch_add(count, Ordering::Relaxed);
        if left == 0 && self.is_draining.load(Ordering::SeqCst) {
            self.all_settled.notify_waiters();
        }
        if self.wants_room.load(Ordering::SeqCst) {
            self.wake_whoever_wants_room();
        }
    }

    #[cold]
    fn wake_whoever_wants_room(&self) {
        self.wants_room.store(false, Ordering::SeqCst);
        self.change(|_| Wakes::Receiver);
    }

    /// What is out under a tag is done with: the next of its key is ready.
    pub(crate) fn leave(&self, tag: u64) {
        if !self.has_gate {
            return;
        }
        self.change(|core| match core.gate.leave(tag, |item| item.delivery.tag) {
            Some(next) => {
                core.ready.push_back(next);
                Wakes::Receiver
            }
            None => Wakes::Nobody,
        });
    }

    // --- the task ---

    /// Whoever drains wants to know when the last delivery is settled.
    pub(in crate::consumer) fn set_draining(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    pub(in crate::consumer) fn settled_so_far(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    pub(in crate::consumer) fn handed(&self) -> u64 {
        self.core.lock().epoch.as_ref().map_or(0, |epoch| epoch.handed())
    }

    /// A channel is there: deliveries flow, and can be settled.
    pub(in crate::consumer) fn begin(&self, epoch: Arc<Epoch>, is_back: bool) {
        self.change(|core| {
            core.epoch = Some(epoch);
            core.trouble = None;
            if is_back {
                core.happened(Event::Reconnected);
            }
            Wakes::Both
        });
        // The task looks at the flow: it may have changed while there was no channel.
        self.changed.notify_one();
    }

    /// The channel is gone, and with it all that came on it.
    pub(in crate::consumer) fn end(&self, why: &str) {
        self.change(|core| {
            core.ready.clear();
            drop(core.gate.take_all());
            core.trouble = Some((Instant::now(), why.to_owned()));
            core.happened(Event::Disconnected);
            if let Some(epoch) = core.epoch.take() {
                epoch.end();
            }
            Wakes::Watcher
        });
        self.all_settled.notify_waiters();
    }

    /// Why there is no channel, while there is none.
    pub(in crate::consumer) fn still_in_trouble(&self, why: &str) {
        let mut core = self.core.lock();
        let since = core.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        core.trouble = Some((since, why.to_owned()));
    }

    pub(in crate::consumer) fn push(&self, items: &mut Vec<Item>) {
        self.change(|core| {
            let Core { gate, ready, .. } = core;
            if self.has_gate {
                for item in items.drain(..) {
                    let (tag, message) = (item.delivery.tag, item.delivery.message.clone());
                    ready.extend(gate.enter(tag, &message, item));
                }
            } else {
                ready.extend(items.drain(..));
            }
            if ready.is_empty() { Wakes::Nobody } else { Wakes::Receiver }
        });
    }

    /// Hands out again, before all others, what this consumer still holds.
    pub(in crate::consumer) fn push_again(&self, delivery: Unsettled, expires: Option<Instant>) {
        self.change(|core| {
            core.ready.push_front(Item { delivery, expires });
            Wakes::Receiver
        });
    }

    /// Takes all that was not handed out, in the order in which it came.
    pub(in crate::consumer) fn take_unstarted(&self) -> Vec<u64> {
        let mut core = self.core.lock();
        let Core { ready, gate, .. } = &mut *core;
        let behind = gate.take_waiting();
        let unstarted: Vec<u64> = ready.drain(..).map(|item| item.delivery.tag).collect();
        // Those in the application's hands are still out, and so are their keys.
        for tag in &unstarted {
            let _ = gate.leave(*tag, |item| item.delivery.tag);
        }
        let mut tags = unstarted;
        tags.extend(behind.into_iter().map(|item| item.delivery.tag));
        tags.sort_unstable();
        tags
    }

    pub(in crate::consumer) fn happened(&self, event: Event) {
        self.change(|core| {
            core.happened(event);
            Wakes::Watcher
        });
    }

    pub(crate) fn health(&self) -> Health {
        let core = self.core.lock();
        match &core.trouble {
            None => Health::up(),
            Some((since, why)) => Health::not_up(
                HealthState::Degraded,
                format!(
                    "the consumer of {} is away for {:.1} s: {why}",
                    self.scope.place(),
                    since.elapsed().as_secs_f32()
                ),
            ),
        }
    }
}

impl Core {
    fn happened(&mut self, event: Event) {
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
