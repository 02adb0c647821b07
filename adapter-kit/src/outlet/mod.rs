//! The buffer between a client and the application.
//!
//! A *feeder*, the adapter's task or thread, puts in what the client delivers. The application polls it out through
//! [`Deliveries`], never more than the prefetch allows. Settlers report what came back.

mod deliveries;
mod drain;
mod events;
mod feeding;
mod options;
mod polling;
mod ready;
mod state;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use messaging_core::spi::Deliveries;
use messaging_core::{Delivery, Error, ErrorKind, Flow, Health, HealthState, Result};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::deliveries::OutletDeliveries;
pub use self::options::{Bound, Buffered, OutletOptions};
use self::state::State;
use crate::epoch::DeliveryId;
use crate::trouble::Trouble;

/// A message while it waits in an [`Outlet`]: whatever the adapter keeps of it until it is handed out.
pub trait Held: Send + Sized + 'static {
    /// Identity of the delivery. It frees the key that the delivery holds, and tells epochs apart.
    fn id(&self) -> DeliveryId;

    /// Key, asked for only where messages are ordered by key. None by default.
    fn key(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Size in bytes, for the bound of what is read ahead. It must not change while the message waits. 0 by default: for clients
    /// that a broker's own prefetch bounds.
    fn size(&self) -> usize {
        0
    }

    /// Instant from which on it is not handed out any more, but given to [`expire`](Self::expire). Never by default.
    fn expires(&self) -> Option<Instant> {
        None
    }

    /// True while it may be handed out: false once its registration is lost or about to be lost. Asked under the lock of the
    /// outlet when it is put back. True by default.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Notes that these go to the application, before any of them can be settled. Called once a poll, under the lock of the outlet,
    /// and so it must be short and must not call the outlet. Does nothing by default.
    fn handed_out(_items: &[Self]) {}

    /// Its time to live ran out while it waited. Called outside the lock. The key that it may hold stays held until
    /// [`Outlet::free_key`] is called.
    fn expire(self);

    /// Makes the delivery. Called outside the lock.
    fn into_delivery(self) -> Delivery;
}

/// The adapter's task or thread behind an [`Outlet`].
#[async_trait]
pub trait Feeder: Send + Sync {
    /// Something changed that the feeder may wait for: the flow, room to read on, the first due time, the last delivery of a consumer
    /// that was stopped, or the consumer was dropped ([`Outlet::is_dropped`]). Never blocks; may be called from any thread, and more
    /// often than needed.
    fn wake(&self);

    /// Makes all settlements so far as durable as the broker allows.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] past `by`; otherwise why the broker did not take them.
    async fn flush(&self, by: Instant) -> Result<()>;

    /// Gives back to the broker what was not handed out ([`Outlet::take_unstarted`]), flushes and ends. Called once nothing is out
    /// any more, or at the deadline, and again if the first call was cancelled. Ends by `by` also when the broker is dead.
    async fn finish(&self, by: Instant) -> Finished;

    /// Makes settlements of everything that is out stale. Called when a drain reaches its deadline and when the consumer is dropped.
    /// Never blocks. Does nothing by default.
    fn disown(&self) {}
}

/// Result of [`Feeder::finish`].
#[derive(Debug, Default)]
pub struct Finished {
    /// Messages given back that never were in the outlet, such as those in the client's own buffer. Those taken from the outlet after
    /// the stop are counted by the outlet.
    pub released: u64,
    /// Settlements that the broker did not confirm: at least those that may come again.
    pub unconfirmed: u64,
    /// Errors on the way.
    pub errors: Vec<Error>,
}

/// Why a consumer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndReason {
    /// Kind of the error that a receive returns.
    pub kind: ErrorKind,
    /// Its text.
    pub text: String,
}

impl EndReason {
    /// Any reason.
    #[must_use]
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The broker handle was closed.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the broker was closed: open it again")
    }

    /// The error that a receive returns.
    #[must_use]
    pub fn error(&self) -> Error {
        Error::new(self.kind, self.text.clone())
    }
}

impl From<&Error> for EndReason {
    fn from(error: &Error) -> Self {
        Self::new(error.kind(), error.text())
    }
}

/// The buffer of one consumer. Clones are the same.
///
/// * *Prefetch*: the deliveries that are out never exceed it. A place is taken when a message is handed out and freed by
///   [`settled`](Self::settled) or [`freed`](Self::freed).
/// * *Key order*: with [`Order::ByKey`](messaging_core::Order) one message of a key is out at a time; see [`KeyGate`](crate::KeyGate).
/// * *Bounds*: [`has_room`](Self::has_room) says whether to read on, with high and low water. Nothing that is put in is refused.
/// * *Flow*: nothing is handed out while it is paused; stopped is final.
/// * *Wake-ups*: one waker for deliveries and one for events, called outside the lock. A settlement wakes the receiver only if it
///   waits for a place.
/// * *Cost*: one lock for a batch that is put in and for a batch that is polled; no allocation for a message where keys are not
///   ordered. Deliveries are made outside the lock.
///
/// Nothing here starts a task. Due times are acted on by [`release_due`](Self::release_due), which the feeder calls.
pub struct Outlet<H: Held>(Arc<Inner<H>>);

pub(super) struct Inner<H: Held> {
    options: OutletOptions,
    feeder: Arc<dyn Feeder>,
    state: Mutex<State<H>>,
    trouble: Trouble,
    /// Deliveries that are out: the prefetch bounds them.
    unsettled: AtomicUsize,
    settled: AtomicU64,
    /// Messages taken out unstarted after the stop.
    released: AtomicU64,
    epochs: AtomicU64,
    /// Something is ready, and the receiver waits for a place within the prefetch.
    is_starved: AtomicBool,
    is_stopped: AtomicBool,
    is_dropped: AtomicBool,
    /// Notified when a consumer that was stopped has nothing out any more.
    idle: Notify,
    /// Held during a drain; whether one has completed.
    drained: tokio::sync::Mutex<bool>,
}

impl<H: Held> Outlet<H> {
    /// An empty outlet, with its flow running.
    #[must_use]
    pub fn new(options: OutletOptions, feeder: Arc<dyn Feeder>) -> Self {
        let part = format!("the consumer of {}", options.scope.place());
        let trouble = Trouble::new(options.scope.broker().clone(), part, HealthState::Degraded)
            .with_linger(options.trouble_linger);
        Self(Arc::new(Inner {
            options,
            feeder,
            state: Mutex::new(State::new()),
            trouble,
            unsettled: AtomicUsize::new(0),
            settled: AtomicU64::new(0),
            released: AtomicU64::new(0),
            epochs: AtomicU64::new(0),
            is_starved: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            is_dropped: AtomicBool::new(false),
            idle: Notify::new(),
            drained: tokio::sync::Mutex::new(false),
        }))
    }

    /// The application's side, for [`Consumer::new`](messaging_core::Consumer::new). Made once: dropping it drops the consumer.
    #[must_use]
    pub fn deliveries(&self) -> Box<dyn Deliveries> {
        Box::new(OutletDeliveries::new(self.clone()))
    }

    /// How this outlet was made.
    #[must_use]
    pub fn options(&self) -> &OutletOptions {
        &self.0.options
    }

    /// Number of deliveries that are out.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.0.unsettled.load(Ordering::SeqCst)
    }

    /// Number of deliveries that were settled since the outlet was made.
    #[must_use]
    pub fn settled_so_far(&self) -> u64 {
        self.0.settled.load(Ordering::SeqCst)
    }

    /// State of the flow.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.0.state.lock().flow
    }

    /// Changes whether deliveries flow; see [`Control::set_flow`](messaging_core::Control::set_flow). Once stopped it stays stopped.
    pub fn set_flow(&self, flow: Flow) {
        let mut state = self.0.state.lock();
        if state.flow == Flow::Stopped {
            return;
        }
        state.flow = flow;
        self.0.is_stopped.store(flow == Flow::Stopped, Ordering::SeqCst);
        unlock_and_wake(state);
        self.0.feeder.wake();
    }

    /// True if the application dropped its consumer: the feeder gives everything back and ends.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.0.is_dropped.load(Ordering::SeqCst)
    }

    /// Why the consumer ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<EndReason> {
        self.0.state.lock().end.clone()
    }

    /// Health of the consumer: degraded while its connection is lost ([`lost`](Self::lost)) or once it has ended for another reason
    /// than a close; up once it was stopped or dropped.
    #[must_use]
    pub fn health(&self) -> Health {
        let (end, is_stopped) = {
            let state = self.0.state.lock();
            (state.end.clone(), state.flow == Flow::Stopped)
        };
        if self.is_dropped() {
            return Health::up();
        }
        match end {
            Some(end) if end.kind != ErrorKind::Closed => {
                let place = self.0.options.scope.place();
                Health::not_up(HealthState::Degraded, format!("the consumer of {place} has ended: {}", end.text))
            }
            _ if is_stopped => Health::up(),
            _ => self.0.trouble.health(),
        }
    }
}

/// Releases the lock and wakes the receiver, who wants it next.
fn unlock_and_wake<H>(mut state: MutexGuard<'_, State<H>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<H: Held> Clone for Outlet<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: Held> fmt::Debug for Outlet<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("scope", &self.0.options.scope)
            .field("unsettled", &self.unsettled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
