//! Consumers: a task each, which owns the channel, and what the application polls.

mod attach;
mod copies;
mod service;
mod shared;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::spi::Deliveries;
use messaging_core::{
    Capabilities, Consumer, Control, Delivery, DrainReport, Error, ErrorKind, Event, Flow, Result, Scope, Source,
    SubjectFilter, TopicName,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

pub(crate) use self::shared::Shared;
use self::worker::Worker;
use crate::connection::Link;
use crate::error::silent;
use crate::topology::Topology;
use crate::writer::Writer;

/// How often a subscription makes sure that it is bound: deleting an exchange takes its bindings along, and tells nobody.
pub(crate) const REBIND_INTERVAL: Duration = Duration::from_secs(2);

/// What is consumed.
#[derive(Clone, Debug)]
pub(crate) enum Consumed {
    /// A queue or a durable subscription.
    Source { source: Source, filter: Option<SubjectFilter> },
    /// What is published to a topic while this is attached.
    Ephemeral { topic: TopicName, filter: Option<SubjectFilter> },
}

/// How it is consumed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) what: Consumed,
    pub(crate) prefetch: usize,
    /// One message of a key at a time.
    pub(crate) by_key: bool,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) scope: Scope,
}

/// What a consumer needs of its broker handle.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerContext {
    pub(crate) link: Arc<Link>,
    pub(crate) topology: Arc<Topology>,
    /// Writes retries and dead letters.
    pub(crate) copies: Writer,
    pub(crate) tasks: TaskTracker,
}

/// What the task is asked to do, and answers.
pub(crate) enum Request {
    /// Make all settlements so far as durable as the broker allows.
    Flush { by: Instant, done: oneshot::Sender<Result<()>> },
    /// Give everything back and end.
    Finish { by: Instant, done: oneshot::Sender<Finished> },
}

/// What a task did when it ended.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) released: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) errors: Vec<Error>,
}

/// Opens a consumer; resolves when it is registered at the broker.
///
/// # Errors
/// Why it could not be opened.
pub(crate) async fn open(around: ConsumerContext, plan: Plan) -> Result<(Consumer, Handle)> {
    let shared =
        Arc::new(Shared::new(plan.scope.clone(), plan.capabilities.clone(), plan.prefetch, plan.by_key, &plan.what));
    let (requests, received) = mpsc::unbounded_channel();
    let (opened, is_open) = oneshot::channel();
    let (capabilities, scope) = (plan.capabilities.clone(), plan.scope.clone());
    let worker = Worker::new(around.clone(), plan, shared.clone(), received);
    // Made before the wait: cancelling this drops it, and the task gives everything back.
    let handle = Handle { shared, requests };
    let deliveries = RabbitDeliveries(handle.clone());
    around.tasks.spawn(worker.run(opened));
    match is_open.await {
        Ok(Ok(())) => Ok((Consumer::new(Box::new(deliveries), capabilities, scope), handle)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::new(ErrorKind::Internal, "the consumer's task ended before it began")),
    }
}

/// Steers a consumer's task.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Request>,
}

impl Handle {
    /// Whether the task has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.requests.is_closed()
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        let (done, answer) = oneshot::channel();
        if self.requests.send(Request::Flush { by, done }).is_err() {
            // The task has ended, and flushed before.
            return Ok(());
        }
        let limit = by.saturating_duration_since(Instant::now());
        match timeout_at(by, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(silent("the settlements", limit)),
        }
    }

    /// Stops, waits for what the application holds, takes the rest back, flushes, and ends the task.
    pub(crate) async fn drain(&self, by: Instant) -> DrainReport {
        let before = self.shared.settled_so_far();
        self.shared.set_flow(Flow::Stopped);
        self.shared.set_draining();
        loop {
            let mut settled = std::pin::pin!(self.shared.all_settled.notified());
            settled.as_mut().enable();
            if self.shared.handed() == 0 || timeout_at(by, settled).await.is_err() {
                break;
            }
        }
        let (done, answer) = oneshot::channel();
        // Known here, also when the task cannot say anything in time.
        let mut report = DrainReport { abandoned: self.shared.handed(), ..DrainReport::default() };
        if self.requests.send(Request::Finish { by, done }).is_ok() {
            // A moment more, so that the task can say that it ran out of time.
            match timeout_at(by + Duration::from_millis(100), answer).await {
                Ok(Ok(finished)) => {
                    let Finished { released, unconfirmed, errors } = finished;
                    report = DrainReport { released, unconfirmed, errors, ..report };
                }
                Ok(Err(_)) => {}
                Err(_) => report.errors.push(silent("the settlements", Duration::ZERO)),
            }
        }
        report.settled = self.shared.settled_so_far() - before;
        report
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("shared", &self.shared).finish_non_exhaustive()
    }
}

#[async_trait]
impl Control for Handle {
    fn set_flow(&self, flow: Flow) {
        self.shared.set_flow(flow);
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        Handle::flush(self, by).await
    }
}

/// What the application polls.
#[derive(Debug)]
struct RabbitDeliveries(Handle);

#[async_trait]
impl Deliveries for RabbitDeliveries {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        self.0.shared.poll_next_many(cx, max, out)
    }

    fn stop_waiting(&mut self) {
        self.0.shared.stop_waiting();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.0.shared.poll_event(cx)
    }

    fn control(&self) -> Arc<dyn Control> {
        Arc::new(self.0.clone())
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        self.0.drain(by).await
    }
}

impl Drop for RabbitDeliveries {
    fn drop(&mut self) {
        self.0.shared.set_dropped();
    }
}
