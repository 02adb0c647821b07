//! What the consumer's task, its settlers and whoever receives have in common.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use messaging_core::{
    Capabilities, Delivery, Error, ErrorKind, Event, Flow, Health, HealthState, Result, Scope, Source, Unsettled,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::What;
use crate::error::closed;
use crate::gate::Gate;
use crate::settle::{Command, Epoch};

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
    pub(super) all_settled: Notify,
    /// The flow changed, or the consumer was dropped.
    pub(super) changed: Notify,
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

impl Shared {
    pub(super) fn new(
        scope: Scope,
        capabilities: Arc<Capabilities>,
        prefetch: usize,
        has_gate: bool,
        what: &What,
    ) -> Self {
        let source = match what {
            What::Source { source, .. } => Some(source.clone()),
            What::Ephemeral { .. } => None,
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

    pub(super) fn set_unacknowledged(&self, count: u64) {
        self.unacknowledged.store(count, Ordering::Relaxed);
    }

    pub(crate) fn has_gate(&self) -> bool {
        self.has_gate
    }

    // --- whoever receives ---

    pub(super) fn poll_next_many(
        &self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let mut core = self.core.lock();
        if core.is_closed {
            return Poll::Ready(Err(closed()));
        }
        if core.is_ended {
            return Poll::Ready(Err(Error::new(
                ErrorKind::NotFound,
                "the subscription was ended: subscribe again to have a new one",
            )));
        }
        match core.flow {
            Flow::Stopped => return Poll::Ready(Ok(0)),
            Flow::Paused => {
                core.wait(cx);
                return Poll::Pending;
            }
            Flow::Running => {}
        }
        let Some(epoch) = core.epoch.clone() else {
            core.wait(cx);
            return Poll::Pending;
        };
        // The broker bounds what it sends; several lanes on one channel have one bound each, and together this one.
        let room = self.prefetch.saturating_sub(epoch.handed());
        let max = max.min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut count = 0;
        while count < max {
            let Some(item) = core.ready.pop_front() else { break };
            if item.expires.is_some_and(|expires| expires <= Instant::now()) {
                epoch.tell(Command::Expired(item.delivery));
                continue;
            }
            out.push(Delivery::new(item.delivery, epoch.clone()));
            count += 1;
        }
        if count == 0 {
            core.wait(cx);
            if room == 0 && !core.ready.is_empty() {
                self.wants_room.store(true, Ordering::SeqCst);
                // A settlement between the look at the room and the note that someone wants it would wake nobody.
                if epoch.handed() < self.prefetch {
                    cx.waker().wake_by_ref();
                }
            }
            return Poll::Pending;
        }
        epoch.hand_out(count as u64);
        Poll::Ready(Ok(count))
    }

    pub(super) fn stop_waiting(&self) {
        self.core.lock().waker = None;
    }

    pub(super) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut core = self.core.lock();
        match core.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                core.event_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn set_flow(&self, flow: Flow) {
        let waker = {
            let mut core = self.core.lock();
            if core.flow == Flow::Stopped {
                return;
            }
            core.flow = flow;
            core.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
        self.changed.notify_one();
    }

    pub(super) fn flow(&self) -> Flow {
        self.core.lock().flow
    }

    /// The consumer was dropped: the task gives everything back and ends.
    pub(super) fn set_dropped(&self) {
        self.core.lock().is_dropped = true;
        self.changed.notify_one();
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.core.lock().is_dropped
    }

    /// The subscription is no more: whoever receives learns it.
    pub(crate) fn set_ended(&self) {
        let waker = {
            let mut core = self.core.lock();
            core.is_ended = true;
            core.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.core.lock().is_ended
    }

    /// The broker handle was closed: whoever receives learns it.
    pub(crate) fn set_closed(&self) {
        let waker = {
            let mut core = self.core.lock();
            core.is_closed = true;
            core.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
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
        let waker = self.core.lock().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// What is out under a tag is done with: the next of its key is ready.
    pub(crate) fn leave(&self, tag: u64) {
        if !self.has_gate {
            return;
        }
        let waker = {
            let mut core = self.core.lock();
            match core.gate.leave(tag, |item| item.delivery.tag) {
                Some(next) => {
                    core.ready.push_back(next);
                    core.waker.take()
                }
                None => None,
            }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    // --- the task ---

    /// Whoever drains wants to know when the last delivery is settled.
    pub(super) fn set_draining(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    pub(super) fn settled_so_far(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    pub(super) fn handed(&self) -> u64 {
        self.core.lock().epoch.as_ref().map_or(0, |epoch| epoch.handed())
    }

    /// A channel is there: deliveries flow, and can be settled.
    pub(super) fn begin(&self, epoch: Arc<Epoch>, is_back: bool) {
        let wakers = {
            let mut core = self.core.lock();
            core.epoch = Some(epoch);
            core.trouble = None;
            if is_back {
                core.happened(Event::Reconnected);
            }
            (core.waker.take(), core.event_waker.take())
        };
        wakers.0.into_iter().chain(wakers.1).for_each(Waker::wake);
        // The task looks at the flow: it may have changed while there was no channel.
        self.changed.notify_one();
    }

    /// The channel is gone, and with it all that came on it.
    pub(super) fn end(&self, why: &str) {
        let (epoch, waker) = {
            let mut core = self.core.lock();
            core.ready.clear();
            drop(core.gate.take_all());
            core.trouble = Some((Instant::now(), why.to_owned()));
            core.happened(Event::Disconnected);
            (core.epoch.take(), core.event_waker.take())
        };
        if let Some(epoch) = epoch {
            epoch.end();
        }
        self.all_settled.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Why there is no channel, while there is none.
    pub(super) fn still_in_trouble(&self, why: &str) {
        let mut core = self.core.lock();
        let since = core.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        core.trouble = Some((since, why.to_owned()));
    }

    pub(super) fn push(&self, items: &mut Vec<Item>) {
        let waker = {
            let mut core = self.core.lock();
            let Core { gate, ready, waker, .. } = &mut *core;
            if self.has_gate {
                for item in items.drain(..) {
                    let (tag, message) = (item.delivery.tag, item.delivery.message.clone());
                    ready.extend(gate.enter(tag, &message, item));
                }
            } else {
                ready.extend(items.drain(..));
            }
            if ready.is_empty() { None } else { waker.take() }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Hands out again, before all others, what this consumer still holds.
    pub(super) fn push_again(&self, delivery: Unsettled, expires: Option<Instant>) {
        let waker = {
            let mut core = self.core.lock();
            core.ready.push_front(Item { delivery, expires });
            core.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes all that was not handed out, in the order in which it came.
    pub(super) fn take_unstarted(&self) -> Vec<u64> {
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

    pub(super) fn happened(&self, event: Event) {
        let waker = {
            let mut core = self.core.lock();
            core.happened(event);
            core.event_waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
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
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(known) => known.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

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
