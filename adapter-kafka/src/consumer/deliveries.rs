//! The handle behind an application's consumer.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use messaging_core::spi::Deliveries;
use messaging_core::{Control, Delivery, DrainReport, Event, Result};
use tokio::time::Instant;

use super::Shared;

/// The outlet's deliveries. They keep the consumer in its broker's health for as long as the application has them, also after its
/// thread has ended.
pub(super) struct KafkaDeliveries {
    outlet: Box<dyn Deliveries>,
    shared: Arc<Shared>,
}

impl KafkaDeliveries {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { outlet: shared.outlet.deliveries(), shared }
    }
}

#[async_trait]
impl Deliveries for KafkaDeliveries {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        self.outlet.poll_next_many(cx, max, out)
    }

    fn stop_waiting(&mut self) {
        self.outlet.stop_waiting();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.outlet.poll_event(cx)
    }

    fn control(&self) -> Arc<dyn Control> {
        self.outlet.control()
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        self.outlet.drain(by).await
    }
}

impl fmt::Debug for KafkaDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared, f)
    }
}
