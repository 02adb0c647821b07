//! Consuming and settling with places to step in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::spi::{Deliveries, Settler, Unsettled};
use messaging_core::{Acked, Capabilities, Control, Delivery, DrainReport, Event, Flow, Outcome, Result, Settlement};
use tokio::time::Instant;

use super::{Intercept, Stream};

#[derive(Debug)]
pub(super) struct InterceptedDeliveries {
    /// Taken when dropped.
    stream: Option<Stream>,
    how: Arc<dyn Intercept>,
    capabilities: Arc<Capabilities>,
    /// The settler seen last and what stands before it, so that deliveries of one settler share one.
    settlers: Option<(Arc<dyn Settler>, Arc<dyn Settler>)>,
}

/// The stream is there until the drop.
const PRESENT: &str = "the stream is taken only when its consumer is dropped";

#[allow(clippy::expect_used, reason = "see PRESENT")]
impl InterceptedDeliveries {
    pub(super) fn new(stream: Stream, how: Arc<dyn Intercept>, capabilities: Arc<Capabilities>) -> Self {
        Self { stream: Some(stream), how, capabilities, settlers: None }
    }

    fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect(PRESENT)
    }

    fn wrap(&mut self, delivery: Delivery) -> Delivery {
        let (unsettled, settler) = delivery.into_parts();
        let known = self.settlers.as_ref().filter(|(inner, _)| Arc::ptr_eq(inner, &settler));
        let before = match known {
            Some((_, before)) => Arc::clone(before),
            None => {
                let before: Arc<dyn Settler> = Arc::new(InterceptedSettler {
                    inner: Arc::clone(&settler),
                    how: Arc::clone(&self.how),
                    capabilities: Arc::clone(&self.capabilities),
                    held: Arc::clone(&self.stream().held),
                });
                self.settlers = Some((settler, Arc::clone(&before)));
                before
            }
        };
        self.stream().held.fetch_add(1, Ordering::AcqRel);
        Delivery::new(self.how.received(unsettled), before)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Deliveries for InterceptedDeliveries {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        let before = out.len();
        let how = Arc::clone(&self.how);
        let polled = how.poll(self.stream(), cx, max, out);
        let fresh: Vec<Delivery> = out.drain(before..).collect();
        for delivery in fresh {
            let wrapped = self.wrap(delivery);
            out.push(wrapped);
        }
        polled
    }

    fn stop_waiting(&mut self) {
        let how = Arc::clone(&self.how);
        how.stop_waiting(self.stream());
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let how = Arc::clone(&self.how);
        how.poll_event(self.stream(), cx)
    }

    #[allow(clippy::expect_used, reason = "see PRESENT")]
    fn control(&self) -> Arc<dyn Control> {
        let inner = self.stream.as_ref().expect(PRESENT).source.control();
        Arc::new(InterceptedControl { inner, how: Arc::clone(&self.how) })
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        let how = Arc::clone(&self.how);
        how.drain(self.stream(), by).await
    }
}

impl Drop for InterceptedDeliveries {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.how.dropped(stream);
        }
    }
}

#[derive(Debug)]
struct InterceptedControl {
    inner: Arc<dyn Control>,
    how: Arc<dyn Intercept>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Control for InterceptedControl {
    fn set_flow(&self, flow: Flow) {
        self.how.set_flow(&self.inner, flow);
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        self.inner.flush(by).await
    }
}

#[derive(Debug)]
pub(super) struct InterceptedSettler {
    pub(super) inner: Arc<dyn Settler>,
    how: Arc<dyn Intercept>,
    capabilities: Arc<Capabilities>,
    pub(super) held: Arc<AtomicUsize>,
}

#[deny(clippy::missing_trait_methods)]
impl Settler for InterceptedSettler {
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome {
        self.held.fetch_sub(1, Ordering::AcqRel);
        self.how.settle(Arc::clone(&self.inner), delivery, how)
    }

    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked> {
        self.held.fetch_sub(tags.len(), Ordering::AcqRel);
        self.inner.ack_many(tags)
    }

    fn extend(&self, tag: u64, by: Duration) -> Outcome {
        self.how.extend(&self.inner, tag, by)
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}
