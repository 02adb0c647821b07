//! Settling: what becomes of a delivery after its handler ended, and the answers of brokers that take their time.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use messaging_core::{DeadLetterReason, Delivery, Error, ErrorKind, MessageId, Outcome};

use super::caught::{Described, discard};
use super::failure::{Course, Failure, FailureKind};
use super::health::ListenerState;
use super::ledger::{Counters, count};
use super::{DeadLetterPolicy, Retry};

/// The most settlements of one worker that wait for the broker's answer. Past it the worker waits for the oldest.
const UNANSWERED_MAX: usize = 256;

/// What a listener does about failures.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: Arc<str>,
    pub(crate) retry: Retry,
    /// Number of deliveries of one message past which it goes to the dead letter without a call of the handler.
    pub(crate) deliveries_max: u32,
    pub(crate) dead_letter: DeadLetterPolicy,
    pub(crate) timeout: Option<Duration>,
    /// The longest delay of a retry that the broker takes.
    pub(crate) longest_retry: Duration,
    pub(crate) state: ListenerState,
}

/// What a settlement was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Ack,
    Retry,
    Release,
    DeadLetter,
    Discard,
}

/// Settles the deliveries of one worker and counts what became of them.
#[derive(Debug)]
pub(crate) struct Settling {
    policy: Arc<Policy>,
    counters: Arc<Counters>,
    unanswered: VecDeque<(Intent, Outcome)>,
    /// Whether a delivery was received whose settlement has not been asked for.
    in_hand: bool,
}

impl Settling {
    pub(crate) fn new(policy: Arc<Policy>, counters: Arc<Counters>) -> Self {
        Self { policy, counters, unanswered: VecDeque::new(), in_hand: false }
    }

    #[inline]
    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Counts a delivery that the worker has received.
    #[inline]
    pub(crate) fn received(&mut self) {
        count(&self.counters.received, 1);
        self.in_hand = true;
    }

    /// Notes that somebody else settles and counts the delivery at hand.
    #[inline]
    pub(crate) fn handed_over(&mut self) {
        self.in_hand = false;
    }

    /// Counts the delivery that a worker held when it died: dropped, it is retried by the broker.
    #[cold]
    pub(crate) fn died(&mut self) {
        if std::mem::take(&mut self.in_hand) {
            count(&self.counters.panics, 1);
            count(&self.counters.retried, 1);
        }
    }

    #[inline]
    pub(crate) fn ack(&mut self, delivery: Delivery) {
        let outcome = delivery.ack();
        self.settled(Intent::Ack, outcome);
    }

    /// Retries, dead-letters or discards, as the failure, the attempt and the listener say.
    #[cold]
    pub(crate) fn fail(&mut self, delivery: Delivery, failure: Failure) {
        let error = failure.describe();
        // An error that panics is a panic of the handler that returned it.
        let kind = if error.is_broken { FailureKind::Panicked } else { failure.kind() };
        let course = failure.course().clone();
        discard(failure);
        count(
            match kind {
                FailureKind::Handler => &self.counters.handler_errors,
                FailureKind::Undecodable => &self.counters.undecodable,
                FailureKind::Panicked => &self.counters.panics,
                FailureKind::TimedOut => &self.counters.timeouts,
                // The attempts before were counted when they failed, or their process died with the count.
                FailureKind::Exhausted => {
                    return self.bury(delivery, DeadLetterReason::ATTEMPTS_EXHAUSTED.into(), error);
                }
            },
            1,
        );
        let attempt = delivery.attempt();
        let after = match course {
            Course::Bury(code) => return self.bury(delivery, code, error),
            _ if attempt >= self.policy.retry.attempts => {
                return self.bury(delivery, DeadLetterReason::ATTEMPTS_EXHAUSTED.into(), error);
            }
            Course::RetryAfter(after) => after,
            Course::Retry => self.policy.retry.delay(attempt),
        };
        let after = after.min(self.policy.longest_retry);
        tracing::warn!(
            listener = &*self.policy.id,
            message = %delivery.message().id(),
            attempt,
            attempts = self.policy.retry.attempts,
            ?after,
            error = error.first(),
            "the handler failed; the message is retried"
        );
        let outcome = delivery.retry_after(after);
        self.settled(Intent::Retry, outcome);
    }

    fn bury(&mut self, delivery: Delivery, code: std::borrow::Cow<'static, str>, error: Described) {
        let (id, attempt) = (delivery.message().id().clone(), delivery.attempt());
        match self.policy.dead_letter {
            DeadLetterPolicy::Keep => {
                self.log_buried(&id, attempt, &code, &error, "the message goes to the dead letter");
                let outcome = delivery.dead_letter(DeadLetterReason::new(code).with_errors(error.chain));
                self.settled(Intent::DeadLetter, outcome);
            }
            DeadLetterPolicy::Discard => {
                self.log_buried(&id, attempt, &code, &error, "the message is discarded");
                let outcome = delivery.ack();
                self.settled(Intent::Discard, outcome);
            }
        }
    }

    fn log_buried(&self, id: &MessageId, attempt: u32, code: &str, error: &Described, what: &str) {
        tracing::error!(
            listener = &*self.policy.id,
            message = %id,
            attempt,
            code,
            error = error.first(),
            "{what}"
        );
    }

    #[inline]
    fn settled(&mut self, intent: Intent, outcome: Outcome) {
        self.in_hand = false;
        match outcome.try_take() {
            Ok(result) => answered(&self.policy, &self.counters, intent, &result),
            Err(pending) => self.unanswered.push_back((intent, pending)),
        }
    }

    /// Takes in the answers that have come. Pending while so many are open that the worker has to wait.
    #[inline]
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unanswered.is_empty() {
            return Poll::Ready(());
        }
        self.poll_answers(cx);
        if self.unanswered.len() < UNANSWERED_MAX { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready when every settlement has been answered.
    pub(crate) fn poll_all_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_answers(cx);
        if self.unanswered.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        // The oldest first: brokers answer in order, more or less, and one waker is enough.
        while let Some((intent, outcome)) = self.unanswered.front_mut() {
            let Poll::Ready(result) = Pin::new(outcome).poll(cx) else { return };
            let intent = *intent;
            self.unanswered.pop_front();
            answered(&self.policy, &self.counters, intent, &result);
        }
    }

    /// Stops waiting for answers: what was asked for counts as too late.
    pub(crate) fn give_up(&mut self) {
        count(&self.counters.stale, self.unanswered.len() as u64);
        self.unanswered.clear();
    }
}

/// Counts what a settlement came to.
#[inline]
pub(crate) fn answered(policy: &Policy, counters: &Counters, intent: Intent, result: &Result<(), Error>) {
    match result {
        Ok(()) => count(
            match intent {
                Intent::Ack => &counters.acked,
                Intent::Retry => &counters.retried,
                Intent::Release => &counters.released,
                Intent::Discard => &counters.discarded,
                Intent::DeadLetter => {
                    policy.state.dead_letter_works();
                    &counters.dead_lettered
                }
            },
            1,
        ),
        Err(error) => failed(policy, counters, intent, error),
    }
}

// Counted before it is logged: a subscriber is code of the application, and may panic.
#[cold]
fn failed(policy: &Policy, counters: &Counters, intent: Intent, error: &Error) {
    let listener = &*policy.id;
    match (intent, error.kind()) {
        (_, ErrorKind::StaleDelivery | ErrorKind::Closed) => {
            count(&counters.stale, 1);
            tracing::debug!(listener, ?intent, %error, "the settlement came too late");
        }
        (Intent::DeadLetter, _) => {
            // The contract: the original is removed only after its copy is confirmed, so that it is still there and comes again.
            policy.state.dead_letter_fails(error);
            count(&counters.dead_letter_failures, 1);
            count(&counters.retried, 1);
            tracing::error!(listener, %error, "the dead letter does not take the message; it is retried");
        }
        (Intent::Retry | Intent::Release, _) => {
            count(&counters.retried, 1);
            tracing::warn!(listener, ?intent, %error, "the settlement failed; the message is retried as if it had been dropped");
        }
        (Intent::Ack | Intent::Discard, _) => {
            count(&counters.stale, 1);
            tracing::warn!(listener, ?intent, %error, "the acknowledgement got lost; the message may come again");
        }
    }
}
