//! A delivery: one attempt to hand a message to a consumer, ended by exactly one settlement.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::capabilities::Feature;
use crate::{Capabilities, DeadLetterReason, Message, Outcome, Settlement};

/// A place in a broker's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The partition, shard or stream; 0 where there is one.
    pub partition: u32,
    /// The offset within the partition.
    pub offset: u64,
}

/// What an adapter implements to have its deliveries settled. Every call takes effect at once and never blocks.
///
/// # Requirements on implementors
/// * `settle` must act when it is called, not when its outcome is polled; dropping the outcome changes nothing.
/// * A tag that is not this holder's any more answers [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) and
///   changes nothing for the new holder.
/// * A dead letter is a confirmed copy first and the removal of the original afterwards.
/// * No call may do blocking I/O on the caller's thread: it also runs in destructors.
pub trait Settler: Send + Sync + fmt::Debug {
    /// Settles one delivery.
    fn settle(&self, tag: u64, how: Settlement) -> Outcome;

    /// Acknowledges many deliveries of this settler in one call. The outcome is an error if any of them failed; the
    /// others are acknowledged all the same.
    fn ack_many(&self, tags: &[u64]) -> Outcome;

    /// Keeps the lease of a delivery for at least `by` from now.
    fn extend(&self, tag: u64, by: Duration) -> Outcome;

    /// What the consumer that these deliveries belong to can do.
    fn capabilities(&self) -> &Capabilities;
}

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
#[must_use = "a delivery dropped unsettled is retried"]
pub struct Delivery {
    message: Message,
    attempt: u32,
    redriven: u32,
    position: Option<Position>,
    tag: u64,
    settler: Option<Arc<dyn Settler>>,
}

impl Delivery {
    /// Makes a first-attempt delivery; adapters call this.
    pub fn new(message: Message, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self { message, attempt: 1, redriven: 0, position: None, tag, settler: Some(settler) }
    }

    /// Sets which attempt this is, from 1.
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt.max(1);
        self
    }

    /// Sets how often the message was redriven from a dead letter.
    pub fn with_redriven(mut self, redriven: u32) -> Self {
        self.redriven = redriven;
        self
    }

    /// Sets where in the broker's log the message stands.
    pub fn with_position(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Which attempt this is, counted from 1; how exactly is the capability
    /// [`attempts`](Capabilities::attempts).
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often the message came back from a dead letter. Each redrive starts the attempts afresh.
    #[must_use]
    pub fn redriven(&self) -> u32 {
        self.redriven
    }

    /// Where in the broker's log the message stands, on brokers that have one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Done: the message is not delivered again once the broker knows.
    ///
    /// # Errors
    /// [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) if the delivery has moved on to another consumer;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the broker was closed.
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
        let Some(settler) = &self.settler else { return Outcome::ready(Ok(())) };
        if let Err(error) = settler.capabilities().check_retry(after) {
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
        let Some(settler) = &self.settler else { return Outcome::ready(Ok(())) };
        if let Err(error) = settler.capabilities().check(Feature::DeadLetter) {
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
        let Some(settler) = &self.settler else { return Outcome::ready(Ok(())) };
        if let Err(error) = settler.capabilities().check(Feature::Lease) {
            return Outcome::ready(Err(error));
        }
        settler.extend(self.tag, by)
    }

    /// Settles in the way given.
    ///
    /// # Errors
    /// As for the method of that settlement.
    pub fn settle(mut self, how: Settlement) -> Outcome {
        match self.settler.take() {
            Some(settler) => settler.settle(self.tag, how),
            None => Outcome::ready(Ok(())),
        }
    }

    /// Acknowledges many deliveries, in one call per consumer they came from.
    ///
    /// # Errors
    /// The first error of any of them; the others are acknowledged all the same.
    pub async fn ack_all(deliveries: Vec<Self>) -> crate::Result<()> {
        let mut outcomes = Vec::with_capacity(1);
        let mut tags = Vec::with_capacity(deliveries.len());
        let mut current: Option<Arc<dyn Settler>> = None;
        for mut delivery in deliveries {
            let Some(settler) = delivery.settler.take() else { continue };
            match &current {
                Some(known) if Arc::ptr_eq(known, &settler) => {}
                _ => {
                    if let Some(known) = current.replace(settler) {
                        outcomes.push(known.ack_many(&tags));
                        tags.clear();
                    }
                }
            }
            tags.push(delivery.tag);
        }
        outcomes.extend(current.map(|settler| settler.ack_many(&tags)));
        let mut result = Ok(());
        for outcome in outcomes {
            result = result.and(outcome.await);
        }
        result
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
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            let after = Self::drop_backoff(self.attempt).min(settler.capabilities().longest_retry());
            drop(settler.settle(self.tag, Settlement::Retry { after }));
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("message", &self.message)
            .field("attempt", &self.attempt)
            .field("redriven", &self.redriven)
            .field("position", &self.position)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
