//! The worker: takes a delivery, calls the handler, settles; again.
//!
//! This is the hot path. It is compiled once for each listener, so that without layers the handler is a plain call. A
//! worker is one task and one allocation for as long as it lives; a message costs no task, no boxed future, no timer unless
//! the listener has a timeout, and no lock unless workers share a consumer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use messaging_core::{Consumer, Delivery, Error, Event};
use tokio::time::Instant;
use tower::Service;

use super::AckMode;
use super::caught::{Panic, caught, discard, discard_pinned, poll_caught};
use super::failure::{BoxError, Course, Failure, FailureKind};
use super::intake::Intake;
use super::ledger::count;
use super::settling::{Policy, Settling};
use super::stop::{Stage, StopEar};
use crate::extract::{Incoming, ListenerContext, ManualSlot};

/// Deliveries in a row after which a worker yields to other tasks.
const YIELD_EVERY: u32 = 64;

/// Pause before a worker that panicked is started again; it doubles with every panic in a row.
const RESTART_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause before a worker is started again; one that worked for longer than this begins afresh.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Remains of a worker that ended.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// The consumer, if the worker had one of its own.
    pub(crate) consumer: Option<Consumer>,
    /// The delivery whose handler had started and did not finish. It is kept until the broker has taken it back.
    pub(crate) abandoned: Option<Delivery>,
}

/// A task of a listener.
pub(crate) type WorkerTask = Pin<Box<dyn Future<Output = Remains> + Send>>;

/// A worker without its service.
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
    /// Works until stopped. A panic outside of the guard around a handler, as of a layer's `Clone` or of a log subscriber, is
    /// in health until the worker has been started again.
    pub(crate) async fn run<S>(mut self, mut service: S) -> Remains
    where
        S: Service<Incoming, Response = ()> + Clone + Send,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let mut pause = RESTART_PAUSE;
        let abandoned = loop {
            let begun = Instant::now();
            let worked = {
                let mut working = pin!(Some(self.work(&mut service)));
                let worked = poll_fn(|cx| poll_caught(working.as_mut(), cx)).await;
                discard_pinned(working);
                worked
            };
            let Panic(panic) = match worked {
                Ok(abandoned) => break abandoned,
                Err(panic) => panic,
            };
            pause =
                if begun.elapsed() > RESTART_PAUSE_MAX { RESTART_PAUSE } else { (pause * 2).min(RESTART_PAUSE_MAX) };
            self.died(&panic, pause).await;
            if self.ear.stage() != Stage::Running {
                break None;
            }
            self.settling.policy().state.worker_restarted();
        };
        discard(service);
        self.end(abandoned).await
    }

    /// Handles one delivery after the other until stopped; returns the one whose handler the shutdown did not wait for.
    async fn work<S>(&mut self, service: &mut S) -> Option<Delivery>
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
                self.settling.fail(delivery, failure);
                continue;
            }
            match self.ack {
                AckMode::OnSuccess => {
                    let incoming = Incoming::new(&delivery, &self.context, None);
                    match self.call(&mut current, incoming).await {
                        Ended::Done => self.settling.ack(delivery),
                        Ended::Failed(failure) => self.failed(delivery, failure, &mut current, service),
                        Ended::Abandoned => return Some(delivery),
                    }
                }
                AckMode::Manual => {
                    let slot = ManualSlot::new(self.settling.policy().clone(), self.settling.counters().clone());
                    let incoming = Incoming::new(&delivery, &self.context, Some(slot.clone()));
                    slot.put(delivery);
                    let ended = self.call(&mut current, incoming).await;
                    match (slot.take_back(), ended) {
                        (Some(delivery), Ended::Abandoned) => return Some(delivery),
                        (Some(delivery), Ended::Done) => self.settling.fail(delivery, unsettled()),
                        (Some(delivery), Ended::Failed(failure)) => {
                            self.failed(delivery, failure, &mut current, service);
                        }
                        // The handler settled, or gave its `Settle` to somebody else, who counts.
                        (None, Ended::Abandoned) => {
                            self.settling.handed_over();
                            return None;
                        }
                        (None, Ended::Done) => self.settling.handed_over(),
                        (None, Ended::Failed(failure)) => {
                            self.settling.handed_over();
                            self.renew_after(&failure, &mut current, service);
                            discard(failure);
                        }
                    }
                }
            }
        }
        None
    }

    /// Reports that the worker panicked, and waits until it is started again or the application stops.
    #[cold]
    async fn died(&mut self, panic: &str, pause: Duration) {
        let Self { intake, settling, ear, .. } = self;
        intake.step_aside();
        settling.died();
        let policy = settling.policy();
        policy.state.worker_died(panic);
        // The subscriber may be what panicked.
        let _ = caught(|| {
            tracing::error!(
                listener = &*policy.id,
                panic,
                ?pause,
                "a worker panicked outside of its handler; it is started again"
            );
        });
        let mut timer = pin!(tokio::time::sleep(pause));
        poll_fn(|cx| match ear.listen(cx.waker()) {
            Stage::Running => timer.as_mut().poll(cx),
            _ => Poll::Ready(()),
        })
        .await;
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
                    settling.received();
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
    fn failed<S: Clone>(&mut self, delivery: Delivery, failure: Failure, current: &mut S, service: &S) {
        self.renew_after(&failure, current, service);
        self.settling.fail(delivery, failure);
    }

    /// Replaces the service after a panic, which may have left something half done inside.
    #[cold]
    fn renew_after<S: Clone>(&mut self, failure: &Failure, current: &mut S, service: &S) {
        if failure.kind() == FailureKind::Panicked {
            discard(std::mem::replace(current, service.clone()));
        }
    }

    /// Calls the service, catching panics and minding the timeout and the end of a shutdown.
    #[inline]
    async fn call<S>(&mut self, service: &mut S, incoming: Incoming) -> Ended
    where
        S: Service<Incoming, Response = ()>,
        S::Error: Into<BoxError>,
    {
        let mut called = pin!(Some(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(into_failure)?;
            service.call(incoming).await.map_err(into_failure)
        }));
        let first = poll_fn(|cx| Poll::Ready(poll_ended(called.as_mut(), cx))).await;
        if let Poll::Ready(ended) = first {
            return ended;
        }
        let ended = self.wait(called.as_mut()).await;
        // Cancelled, the handler drops its values here.
        discard_pinned(called);
        ended
    }

    /// Waits for a handler that waits for something itself: only now its timeout and the shutdown matter.
    async fn wait<F>(&mut self, mut called: Pin<&mut Option<F>>) -> Ended
    where
        F: Future<Output = std::result::Result<(), Failure>>,
    {
        let Self { settling, ear, .. } = self;
        let timeout = settling.policy().timeout;
        let mut timer = pin!(timeout.map(tokio::time::sleep));
        poll_fn(|cx| {
            if let ready @ Poll::Ready(_) = poll_ended(called.as_mut(), cx) {
                return ready;
            }
            // The ledger learns the results of earlier settlements also while this handler works.
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
        // The last worker drops the application's states.
        discard(self.context);
        Remains { consumer: self.intake.into_own(), abandoned }
    }
}

/// Polls a call, turning its end, or its panic, into one of the ways in which it can end.
#[inline]
fn poll_ended<F>(called: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<Ended>
where
    F: Future<Output = std::result::Result<(), Failure>>,
{
    // The future is not polled again after a panic, and the service inside is replaced.
    poll_caught(called, cx).map(|result| match result {
        Ok(Ok(())) => Ended::Done,
        Ok(Err(failure)) => Ended::Failed(failure),
        Err(Panic(text)) => Ended::Failed(panicked(&text)),
    })
}

/// The conversion of an error is the application's code, and runs under the guard around the call.
#[cold]
fn into_failure(error: impl Into<BoxError>) -> Failure {
    Failure::from_boxed(error.into())
}

#[cold]
fn panicked(text: &str) -> Failure {
    Failure::new(FailureKind::Panicked, Course::Retry, format!("the handler panicked: {text}").into())
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
