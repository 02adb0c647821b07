//! A delivery: one attempt to hand a message to a consumer, ended by exactly one settlement.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::capabilities::{Capabilities, Feature};
use crate::error::Result;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::settlement::{DeadLetterReason, Settlement};
use crate::undeclared::undeclared;

/// A place in a broker's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The partition, shard or stream; 0 where there is one.
    pub partition: u32,
    /// The offset within the partition.
    pub offset: u64,
}

/// A delivery that is not settled: all that a settlement needs, also one that has to copy the message.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// The message.
    pub message: Message,
    /// The adapter's own number for the delivery.
    pub tag: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Number of redrives from a dead letter.
    pub redriven: u32,
    /// Where in the broker's log the message stands.
    pub position: Option<Position>,
}

/// How many of a batch were acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    /// Acknowledged.
    pub acked: u64,
    /// Moved on to another consumer, or settled before: nothing was changed.
    pub stale: u64,
}

/// Settles deliveries: the adapter's side of a [`Delivery`]. Every call takes effect at once and never blocks.
///
/// One settler for each connection epoch (a channel, an assignment) is the simplest way to recognise a stale settlement:
/// what an older epoch's settler is asked is stale.
///
/// # Requirements on implementors
/// * `settle` must act when it is called, not when its outcome is polled; dropping the outcome changes nothing.
/// * A delivery that is not this holder's any more answers [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) and
///   changes nothing for the new holder.
/// * A dead letter or a delayed retry that needs a copy is a confirmed copy first and the removal of the original afterwards;
///   its outcome is pending until both are done.
/// * If the means of a settlement fail (the copy is refused), the outcome is that error and the message becomes available
///   again as after a drop: one attempt more, [backed off](Delivery::drop_backoff). It never stays in limbo: nobody holds it.
/// * Settlements make progress though nobody polls the consumer or awaits the outcome.
/// * No call may do blocking I/O on the caller's thread: it also runs in destructors.
pub trait Settler: Any + Send + Sync + fmt::Debug {
    /// Settles one delivery. The settler comes as the `Arc` that the delivery held: one that hands the message out again, or
    /// answers later, keeps it.
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome;

    /// Acknowledges many deliveries of this settler in one call, given by their tags. The outcome is an error only if it is
    /// not known what became of some.
    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked>;

    /// Capabilities of the consumer that these deliveries belong to.
    fn capabilities(&self) -> &Capabilities;

    /// Keeps the lease of a delivery for at least `by` from now. An adapter whose deliveries have no lease inherits a refusal.
    fn extend(&self, tag: u64, by: Duration) -> Outcome {
        let _ = (tag, by);
        Outcome::ready(Err(undeclared(Feature::Lease)))
    }
}

/// The parts leave a delivery only together with the delivery itself.
const PARTS_PRESENT: &str = "a delivery has its parts until it is consumed";

/// A message in a consumer's hands.
///
/// It ends in exactly one settlement; each consumes it, so that settling twice does not compile. The settlement takes
/// effect at the call: awaiting the returned [`Outcome`] only tells how it went. A delivery dropped unsettled (a panic, a
/// cancelled future) is retried: at once the first time, backed off from the second attempt on.
///
/// ```compile_fail,E0382
/// # fn twice(delivery: messaging_core::Delivery) {
/// delivery.ack();
/// delivery.ack(); // use of moved value
/// # }
/// ```
///
/// ```compile_fail,E0382
/// # fn retry_after_ack(delivery: messaging_core::Delivery) {
/// delivery.ack();
/// delivery.retry_after(std::time::Duration::from_secs(1)); // use of moved value
/// # }
/// ```
///
/// ```compile_fail,E0382
/// # fn ack_after_drop(delivery: messaging_core::Delivery) {
/// drop(delivery);
/// delivery.ack(); // use of moved value
/// # }
/// ```
#[must_use = "a delivery dropped unsettled is retried"]
pub struct Delivery(Option<(Unsettled, Arc<dyn Settler>)>);

#[allow(clippy::expect_used, reason = "see PARTS_PRESENT: each method that takes the parts consumes the delivery")]
impl Delivery {
    /// Makes a delivery; adapters call this.
    #[inline]
    pub fn new(unsettled: Unsettled, settler: Arc<dyn Settler>) -> Self {
        Self(Some((unsettled, settler)))
    }

    /// The message.
    #[must_use]
    #[inline]
    pub fn message(&self) -> &Message {
        &self.unsettled().message
    }

    /// Which attempt this is, counted from 1; how exactly is the capability
    /// [`attempts`](Capabilities::attempts).
    #[must_use]
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.unsettled().attempt
    }

    /// How often the message came back from a dead letter. Each redrive starts the attempts afresh.
    #[must_use]
    pub fn redriven(&self) -> u32 {
        self.unsettled().redriven
    }

    /// Where in the broker's log the message stands, on brokers that have one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.unsettled().position
    }

    /// Done: the message is not delivered again once the broker knows.
    ///
    /// # Errors
    /// [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) if the delivery has moved on to another consumer;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the broker was closed.
    #[inline]
    pub fn ack(self) -> Outcome {
        self.settle(Settlement::Ack)
    }

    /// Makes the message available again at once; counts as an attempt.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub fn retry(self) -> Outcome {
        self.settle(Settlement::Retry { after: Duration::ZERO })
    }

    /// Makes the message available again, no earlier than `after`; counts as an attempt.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the broker has no delayed retry or `after` exceeds
    /// [`Limits::retry_delay`](crate::Limits::retry_delay): the delivery is then retried as if it had been dropped.
    /// Otherwise as for [`ack`](Self::ack).
    pub fn retry_after(self, after: Duration) -> Outcome {
        if let Err(error) = self.settler().capabilities().check_retry(after) {
            return Outcome::ready(Err(error));
        }
        self.settle(Settlement::Retry { after })
    }

    /// Gives the message back unstarted; not counted as an attempt where the broker has the capability
    /// [`Feature::Release`], otherwise counted.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub fn release(self) -> Outcome {
        self.settle(Settlement::Release)
    }

    /// Moves the message to its source's dead letter, with the reason.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if this source has no dead letter: the delivery is then
    /// retried as if it had been dropped. Otherwise as for [`ack`](Self::ack).
    pub fn dead_letter(self, reason: impl Into<DeadLetterReason>) -> Outcome {
        if let Err(error) = self.settler().capabilities().check(Feature::DeadLetter) {
            return Outcome::ready(Err(error));
        }
        self.settle(Settlement::DeadLetter(Box::new(reason.into())))
    }

    /// Keeps the lease for at least `by` from now, so that nobody else gets the message meanwhile. Leases are also renewed
    /// by themselves while a delivery lives, up to [`Lease::max`](crate::Lease::max).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where deliveries have no lease;
    /// [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) if the delivery has moved on.
    pub fn extend(&self, by: Duration) -> Outcome {
        if let Err(error) = self.settler().capabilities().check(Feature::Lease) {
            return Outcome::ready(Err(error));
        }
        self.settler().extend(self.unsettled().tag, by)
    }

    /// Settles in the way given.
    ///
    /// # Errors
    /// As for the method of that settlement.
    #[inline]
    pub fn settle(self, how: Settlement) -> Outcome {
        let (unsettled, settler) = self.into_parts();
        settler.settle(unsettled, how)
    }

    /// Takes the delivery apart without settling it. For adapters that settle in their own way, as in a transaction; whoever
    /// calls this owes the settlement.
    #[must_use]
    #[inline]
    pub fn into_parts(mut self) -> (Unsettled, Arc<dyn Settler>) {
        self.0.take().expect(PARTS_PRESENT)
    }

    /// Acknowledges many deliveries, in one call per consumer they came from. Takes effect at the call; awaiting only tells how
    /// it went.
    ///
    /// # Errors
    /// The first error of any consumer; the others' deliveries are acknowledged all the same. Stale ones are counted, not
    /// an error.
    pub fn ack_all<I: IntoIterator<Item = Self>>(deliveries: I) -> impl Future<Output = Result<Acked>> + use<I> {
        let deliveries = deliveries.into_iter();
        let mut outcomes = Vec::new();
        let mut tags = Vec::with_capacity(deliveries.size_hint().0);
        let mut current: Option<Arc<dyn Settler>> = None;
        for delivery in deliveries {
            let (unsettled, settler) = delivery.into_parts();
            match &current {
                Some(known) if Arc::ptr_eq(known, &settler) => {}
                _ => {
                    if let Some(known) = current.replace(settler) {
                        outcomes.push(known.ack_many(&tags));
                        tags.clear();
                    }
                }
            }
            tags.push(unsettled.tag);
        }
        // All of one consumer is the usual case, and needs no list.
        let last = current.map(|settler| settler.ack_many(&tags));
        async {
            let mut sum = match last {
                Some(last) => last.await,
                None => Ok(Acked::default()),
            };
            for outcome in outcomes {
                sum = match (sum, outcome.await) {
                    (Ok(sum), Ok(more)) => Ok(Acked { acked: sum.acked + more.acked, stale: sum.stale + more.stale }),
                    (Err(error), _) | (Ok(_), Err(error)) => Err(error),
                };
            }
            sum
        }
    }

    /// How long a delivery of this attempt that was dropped unsettled waits: nothing the first time, then 100 ms doubling
    /// to 30 s, so that a handler that panics at once does not spin.
    #[must_use]
    pub fn drop_backoff(attempt: u32) -> Duration {
        match attempt {
            0 | 1 => Duration::ZERO,
            _ => Duration::from_millis(100 << (attempt - 2).min(9)).min(Duration::from_secs(30)),
        }
    }

    #[cold]
    fn settle_dropped(&mut self) {
        if let Some((unsettled, settler)) = self.0.take() {
            let after = Self::drop_backoff(unsettled.attempt).min(settler.capabilities().longest_retry());
            drop(settler.settle(unsettled, Settlement::Retry { after }));
        }
    }

    #[inline]
    fn unsettled(&self) -> &Unsettled {
        &self.0.as_ref().expect(PARTS_PRESENT).0
    }

    #[inline]
    fn settler(&self) -> &Arc<dyn Settler> {
        &self.0.as_ref().expect(PARTS_PRESENT).1
    }
}

impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.settle_dropped();
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.0.as_ref().map(|(unsettled, _)| unsettled)).finish()
    }
}
