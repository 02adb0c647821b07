//! What comes: read, kept until its time, and handed over to whoever receives.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use messaging_core::DeadLetterReason;
use messaging_core::spi::Unsettled;
use tokio::time::Instant;

use super::later::Held;
use super::{BATCH, Service};
use crate::consumer::Consumed;
use crate::consumer::attach::{Arrival, Incoming as Arrivals};
use crate::consumer::copies::Job;
use crate::consumer::shared::Item;
use crate::consumer::worker::Worker;
use crate::convert::{Incoming, read};

/// What is due within this is handed out: a bucket could not wait shorter.
const DUE_ENOUGH: Duration = Duration::from_millis(1);

impl Service {
    /// Takes in one delivery and all that came with it.
    pub(super) fn take_in(&mut self, first: lapin::message::Delivery, worker: &mut Worker) {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(delivery) = next {
            self.take_one(delivery, worker);
            count += 1;
            next = if count < BATCH { self.next_at_once() } else { None };
        }
        self.hand_over(worker);
    }

    /// Hands over what was taken in.
    pub(super) fn hand_over(&mut self, worker: &Worker) {
        worker.shared.set_unacknowledged(self.unacknowledged);
        if !self.items.is_empty() {
            worker.shared.push(&mut self.items);
        }
    }

    /// The next delivery, if it is there. What is none is kept for the next look.
    fn next_at_once(&mut self) -> Option<lapin::message::Delivery> {
        match self.attached.deliveries.next().now_or_never()? {
            Some(Ok(delivery)) => Some(delivery),
            other => {
                self.ending = Some(other);
                None
            }
        }
    }

    pub(super) fn take_one(&mut self, delivery: lapin::message::Delivery, worker: &Worker) {
        let lapin::message::Delivery {
            delivery_tag: tag, exchange, routing_key, redelivered, properties, data, ..
        } = delivery;
        self.came(tag);
        let reading = &self.attached.reading;
        let Incoming { message, attempt, redriven, due, expires } =
            read(Bytes::from(data), properties, &exchange, &routing_key, redelivered, reading);
        let unsettled = Unsettled { message, tag, attempt, redriven, position: None };
        if due.is_none() && expires.is_none() && unsettled.message.ttl().is_none() {
            self.items.push(Item { delivery: unsettled, expires: None });
            return;
        }
        let now = SystemTime::now();
        let rest = due.and_then(|due| due.duration_since(now).ok()).filter(|rest| *rest > DUE_ENOUGH);
        if let Some(rest) = rest {
            if matches!(worker.plan.what, Consumed::Ephemeral { .. }) {
                // Its queue goes with this consumer: a bucket would be left with nowhere to lead to.
                self.deadlines.extend(expires.map(|until| (tag, until)));
                self.later.hold(rest, Held::Again(unsettled));
                return;
            }
            let outcome = self.copier(worker).forward(&unsettled, rest, expires);
            self.follow(Job { delivery: unsettled, ticket: None, again: false, retry_after: Some(rest) }, outcome);
            return;
        }
        let left = time_left(&unsettled, expires, now);
        if left.is_some_and(|left| left.is_zero()) {
            self.expire(worker, unsettled);
            return;
        }
        if let Some(left) = left {
            self.deadlines.insert(tag, now + left);
        }
        self.items.push(Item { delivery: unsettled, expires: left.map(|left| Instant::now() + left) });
    }

    pub(super) fn came(&mut self, tag: u64) {
        self.last_tag = self.last_tag.max(tag);
        self.unacknowledged += 1;
    }

    pub(super) fn expire(&mut self, worker: &Worker, delivery: Unsettled) {
        match self.copier(worker).dead_letter(&delivery, DeadLetterReason::new(DeadLetterReason::EXPIRED)) {
            Some(outcome) => self.follow(Job { delivery, ticket: None, again: false, retry_after: None }, outcome),
            None => self.ack(delivery.tag),
        }
    }

    /// What was held until now.
    pub(super) fn wake(&mut self, worker: &Worker) {
        let now = Instant::now();
        while let Some(held) = self.later.pop_due(now) {
            match held {
                Held::Again(delivery) if self.is_stopping => self.returns.push(delivery.tag),
                Held::Again(delivery) => {
                    let left = self.deadlines.get(&delivery.tag).map(|until| until.duration_since(SystemTime::now()));
                    match left {
                        Some(Err(_)) => {
                            worker.shared.leave(delivery.tag);
                            self.expire(worker, delivery);
                        }
                        Some(Ok(left)) => worker.shared.push_again(delivery, Some(now + left)),
                        None => worker.shared.push_again(delivery, None),
                    }
                }
                Held::Return(tag) => self.returns.push(tag),
            }
        }
    }
}

/// How long a message may still live; none if it lives for ever.
///
/// The broker lets none expire before it delivers it, so that a delivery lives for a moment at least, whatever the clocks of
/// publisher and consumer say.
fn time_left(delivery: &Unsettled, expires: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    if let Some(expires) = expires {
        return Some(expires.duration_since(now).unwrap_or_default());
    }
    let ttl = delivery.message.ttl()?;
    // A time of making that is further back says nothing of when it was published: a foreign client's that set none, or an
    // application's own.
    match (delivery.message.timestamp() + ttl).duration_since(now) {
        Ok(left) => Some(left.clamp(ttl.min(Duration::from_secs(1)), ttl)),
        Err(_) => Some(ttl),
    }
}

/// The next of what comes, what was kept first.
pub(super) async fn next_arrival(kept: &mut Option<Option<Arrival>>, arrivals: &mut Arrivals) -> Option<Arrival> {
    match kept.take() {
        Some(kept) => kept,
        None => arrivals.next().await,
    }
}
