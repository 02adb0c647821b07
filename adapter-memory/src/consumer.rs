//! Consuming from the memory broker.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::spi::{Deliveries, Settler, Unsettled};
use messaging_core::{
    Acked, Capabilities, ConsumeOptions, Control, Delivery, DrainReport, Error, ErrorKind, Event, Flow, Outcome,
    Result, Settlement,
};
use tokio::time::{Instant, Sleep};

use crate::backlog::{Backlog, Membership, NEVER, Step, gone};
use crate::server::{Link, Server};
use crate::topic::Topic;

/// A consumer's place in a backlog: what settles its deliveries and steers its flow.
pub(crate) struct Attachment {
    server: Arc<Server>,
    backlog: Arc<Backlog>,
    id: u32,
    /// The place is given up; its number may be someone else's by now.
    left: AtomicBool,
    /// The broker was closed, and what was not settled by then taken back.
    closed: AtomicBool,
    /// Of an ephemeral subscription: its topic.
    ephemeral_of: Option<Arc<Topic>>,
    capabilities: Arc<Capabilities>,
}

impl Attachment {
    pub(crate) fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }

    /// Tells the consumer of something that happened.
    pub(crate) fn tell(&self, event: Event) {
        self.here(|id| self.backlog.with(|state, effects| state.push_event(id, event, effects)));
    }

    /// Cuts the consumer off: what it holds goes to others, and an ephemeral subscription misses what it has not taken.
    pub(crate) fn cut(&self) {
        self.tell(Event::Disconnected);
        self.come_back();
    }

    /// Back after the line was down.
    pub(crate) fn come_back(&self) {
        self.here(|id| {
            self.backlog.with(|state, effects| {
                if self.ephemeral_of.is_some() {
                    let fetched = state.never_delivered();
                    let missed = self.backlog.feed().map_or(fetched, |feed| fetched + feed.skip_to_end());
                    state.wipe(effects);
                    if missed > 0 {
                        state.push_event(id, Event::Gap { missed: Some(missed) }, effects);
                    }
                } else {
                    state.take_back(id, effects);
                }
                state.push_event(id, Event::Reconnected, effects);
                state.wake_all(effects);
            });
        });
    }

    /// The broker handle is closed, and what was held was taken back.
    pub(crate) fn closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// The broker handle was closed: the consumer ends with an error.
    pub(crate) fn close(&self) {
        self.here(|id| self.backlog.with(|state, effects| state.close_member(id, effects)));
    }

    /// Waits until nothing is held, then takes back what still is.
    pub(crate) async fn drain(&self, by: Instant) -> DrainReport {
        self.set_flow(Flow::Stopped);
        let mut report = DrainReport::default();
        loop {
            let Some((held, settled, idle)) = self.here(|id| self.backlog.lock().drain_status(id)).flatten() else {
                return report;
            };
            report.settled = settled;
            if held == 0 {
                return report;
            }
            let notified = idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let still_held =
                self.here(|id| self.backlog.lock().drain_status(id)).flatten().is_some_and(|(held, ..)| held > 0);
            if still_held && tokio::time::timeout_at(by, notified).await.is_err() {
                break;
            }
        }
        let taken_back = |id| {
            self.backlog.with(|state, effects| {
                let settled = state.drain_status(id).map_or(0, |(_, settled, _)| settled);
                (settled, state.take_back(id, effects))
            })
        };
        if let Some((settled, abandoned)) = self.here(taken_back) {
            report.settled = settled;
            report.abandoned = abandoned;
        }
        report
    }

    fn leave(&self) {
        if !self.left.swap(true, Ordering::AcqRel) {
            self.backlog.with(|state, effects| state.leave(self.id, effects));
            if let Some(topic) = &self.ephemeral_of {
                topic.detach();
            }
        }
    }

    /// Acts while the place is still this consumer's.
    fn here<T>(&self, act: impl FnOnce(u32) -> T) -> Option<T> {
        (!self.left.load(Ordering::Acquire)).then(|| act(self.id))
    }
}

#[async_trait]
impl Control for Attachment {
    fn set_flow(&self, flow: Flow) {
        self.here(|id| self.backlog.with(|state, effects| state.set_flow(id, flow, effects)));
    }

    async fn flush(&self, _by: Instant) -> Result<()> {
        // Every settlement is known to the server when its call returns.
        Ok(())
    }
}

impl Settler for Attachment {
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome {
        if self.server.is_disturbed() && self.server.link() != Link::Up {
            return Outcome::ready(Err(unanswered()));
        }
        // An ephemeral subscription has nowhere to keep a message: at most once is what it promises.
        let result = self.backlog.settle(delivery.tag, how);
        drop(delivery);
        Outcome::ready(result.map_err(|stale| if self.closed.load(Ordering::Relaxed) { taken_back() } else { stale }))
    }

    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked> {
        if self.server.is_disturbed() && self.server.link() != Link::Up {
            return Outcome::ready(Err(unanswered()));
        }
        Outcome::ready(Ok(self.backlog.ack_many(tags)))
    }

    fn extend(&self, tag: u64, by: Duration) -> Outcome {
        if self.server.is_disturbed() && self.server.link() != Link::Up {
            return Outcome::ready(Err(unanswered()));
        }
        Outcome::ready(self.backlog.extend(tag, by))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("source", &self.backlog.source).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cold]
fn taken_back() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the broker was closed before the delivery was settled: it was given back and comes again elsewhere",
    )
}

#[cold]
fn unanswered() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "the line to the memory server is down: the settlement did not arrive, the message comes again",
    )
}

/// The deliveries of one consumer.
pub(crate) struct MemoryDeliveries {
    attachment: Arc<Attachment>,
    settler: Arc<dyn Settler>,
    timer: Timer,
}

/// Set to the earliest deadline while a consumer waits.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    at: u64,
}

impl Timer {
    /// Whether the deadline has come; otherwise the timer is set to it.
    fn poll(&mut self, instant: Option<Instant>, at: u64, cx: &mut Context<'_>) -> bool {
        let Some(instant) = instant else { return false };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if self.at != at {
                    sleep.as_mut().reset(instant);
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(instant))),
        };
        self.at = at;
        let is_due = sleep.as_mut().poll(cx).is_ready();
        if is_due {
            // A timer that has fired must be set anew before it is polled again.
            self.sleep = None;
        }
        is_due
    }
}

impl MemoryDeliveries {
    pub(crate) fn attach(
        server: &Arc<Server>,
        backlog: Arc<Backlog>,
        ephemeral_of: Option<Arc<Topic>>,
        options: &ConsumeOptions,
        capabilities: Arc<Capabilities>,
    ) -> Self {
        let id = backlog.with(|state, _| state.join(Membership::of(options)));
        let attachment = Arc::new(Attachment {
            server: Arc::clone(server),
            backlog,
            id,
            left: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            ephemeral_of,
            capabilities,
        });
        server.attach(&attachment);
        Self { settler: Arc::clone(&attachment) as Arc<dyn Settler>, attachment, timer: Timer::default() }
    }

    pub(crate) fn close(&self) {
        self.attachment.close();
    }

    pub(crate) fn attachment(&self) -> Weak<Attachment> {
        Arc::downgrade(&self.attachment)
    }
}

#[async_trait]
impl Deliveries for MemoryDeliveries {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        let Attachment { server, backlog, id, .. } = &*self.attachment;
        if server.is_disturbed() && server.link() != Link::Up {
            backlog.with(|state, _| state.wait_for_link(*id, cx.waker()));
            // The line may have come back before anybody knew who waits for it.
            if server.link() != Link::Up {
                return Poll::Pending;
            }
        }
        loop {
            match backlog.take(*id, max, &self.settler, cx, out) {
                Step::Took(count) => return Poll::Ready(Ok(count)),
                Step::Stopped => return Poll::Ready(Ok(0)),
                Step::Closed => {
                    return Poll::Ready(Err(Error::closed("the broker")));
                }
                Step::Gone => return Poll::Ready(Err(gone(backlog.source.as_ref()))),
                Step::Wait { until: NEVER } => return Poll::Pending,
                Step::Wait { until } => {
                    if !self.timer.poll(backlog.clock.instant(until), until, cx) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn stop_waiting(&mut self) {
        let Attachment { backlog, id, .. } = &*self.attachment;
        backlog.stop_waiting(*id);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.attachment.backlog.lock().poll_event(self.attachment.id, cx.waker()) {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }

    fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.attachment) as Arc<dyn Control>
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        self.attachment.drain(by).await
    }
}

impl Drop for MemoryDeliveries {
    fn drop(&mut self) {
        self.attachment.leave();
    }
}

impl fmt::Debug for MemoryDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDeliveries").field("attachment", &self.attachment).finish_non_exhaustive()
    }
}
