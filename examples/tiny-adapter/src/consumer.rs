//! Consuming: what one consumer holds, and how it settles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use messaging_core::spi::*;
use messaging_core::*;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{Queue, closed};

#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) id: u64,
    pub(crate) queue: Arc<Queue>,
    pub(crate) prefetch: usize,
    pub(crate) flow: Mutex<Flow>,
    pub(crate) settled: AtomicU64,
    pub(crate) closed: Arc<AtomicBool>,
    pub(crate) capabilities: Arc<Capabilities>,
}

impl Holder {
    fn held(&self) -> usize {
        self.queue.0.lock().out.values().filter(|out| out.2 == self.id).count()
    }

    /// Waits until all is settled, or takes back what is not by the deadline.
    pub(crate) async fn drain(&self, by: Instant) -> DrainReport {
        self.set_flow(Flow::Stopped);
        let before = self.settled.load(Ordering::Acquire);
        let idle = std::future::poll_fn(|cx| {
            self.queue.0.lock().wakers.push(cx.waker().clone());
            if self.held() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout_at(by, idle).await;
        let abandoned = self.queue.take_back(self.id);
        DrainReport { settled: self.settled.load(Ordering::Acquire) - before, abandoned, ..DrainReport::default() }
    }
}

#[async_trait]
impl Control for Holder {
    fn set_flow(&self, flow: Flow) {
        let mut current = self.flow.lock();
        *current = if *current == Flow::Stopped { Flow::Stopped } else { flow };
        drop(current);
        self.queue.change(|_| ());
    }

    async fn flush(&self, _by: Instant) -> Result<()> {
        Ok(())
    }
}

impl Settler for Holder {
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome {
        let settled = self.queue.change(|state| {
            let (message, attempts, _) = state.out.remove(&delivery.tag)?;
            if how != Settlement::Ack {
                state.ready.push_back((message, attempts));
            }
            self.settled.fetch_add(1, Ordering::AcqRel);
            Some(())
        });
        Outcome::ready(settled.ok_or_else(|| Error::new(ErrorKind::StaleDelivery, "the delivery has moved on")))
    }

    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked> {
        let acked = self.queue.change(|state| tags.iter().filter(|tag| state.out.remove(tag).is_some()).count() as u64);
        Outcome::ready(Ok(Acked { acked, stale: tags.len() as u64 - acked }))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

#[derive(Debug)]
pub(crate) struct TinyDeliveries(pub(crate) Arc<Holder>);

#[async_trait]
impl Deliveries for TinyDeliveries {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        let holder = &self.0;
        let flow = *holder.flow.lock();
        if holder.closed.load(Ordering::Acquire) {
            return Poll::Ready(Err(closed()));
        }
        let room = match flow {
            Flow::Stopped => return Poll::Ready(Ok(0)),
            Flow::Paused => 0,
            Flow::Running => max.min(holder.prefetch - holder.held()),
        };
        let mut state = holder.queue.0.lock();
        let count = room.min(state.ready.len());
        if count == 0 {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        for _ in 0..count {
            let Some((message, attempts)) = state.ready.pop_front() else { break };
            let (tag, attempt) = (state.tags, attempts + 1);
            state.tags += 1;
            state.out.insert(tag, (message.clone(), attempt, holder.id));
            let unsettled = Unsettled { message, tag, attempt, redriven: 0, position: None };
            out.push(Delivery::new(unsettled, holder.clone()));
        }
        Poll::Ready(Ok(count))
    }

    fn control(&self) -> Arc<dyn Control> {
        self.0.clone()
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        self.0.drain(by).await
    }
}

impl Drop for TinyDeliveries {
    fn drop(&mut self) {
        self.0.queue.take_back(self.0.id);
    }
}
