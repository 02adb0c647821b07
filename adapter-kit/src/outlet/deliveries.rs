//! The application's side: [`Deliveries`] and [`Control`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use async_trait::async_trait;
use messaging_core::spi::Deliveries;
use messaging_core::{Control, Delivery, DrainReport, Event, Flow, Result};
use tokio::time::Instant;

use super::{Held, Outlet};

/// The application's side of an outlet.
pub(super) struct OutletDeliveries<H: Held> {
    outlet: Outlet<H>,
    /// Room for items between the moment in which they are taken and that in which they become deliveries; empty between two polls.
    taken: Vec<H>,
}

impl<H: Held> OutletDeliveries<H> {
    pub(super) fn new(outlet: Outlet<H>) -> Self {
        Self { outlet, taken: Vec::new() }
    }
}

#[async_trait]
impl<H: Held> Deliveries for OutletDeliveries<H> {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        self.outlet.0.poll_next(cx, max, &mut self.taken, out)
    }

    fn stop_waiting(&mut self) {
        self.outlet.0.stop_waiting();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.outlet.0.poll_event(cx)
    }

    fn control(&self) -> Arc<dyn Control> {
        Arc::new(self.outlet.clone())
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        self.outlet.drain(by).await
    }
}

impl<H: Held> Drop for OutletDeliveries<H> {
    fn drop(&mut self) {
        let inner = &self.outlet.0;
        inner.is_dropped.store(true, Ordering::SeqCst);
        self.outlet.set_flow(Flow::Stopped);
        // Others get what is out, though handlers still have it.
        inner.feeder.disown();
        inner.feeder.wake();
    }
}

impl<H: Held> fmt::Debug for OutletDeliveries<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.outlet, f)
    }
}

#[async_trait]
impl<H: Held> Control for Outlet<H> {
    fn set_flow(&self, flow: Flow) {
        Self::set_flow(self, flow);
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        self.0.feeder.flush(by).await
    }
}
