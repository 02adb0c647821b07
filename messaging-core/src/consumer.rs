//! The consumer an application holds, and the trait an adapter implements behind it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::Stream;
use tokio::task::coop;
use tokio::time::Instant;

use crate::capabilities::Capabilities;
use crate::delivery::Delivery;
use crate::error::{Error, Result};
use crate::scope::Scope;

/// Something that happened to a consumer besides a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Messages were lost to this consumer: an ephemeral subscription lagged too far behind or was cut off, or the broker deleted
    /// them before they were read, as a log's retention does.
    Gap {
        /// How many, where it is known.
        missed: Option<u64>,
    },
    /// The broker shared the work out anew.
    Rebalanced,
    /// The connection was lost; the consumer is trying to come back.
    Disconnected,
    /// The consumer is back.
    Reconnected,
}

/// State of the flow of deliveries. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They do.
    Running,
    /// They do not until it runs again. What is held stays held.
    Paused,
    /// They never will again: the unstarted are released, a waiting receive ends.
    Stopped,
}

/// Steers a consumer from elsewhere while someone waits for its next delivery.
#[async_trait]
pub trait Control: Send + Sync + fmt::Debug {
    /// Changes whether deliveries flow. Takes effect at the call: what was not handed out yet is not any more. `Stopped` is
    /// final.
    fn set_flow(&self, flow: Flow);

    /// Makes all settlements so far as durable as the broker allows. What was acknowledged and not flushed may come again
    /// after a crash.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) past `by`.
    async fn flush(&self, by: Instant) -> Result<()>;
}

/// Numbers of the deliveries of a consumer that a drain settled, gave back or had to abandon. There is a report also when the
/// broker is dead: then above all.
#[derive(Debug, Default)]
#[must_use = "it reports what had to be abandoned"]
pub struct DrainReport {
    /// Started ones that were settled before the deadline.
    pub settled: u64,
    /// Unstarted ones that were given back.
    pub released: u64,
    /// Started ones that were still unsettled at the deadline: taken back, to be delivered again. Not dead-lettered.
    pub abandoned: u64,
    /// Settlements of which the broker did not say that it knows: they may come again.
    pub unconfirmed: u64,
    /// Errors on the way.
    pub errors: Vec<Error>,
}

impl DrainReport {
    /// The sum of both reports.
    pub fn and(mut self, other: Self) -> Self {
        let Self { settled, released, abandoned, unconfirmed, errors } = other;
        self.settled += settled;
        self.released += released;
        self.abandoned += abandoned;
        self.unconfirmed += unconfirmed;
        self.errors.extend(errors);
        self
    }
}

/// A source of deliveries that is polled many at a time: the adapter's side of a [`Consumer`].
///
/// # Requirements on implementors
/// * Never hand out more than the prefetch allows unsettled.
/// * `poll_next_many` keeps nothing it took for a poll that returned pending: cancelling a receive loses nothing.
/// * After the connection is lost it recovers by itself, with backoff, and registers one consumer, not two. It returns an
///   error only when it cannot go on; the broker being away is not such an error.
/// * Dropping it hands its unsettled deliveries to others within the declared bound.
#[async_trait]
pub trait Deliveries: Send + fmt::Debug {
    /// Appends up to `max` deliveries to `out` and returns how many; 0 only when stopped, for ever.
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>>;

    /// A handle to steer this from elsewhere.
    fn control(&self) -> Arc<dyn Control>;

    /// Stops, waits until the started deliveries are settled or `by` has passed, takes back the rest, and flushes. Ends by
    /// `by` also when the broker is dead.
    async fn drain(&mut self, by: Instant) -> DrainReport;

    /// The task that polled last does not wait any more, though its poll was pending: a wake-up meant for it goes to another
    /// consumer. Called when a receive is cancelled. Does nothing by default, which is right where a wake-up reaches every
    /// consumer.
    fn stop_waiting(&mut self) {}

    /// The next event, if one happened. Registers the waker for the next. By default there are none.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let _ = cx;
        Poll::Pending
    }
}

/// The next thing that a consumer receives. Exhaustive on purpose.
#[derive(Debug)]
pub enum Received {
    /// A delivery.
    Delivery(Delivery),
    /// Something else that happened.
    Event(Event),
}

/// Receives deliveries from one queue or subscription.
///
/// It yields to other tasks from time to time, also when there is always more, as tokio's own channels do.
///
/// It keeps nothing between two calls: what was not asked for yet is with the adapter, which can give it to others. Dropping
/// it hands the unsettled deliveries to others. It is also a [`Stream`] of deliveries.
pub struct Consumer {
    source: Box<dyn Deliveries>,
    /// Where a single delivery is received; empty between two calls.
    one: Vec<Delivery>,
    capabilities: Arc<Capabilities>,
    scope: Scope,
}

impl Consumer {
    /// Wraps an adapter's deliveries; adapters call this.
    #[must_use]
    pub fn new(source: Box<dyn Deliveries>, capabilities: Arc<Capabilities>, scope: Scope) -> Self {
        Self { source, one: Vec::with_capacity(1), capabilities, scope }
    }

    /// Takes the consumer apart, for those who wrap a broker and put something between it and the application.
    #[must_use]
    pub fn into_source(self) -> Box<dyn Deliveries> {
        self.source
    }

    /// Capabilities of this consumer.
    #[must_use]
    pub fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// Broker and source, for the context of errors.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Waits for the next delivery; `None` once stopped. Events are passed over: see [`receive`](Self::receive).
    ///
    /// Cancelling the future loses nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the broker was closed; otherwise what ended the consumer.
    #[inline]
    pub async fn next(&mut self) -> Result<Option<Delivery>> {
        let mut wait = Wait { consumer: self, pending: false };
        std::future::poll_fn(|cx| wait.poll(|consumer| consumer.poll_next_delivery(cx))).await
    }

    /// Waits for the next delivery or event; `None` once stopped. Cancelling the future loses nothing.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub async fn receive(&mut self) -> Result<Option<Received>> {
        let mut wait = Wait { consumer: self, pending: false };
        std::future::poll_fn(|cx| {
            wait.poll(|consumer| {
                if let Poll::Ready(event) = consumer.source.poll_event(cx) {
                    // It may have waited for a delivery, and does not any more.
                    consumer.source.stop_waiting();
                    return Poll::Ready(Ok(Some(Received::Event(event))));
                }
                consumer.poll_next_delivery(cx).map_ok(|next| next.map(Received::Delivery))
            })
        })
        .await
    }

    /// Waits for at least one delivery and takes what is there, up to `max`; empty once stopped.
    ///
    /// Cancelling the future loses nothing.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub async fn next_many(&mut self, max: usize) -> Result<Vec<Delivery>> {
        let mut out = Vec::with_capacity(max.min(1_024));
        self.next_many_into(max, &mut out).await?;
        Ok(out)
    }

    /// As [`next_many`](Self::next_many), appending to a buffer that is used again; returns how many, 0 once stopped.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub async fn next_many_into(&mut self, max: usize, out: &mut Vec<Delivery>) -> Result<usize> {
        let mut wait = Wait { consumer: self, pending: false };
        std::future::poll_fn(|cx| wait.poll(|consumer| consumer.poll_next_many(cx, max, out))).await
    }

    /// As [`next`](Self::next), for those who poll.
    #[inline]
    pub fn poll_next_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Delivery>>> {
        let share = ready!(coop::poll_proceed(cx));
        let polled = self.source.poll_next_many(cx, 1, &mut self.one);
        if polled.is_ready() {
            share.made_progress();
        }
        match polled {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(self.one.pop())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.scope.explain(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// As [`next_many_into`](Self::next_many_into), for those who poll.
    pub fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        let max = max.max(1);
        let share = ready!(coop::poll_proceed(cx));
        let polled = self.source.poll_next_many(cx, max, out);
        if polled.is_ready() {
            share.made_progress();
        }
        polled.map_err(|error| self.scope.explain(error))
    }

    /// The next event, for those who poll.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.source.poll_event(cx)
    }

    /// A handle to pause, resume or stop this from elsewhere.
    #[must_use]
    pub fn control(&self) -> Arc<dyn Control> {
        self.source.control()
    }

    /// No new deliveries.
    pub fn stop(&mut self) {
        self.source.control().set_flow(Flow::Stopped);
    }

    /// Makes all settlements so far as durable as the broker allows; see [`Control::flush`].
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) past `within`.
    pub async fn flush(&self, within: Duration) -> Result<()> {
        self.source.control().flush(Instant::now() + within).await.map_err(|error| self.scope.explain(error))
    }

    /// Stops, waits until the started deliveries are settled, takes back those that are not by the deadline, and flushes.
    pub async fn drain(&mut self, within: Duration) -> DrainReport {
        self.source.drain(Instant::now() + within).await
    }

    /// Drains and ends the consumer.
    pub async fn close(mut self, within: Duration) -> DrainReport {
        self.drain(within).await
    }
}

/// A receive under way; when it is cancelled, the source learns of it.
struct Wait<'a> {
    consumer: &'a mut Consumer,
    pending: bool,
}

impl Wait<'_> {
    #[inline]
    fn poll<T>(&mut self, poll: impl FnOnce(&mut Consumer) -> Poll<T>) -> Poll<T> {
        let polled = poll(self.consumer);
        self.pending = polled.is_pending();
        polled
    }
}

impl Drop for Wait<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.pending {
            self.consumer.source.stop_waiting();
        }
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_next_delivery(cx).map(Result::transpose)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("scope", &self.scope).finish_non_exhaustive()
    }
}
