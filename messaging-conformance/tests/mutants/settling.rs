//! Mutants that settle wrongly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use messaging_conformance::intercept::Intercept;
use messaging_core::spi::{Answers, Permit, Settler, Unsettled};
use messaging_core::{
    Broker, ConsumeOptions, Consumer, DeadLetterReason, Delivery, Destination, Error, ErrorKind, Message, MessageId,
    Outcome, PublishOptions, QueueName, Result, Settlement, SubscribeOptions, TopicName,
};
use parking_lot::Mutex;

use crate::mutants;
use crate::stage::Shared;

mutants! {
    ack_does_nothing, A1_ack_is_final_after_a_flush, |_| settles(|by, delivery, how| match how {
        Settlement::Ack => done(),
        how => by.settle(delivery, how),
    });
    nack_acks, A2_retry_now_returns, |_| settles(|by, delivery, how| match how {
        Settlement::Retry { .. } => by.settle(delivery, Settlement::Ack),
        how => by.settle(delivery, how),
    });
    release_acks, A9_release_comes_back, |_| settles(|by, delivery, how| match how {
        Settlement::Release => by.settle(delivery, Settlement::Ack),
        how => by.settle(delivery, how),
    });
    release_counts_as_an_attempt, A9_release_comes_back, |_| settles(|by, delivery, how| match how {
        Settlement::Release => by.settle(delivery, Settlement::Retry { after: Duration::ZERO }),
        how => by.settle(delivery, how),
    });
    retries_at_once, A3_delayed_retry_is_never_early, |_| settles(|by, delivery, how| match how {
        Settlement::Retry { .. } => by.settle(delivery, Settlement::Retry { after: Duration::ZERO }),
        how => by.settle(delivery, how),
    });
    retries_after_half_the_delay, A3_delayed_retry_is_never_early, |_| settles(|by, delivery, how| match how {
        Settlement::Retry { after } => by.settle(delivery, Settlement::Retry { after: after / 2 }),
        how => by.settle(delivery, how),
    });
    dropped_deliveries_spin, A5_a_dropped_delivery_returns, |_| settles(|by, delivery, how| match how {
        Settlement::Retry { after } if after == Delivery::drop_backoff(delivery.attempt) => {
            by.settle(delivery, Settlement::Retry { after: Duration::ZERO })
        }
        how => by.settle(delivery, how),
    });
    dropped_deliveries_vanish, A5_a_dropped_delivery_returns, |_| Arc::new(WhenPolled(|how| matches!(how, Settlement::Retry { .. })));
    settles_only_when_polled, A10_a_settlement_needs_no_polling, |_| Arc::new(WhenPolled(|how| *how == Settlement::Ack));
    stale_ack_is_accepted, A6_a_stale_settlement_harms_nobody, |_| settles(|by, delivery, how| {
        match by.settle(delivery, how).try_take() {
            Ok(Err(error)) if error.kind() == ErrorKind::StaleDelivery => done(),
            Ok(result) => Outcome::ready(result),
            Err(pending) => pending,
        }
    });
    stale_ack_harms_the_new_holder, A6_a_stale_settlement_harms_nobody, |_| Arc::new(ByMessage::default());
    ack_on_a_cut_connection_says_ok, A7_ack_after_connection_loss, |_| settles(|by, delivery, how| {
        drop(by.settle(delivery, how));
        done()
    });
    ack_on_a_dead_line_says_ok, A7_settling_on_a_dead_line, |_| settles(|by, delivery, how| {
        drop(by.settle(delivery, how));
        done()
    });
    ack_settles_all_before_it, A4_acks_in_any_order, |_| Arc::new(Cumulative::default());
    dead_letter_only_acks, D4_explicit_dead_letter, |_| settles(|by, delivery, how| match how {
        Settlement::DeadLetter(_) => by.settle(delivery, Settlement::Ack),
        how => by.settle(delivery, how),
    });
    dead_letter_loses_the_reason, D2_a_dead_letter_keeps_everything, |_| settles(|by, delivery, how| match how {
        Settlement::DeadLetter(_) => by.settle(delivery, Settlement::DeadLetter(Box::new(DeadLetterReason::new("")))),
        how => by.settle(delivery, how),
    });
    dead_letter_waits_for_another_attempt, D3_poison_does_not_block, |_| settles(|by, delivery, how| match how {
        Settlement::DeadLetter(_) => by.settle(delivery, Settlement::Retry { after: Duration::ZERO }),
        how => by.settle(delivery, how),
    });
    failed_dead_letter_loses_the_message, D7_a_failed_dead_letter_loses_nothing, |shared| Arc::new(LosesUnburied(Arc::clone(shared)));
    cut_dead_letter_loses_the_message, D7_a_cut_around_a_dead_letter, |_| settles(|by, delivery, how| match how {
        // The ack goes first, and the copy is forgotten.
        Settlement::DeadLetter(_) if delivery.attempt > 1 => by.settle(delivery, Settlement::Ack),
        how => by.settle(delivery, how),
    });
    retry_is_seen_by_other_subscriptions, A8_a_retry_is_private_to_its_subscription, |_| Arc::new(Republishes::default());
    retry_goes_behind_its_key, O3_order_of_a_key_is_kept_through_a_retry, |_| Arc::new(Republishes::default());
    redelivery_forgets_headers, R5_redelivered_content_is_identical, |_| receives(|delivery| {
        if delivery.attempt > 1 {
            delivery.message = delivery.message.to_builder().headers(Default::default()).build_foreign();
        }
    });
    attempt_is_stuck_at_one, R4_attempts_count_as_declared, |_| receives(|delivery| delivery.attempt = 1);
    attempt_is_off_by_one, R4_attempts_count_as_declared, |_| receives(|delivery| delivery.attempt -= 1);
    attempt_is_a_flag, R4_attempts_count_as_declared, |_| receives(|delivery| delivery.attempt = delivery.attempt.min(2));
    redrive_does_not_count, D5_redrive_goes_back_to_its_source, |_| receives(|delivery| delivery.redriven = 0);
    extending_does_nothing, R3_an_extended_lease_keeps_the_delivery, |_| Arc::new(ExtendsNothing);
}

fn done() -> Outcome {
    Outcome::ready(Ok(()))
}

type Settle = fn(Arc<dyn Settler>, Unsettled, Settlement) -> Outcome;

#[derive(Debug)]
struct Settles(Settle);

fn settles(how: Settle) -> Arc<dyn Intercept> {
    Arc::new(Settles(how))
}

impl Intercept for Settles {
    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        (self.0)(by, delivery, how)
    }
}

#[derive(Debug)]
struct Receives(fn(&mut Unsettled));

fn receives(how: fn(&mut Unsettled)) -> Arc<dyn Intercept> {
    Arc::new(Receives(how))
}

impl Intercept for Receives {
    fn received(&self, mut delivery: Unsettled) -> Unsettled {
        (self.0)(&mut delivery);
        delivery
    }
}

/// Settles when the outcome is polled for the first time, and never if it is not.
#[derive(Debug)]
struct WhenPolled(fn(&Settlement) -> bool);

struct Later(Mutex<Option<Waiting>>);

type Waiting = (Arc<dyn Settler>, Unsettled, Settlement);

impl Answers<()> for Later {
    fn poll_answer(&self, _ticket: u64, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some((by, delivery, how)) = self.0.lock().take() else { return Poll::Pending };
        by.settle(delivery, how).poll_unpin(cx)
    }

    fn forget(&self, _ticket: u64) {}
}

impl Intercept for WhenPolled {
    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        if !(self.0)(&how) {
            return by.settle(delivery, how);
        }
        Outcome::pending(Arc::new(Later(Mutex::new(Some((by, delivery, how))))), 0)
    }
}

/// Settles by the message instead of the delivery: whoever holds it now loses it.
#[derive(Debug, Default)]
struct ByMessage(Mutex<HashMap<MessageId, Unsettled>>);

impl Intercept for ByMessage {
    fn received(&self, delivery: Unsettled) -> Unsettled {
        self.0.lock().insert(delivery.message.id().clone(), delivery.clone());
        delivery
    }

    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        let newest = self.0.lock().get(delivery.message.id()).cloned().unwrap_or(delivery.clone());
        if newest.tag != delivery.tag {
            drop(by.settle(newest, how));
            return Outcome::ready(Err(Error::new(ErrorKind::StaleDelivery, "it has moved on")));
        }
        by.settle(delivery, how)
    }
}

/// An acknowledgement takes along all that were received before.
#[derive(Debug, Default)]
struct Cumulative(Mutex<Vec<Unsettled>>);

impl Intercept for Cumulative {
    fn received(&self, delivery: Unsettled) -> Unsettled {
        self.0.lock().push(delivery.clone());
        delivery
    }

    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        if how != Settlement::Ack {
            return by.settle(delivery, how);
        }
        let mut received = self.0.lock();
        let end = received.iter().position(|one| one.tag == delivery.tag).map_or(0, |at| at + 1);
        for earlier in received.drain(..end) {
            drop(Arc::clone(&by).settle(earlier, Settlement::Ack));
        }
        done()
    }
}

/// Acknowledges first, and loses the message if the dead letter then fails.
#[derive(Debug)]
struct LosesUnburied(Arc<Shared>);

impl Intercept for LosesUnburied {
    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        if matches!(how, Settlement::DeadLetter(_)) && self.0.failing.swap(0, Ordering::AcqRel) > 0 {
            drop(by.settle(delivery, Settlement::Ack));
            return Outcome::ready(Err(Error::new(ErrorKind::Unreachable, "the dead letter cannot be reached")));
        }
        by.settle(delivery, how)
    }
}

/// Retries by publishing a copy to where the message came from.
#[derive(Debug, Default)]
struct Republishes(Mutex<Option<(Arc<dyn Broker>, Destination)>>);

#[async_trait]
impl Intercept for Republishes {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        *self.0.lock() = Some((Arc::clone(inner), Destination::Queue(queue.clone())));
        inner.consume(queue, options).await
    }

    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        options: SubscribeOptions,
    ) -> Result<Consumer> {
        *self.0.lock() = Some((Arc::clone(inner), Destination::Topic(topic.clone())));
        inner.subscribe(topic, options).await
    }

    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        let known = self.0.lock().clone();
        match (how, known) {
            (Settlement::Retry { after }, Some((broker, to))) => {
                let copy: Message = delivery.message.to_builder().delay(after).build_foreign();
                let opening = broker.publisher(&to, PublishOptions::default()).now_or_never();
                if let Some(Ok(publisher)) = opening {
                    drop(publisher.send(copy, Permit::none()));
                }
                by.settle(delivery, Settlement::Ack)
            }
            (how, _) => by.settle(delivery, how),
        }
    }
}

#[derive(Debug)]
struct ExtendsNothing;

impl Intercept for ExtendsNothing {
    fn extend(&self, _by: &Arc<dyn Settler>, _tag: u64, _time: Duration) -> Outcome {
        done()
    }
}
