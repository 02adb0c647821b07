//! Settling by hand.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use messaging_core::{DeadLetterReason, Delivery, Error, ErrorKind, Outcome, Result};
use parking_lot::Mutex;

use super::{DeliveryContext, FromDelivery, Needs, Rejection};
use crate::app::{Counters, Intent, Policy, answered, count};

/// Settles a delivery by hand, where the listener says `ack = manual`.
///
/// Each settlement consumes it and takes effect at the call; awaiting what it returns tells how it went. It may be kept
/// beyond the end of the handler, for example to acknowledge many messages after one commit; until then the delivery
/// counts against the prefetch. Dropped unsettled, the delivery is retried: by the listener's own
/// [`Retry`](crate::Retry) while the handler runs or fails, by the broker at once later on.
#[must_use = "a delivery that is not settled is retried"]
pub struct Settle(Arc<ManualSlot>);

impl Settle {
    pub(crate) fn new(slot: Arc<ManualSlot>) -> Self {
        slot.state.lock().holder = Holder::Holds;
        Self(slot)
    }

    /// Done: the message is not delivered again once the broker knows.
    ///
    /// # Errors
    /// See [`Delivery::ack`].
    pub fn ack(self) -> Answer {
        self.settle(Intent::Ack, Delivery::ack)
    }

    /// Makes the message available again at once; counts as an attempt.
    ///
    /// # Errors
    /// See [`Delivery::retry`].
    pub fn retry(self) -> Answer {
        self.settle(Intent::Retry, Delivery::retry)
    }

    /// Makes the message available again, no earlier than `after`; counts as an attempt. The listener's attempts bound this
    /// too: past the last one the message goes to the dead letter before the handler sees it. On a broker without
    /// [`Feature::Release`](messaging_core::Feature::Release), which also counts messages that were only fetched and given
    /// back, that is past four times as many deliveries.
    ///
    /// # Errors
    /// See [`Delivery::retry_after`].
    pub fn retry_after(self, after: Duration) -> Answer {
        self.settle(Intent::Retry, |delivery| delivery.retry_after(after))
    }

    /// Gives the message back as if it had not been delivered.
    ///
    /// # Errors
    /// See [`Delivery::release`].
    pub fn release(self) -> Answer {
        self.settle(Intent::Release, Delivery::release)
    }

    /// Moves the message to its source's dead letter.
    ///
    /// # Errors
    /// See [`Delivery::dead_letter`].
    pub fn dead_letter(self, reason: impl Into<DeadLetterReason>) -> Answer {
        self.settle(Intent::DeadLetter, |delivery| delivery.dead_letter(reason))
    }

    /// Keeps the delivery for at least `by` from now, where deliveries have a lease.
    ///
    /// # Errors
    /// See [`Delivery::extend`].
    pub fn extend(&self, by: Duration) -> Outcome {
        match &self.0.state.lock().delivery {
            Some(delivery) => delivery.extend(by),
            None => Outcome::ready(Err(too_late())),
        }
    }

    fn settle(self, intent: Intent, settle: impl FnOnce(Delivery) -> Outcome) -> Answer {
        let delivery = self.0.state.lock().delivery.take();
        match delivery {
            Some(delivery) => Answer { outcome: Some(settle(delivery)), settled: Some((intent, self.0.clone())) },
            // The listener has settled it, at a time-out for example, and counted it then.
            None => Answer { outcome: Some(Outcome::ready(Err(too_late()))), settled: None },
        }
        .count_if_ready()
    }
}

#[cold]
fn too_late() -> Error {
    Error::new(ErrorKind::StaleDelivery, "the listener has settled the delivery already, as after a timeout")
}

impl Drop for Settle {
    fn drop(&mut self) {
        let orphan = {
            let mut state = self.0.state.lock();
            state.holder = Holder::Gone;
            if state.worker_gone { state.delivery.take() } else { None }
        };
        if let Some(delivery) = orphan {
            drop(delivery);
            count(&self.0.counters.retried, 1);
        }
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Settle").field(&self.0.state.lock().delivery).finish()
    }
}

impl FromDelivery for Settle {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        delivery
            .settle()
            .ok_or_else(|| Rejection::failed("`Settle` was taken already, or the listener does not say ack = manual"))
    }

    fn needs(needs: &mut Needs) {
        needs.settle();
    }
}

/// Answer of the broker to a settlement. Dropping it changes nothing about the settlement.
#[must_use = "a settlement may fail; drop it with `drop` if that does not matter"]
pub struct Answer {
    outcome: Option<Outcome>,
    settled: Option<(Intent, Arc<ManualSlot>)>,
}

impl Answer {
    /// Brokers that answer at once are counted at once.
    fn count_if_ready(mut self) -> Self {
        if self.outcome.as_ref().is_some_and(Outcome::is_ready)
            && let Some(outcome) = self.outcome.take()
        {
            match outcome.try_take() {
                Ok(result) => {
                    self.count(&result);
                    self.outcome = Some(Outcome::ready(result));
                }
                Err(pending) => self.outcome = Some(pending),
            }
        }
        self
    }

    fn count(&mut self, result: &Result<()>) {
        if let Some((intent, slot)) = self.settled.take() {
            answered(&slot.policy, &slot.counters, intent, result);
        }
    }
}

impl Future for Answer {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(outcome) = &mut self.outcome else { return Poll::Pending };
        let result = ready!(Pin::new(outcome).poll(cx));
        self.outcome = None;
        self.count(&result);
        Poll::Ready(result)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // The settlement was asked for, and nobody waits to hear otherwise.
        self.count(&Ok(()));
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.outcome).finish()
    }
}

/// Where a delivery is while its handler settles it by hand: worker and handler both reach it.
#[derive(Debug)]
pub(crate) struct ManualSlot {
    state: Mutex<Manual>,
    policy: Arc<Policy>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Manual {
    delivery: Option<Delivery>,
    holder: Holder,
    worker_gone: bool,
}

/// Holder of a delivery's `Settle`.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Nobody has asked for it yet.
    Unclaimed,
    /// Someone has.
    Holds,
    /// It was dropped.
    Gone,
}

impl ManualSlot {
    pub(crate) fn new(policy: Arc<Policy>, counters: Arc<Counters>) -> Arc<Self> {
        let state = Mutex::new(Manual { delivery: None, holder: Holder::Unclaimed, worker_gone: false });
        Arc::new(Self { state, policy, counters })
    }

    pub(crate) fn put(&self, delivery: Delivery) {
        self.state.lock().delivery = Some(delivery);
    }

    /// The delivery, for the worker whose handler has ended, unless it was settled or someone still holds its `Settle`.
    pub(crate) fn take_back(&self) -> Option<Delivery> {
        let mut state = self.state.lock();
        state.worker_gone = true;
        if state.holder == Holder::Holds { None } else { state.delivery.take() }
    }
}
