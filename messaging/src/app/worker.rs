//! The worker: takes a delivery, calls the handler, settles; again.
//!
//! This is the hot path. It is compiled once for each listener, so that without layers the handler is a plain call. A
//! worker is one task and one allocation for as long as it lives; a message costs no task, no boxed future, no timer unless
//! the listener has a timeout, and no lock unless workers share a consumer.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use messaging_core::{Consumer, Delivery, Error, Event};
use tower::Service;

use super::AckMode;
use super::failure::{BoxError, Course, Failure, FailureKind};
use super::intake::Intake;
use super::ledger::count;
use super::settling::{Policy, Settling};
use super::stop::{Stage, StopEar};
use crate::extract::{Incoming, ListenerContext, ManualSlot};

/// After so many deliveries without a pause a worker lets others have their turn.
const YIELD_EVERY: u32 = 64;

/// What is left of a worker that ended.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// The consumer, if the worker had one of its own.
    pub(crate) consumer: Option<Consumer>,
    /// What the worker had started and could not finish. It is kept until the broker has taken it back.
    pub(crate) abandoned: Option<Delivery>,
}

/// A task of a listener.
pub(crate) type WorkerTask = Pin<Box<dyn Future<Output = Remains> + Send>>;

/// Everything of a worker but its service.
pub(crate) struct Worker {
    pub(crate) intake: Intake,
    pub(crate) settling: Settling,
    pub(crate) ear: StopEar,
    pub(crate) context: Arc<ListenerContext>,
    pub(crate) ack: AckMode,
}

/// How a call of a service ended.
enum Ended {
    Done,
    Failed(Failure),
    /// The shutdown did not wait any longer.
    Abandoned,
}

impl Worker {
    /// Works until stopped.
    pub(crate) async fn run<S>(mut self, service: S) -> Remains
    where
        S: Service<Incoming, Response = ()> + Clone + Send,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let mut current = service.clone();
        let mut since_pause = 0;
        while let Some(delivery) = poll_fn(|cx| self.poll_next(cx, &mut since_pause)).await {
            if since_pause >= YIELD_EVERY {
                since_pause = 0;
                tokio::task::yield_now().await;
            }
            if delivery.attempt() > self.settling.policy().deliveries_max {
                let failure = exhausted(delivery.attempt(), self.settling.policy());
                self.settling.fail(delivery, &failure);
                continue;
            }
            let abandoned = match self.ack {
                AckMode::OnSuccess => {
                    let incoming = Incoming::new(&delivery, &self.context, None);
                    match self.call(&mut current, incoming).await {
                        Ended::Done => {
                            self.settling.ack(delivery);
                            continue;
                        }
                        Ended::Failed(failure) => {
                            self.failed(delivery, &failure, &mut current, &service);
                            continue;
                        }
                        Ended::Abandoned => Some(delivery),
                    }
                }
                AckMode::Manual => {
                    let slot = ManualSlot::new(self.settling.policy().clone(), self.settling.counters().clone());
                    let incoming = Incoming::new(&delivery, &self.context, Some(slot.clone()));
                    slot.put(delivery);
                    let ended = self.call(&mut current, incoming).await;
                    // Nothing is left where the handler settled, or gave what it settles with to someone else.
                    match (slot.take_back(), ended) {
                        (Some(delivery), Ended::Abandoned) => Some(delivery),
                        (None, Ended::Abandoned) => None,
                        (Some(delivery), Ended::Done) => {
                            self.settling.fail(delivery, &unsettled());
                            continue;
                        }
                        (Some(delivery), Ended::Failed(failure)) => {
                            self.failed(delivery, &failure, &mut current, &service);
                            continue;
                        }
                        (None, _) => continue,
                    }
                }
            };
            return self.end(abandoned).await;
        }
        self.end(None).await
    }

    /// The next delivery; none once stopped.
    #[inline]
    fn poll_next(&mut self, cx: &mut Context<'_>, since_pause: &mut u32) -> Poll<Option<Delivery>> {
        let Self { intake, settling, ear, .. } = self;
        if ear.stage() != Stage::Running {
            return Poll::Ready(None);
        }
        if settling.poll_room(cx).is_ready()
            && let Poll::Ready(next) = intake.poll(cx, &mut |event| saw(settling, &event))
        {
            *since_pause += 1;
            return Poll::Ready(match next {
                Ok(Some(delivery)) => {
                    count(&settling.counters().received, 1);
                    Some(delivery)
                }
                Ok(None) => None,
                Err(error) => {
                    consumer_ended(settling, ear, &error);
                    None
                }
            });
        }
        *since_pause = 0;
        match ear.listen(cx.waker()) {
            Stage::Running => Poll::Pending,
            _ => Poll::Ready(None),
        }
    }

    #[cold]
    fn failed<S: Clone>(&mut self, delivery: Delivery, failure: &Failure, current: &mut S, service: &S) {
        if failure.kind() == FailureKind::Panicked {
            // What a panic left half done inside the service is not used again.
            *current = service.clone();
        }
        self.settling.fail(delivery, failure);
    }

    /// Calls the service, catching panics and minding the timeout and the end of a shutdown.
    #[inline]
    async fn call<S>(&mut self, service: &mut S, incoming: Incoming) -> Ended
    where
        S: Service<Incoming, Response = ()>,
        S::Error: Into<BoxError>,
    {
        let Self { settling, ear, .. } = self;
        let timeout = settling.policy().timeout;
        let mut called = pin!(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(incoming).await
        });
        let first = poll_fn(|cx| Poll::Ready(poll_caught(called.as_mut(), cx))).await;
        if let Poll::Ready(ended) = first {
            return ended;
        }
        // The handler waits for something: only now a timer and the signal matter.
        let mut timer = pin!(timeout.map(tokio::time::sleep));
        poll_fn(|cx| {
            if let ready @ Poll::Ready(_) = poll_caught(called.as_mut(), cx) {
                return ready;
            }
            // So that the ledger does not wait for this handler to learn what became of deliveries before.
            let _ = settling.poll_room(cx);
            if let (Some(timer), Some(timeout)) = (timer.as_mut().as_pin_mut(), timeout)
                && timer.poll(cx).is_ready()
            {
                return Poll::Ready(Ended::Failed(timed_out(timeout)));
            }
            match ear.listen(cx.waker()) {
                Stage::Running | Stage::Draining => Poll::Pending,
                Stage::Abandoning => Poll::Ready(Ended::Abandoned),
            }
        })
        .await
    }

    async fn end(mut self, abandoned: Option<Delivery>) -> Remains {
        let Self { settling, ear, .. } = &mut self;
        poll_fn(|cx| match settling.poll_all_answered(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending if ear.listen(cx.waker()) == Stage::Abandoning => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        })
        .await;
        settling.give_up();
        Remains { consumer: self.intake.into_own(), abandoned }
    }
}

/// Polls a call, turning its end, or its panic, into one of the ways in which it can end.
#[inline]
fn poll_caught<F, E>(called: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Ended>
where
    F: Future<Output = std::result::Result<(), E>>,
    E: Into<BoxError>,
{
    // The future is not polled again after a panic, and the service inside is replaced.
    match catch_unwind(AssertUnwindSafe(|| called.poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ended::Done),
        Ok(Poll::Ready(Err(error))) => Poll::Ready(Ended::Failed(Failure::from_boxed(error.into()))),
        Err(panic) => Poll::Ready(Ended::Failed(panicked(&*panic))),
    }
}

#[cold]
fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let what = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it said nothing");
    Failure::new(FailureKind::Panicked, Course::Retry, format!("the handler panicked: {what}").into())
}

#[cold]
fn timed_out(timeout: Duration) -> Failure {
    let text = format!("the handler took longer than its timeout of {timeout:?} and was cancelled");
    Failure::new(FailureKind::TimedOut, Course::Retry, text.into())
}

#[cold]
fn exhausted(attempt: u32, policy: &Policy) -> Failure {
    let attempts = policy.retry.attempts;
    let text = if policy.deliveries_max > attempts {
        let before = attempt - 1;
        format!(
            "{before} deliveries ended without a settlement, 4 for each of the {attempts} attempts, as when the message kills its process each time; the handler was not called again"
        )
    } else {
        format!(
            "all {attempts} attempts ended without a settlement, as when a process is killed, its connection lost or the dead letter away; the handler was not called again"
        )
    };
    Failure::new(FailureKind::Exhausted, Course::Retry, text.into())
}

#[cold]
fn unsettled() -> Failure {
    let text =
        "the handler returned without settling: with ack = manual, call ack, retry, release or dead_letter of `Settle`";
    Failure::new(FailureKind::Handler, Course::Retry, text.into())
}

#[cold]
fn saw(settling: &Settling, event: &Event) {
    let policy = settling.policy();
    policy.state.saw(event);
    let listener = &*policy.id;
    if let Event::Gap { missed } = event {
        tracing::warn!(listener, ?missed, "messages were lost to this listener");
        count(&settling.counters().gaps, 1);
        count(&settling.counters().missed, missed.unwrap_or(0));
    } else {
        tracing::info!(listener, ?event, "something happened to the consumer");
    }
}

#[cold]
fn consumer_ended(settling: &Settling, ear: &StopEar, error: &Error) {
    if ear.stage() == Stage::Running {
        let policy = settling.policy();
        tracing::error!(listener = &*policy.id, %error, "the consumer ended; the listener gets nothing any more");
        policy.state.ended(error);
    }
}
