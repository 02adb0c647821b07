//! Publishes whose frames are on their way to the socket, in order.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, PublisherConfirm};
use tokio::time::Instant;

use super::PendingPublish;
use super::confirms::Unconfirmed;
use super::route::Route;
use crate::connection::Line;

/// A write: comes to what will be the broker's answer, or gives the publish back.
pub(super) type Write<C> = Pin<Box<dyn Future<Output = std::result::Result<C, Unwritten>> + Send>>;

/// A publish that could not be written, and why.
pub(super) struct Unwritten {
    pub(super) error: lapin::Error,
    pub(super) publish: PendingPublish,
}

/// Writes the frames of a publish.
pub(super) fn write_frames(
    channel: Arc<Line>,
    publish: PendingPublish,
    route: Route,
    properties: BasicProperties,
) -> Write<PublisherConfirm> {
    Box::pin(async move {
        let options = BasicPublishOptions { mandatory: route.mandatory, immediate: false };
        let payload = publish.message.payload();
        match channel.basic_publish(route.exchange, route.routing_key, options, payload, properties).await {
            Ok(confirm) => Ok(confirm),
            Err(error) => Err(Unwritten { error, publish }),
        }
    })
}

enum Step<C> {
    UnderWay(Write<C>),
    Done(std::result::Result<C, Unwritten>),
}

/// What is being written.
pub(super) struct Writes<C> {
    begun: VecDeque<(Unconfirmed, Step<C>)>,
}

impl<C> Default for Writes<C> {
    fn default() -> Self {
        Self { begun: VecDeque::new() }
    }
}

impl<C> Writes<C> {
    /// Begins a write. The first look hands its frames to the client, in the order of the calls.
    pub(super) fn begin(&mut self, waiting: Unconfirmed, mut write: Write<C>) {
        let step = match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Step::Done(done),
            Poll::Pending => Step::UnderWay(write),
        };
        self.begun.push_back((waiting, step));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Waits for the last: the others are written before it, and one wake does for all.
    pub(super) fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.begun.back_mut() {
            Some((_, step)) => step.poll(cx),
            None => Poll::Pending,
        }
    }

    /// The oldest, if it is written.
    pub(super) fn poll_oldest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Unconfirmed, std::result::Result<C, Unwritten>)>> {
        let Some((_, step)) = self.begun.front_mut() else { return Poll::Ready(None) };
        if step.poll(cx).is_pending() {
            return Poll::Pending;
        }
        match self.begun.pop_front() {
            Some((waiting, Step::Done(done))) => Poll::Ready(Some((waiting, done))),
            _ => Poll::Ready(None),
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Unconfirmed> {
        self.begun.iter_mut().map(|(waiting, _)| waiting)
    }

    /// Whether one takes longer than its time.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.begun.front().is_some_and(|(waiting, _)| waiting.until <= now)
    }

    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Unconfirmed> {
        self.begun.drain(..).map(|(waiting, _)| waiting)
    }
}

impl<C> Step<C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::UnderWay(write) = self {
            let Poll::Ready(done) = write.as_mut().poll(cx) else { return Poll::Pending };
            *self = Self::Done(done);
        }
        Poll::Ready(())
    }
}
