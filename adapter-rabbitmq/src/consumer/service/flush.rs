//! Settlements made as durable as the broker allows.

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use messaging_core::Result;
use tokio::time::{Instant, timeout_at};

use super::Service;
use crate::connection::Line;
use crate::consumer::Consumed;
use crate::consumer::attach::qos;
use crate::consumer::worker::Worker;
use crate::error::{Call, from_lapin, silent};

impl Service {
    /// Makes all settlements so far as durable as the broker allows: copies are confirmed, and the queues' state in the channel
    /// is flushed. A quorum queue's acknowledgements are not when the channel merely answers: of 15,000 up to 952 came back after
    /// a clean close (RabbitMQ 4.0.5); registering and cancelling a consumer flushes them.
    pub(super) async fn flush(&mut self, worker: &mut Worker, by: Instant) -> Result<()> {
        let limit = by.saturating_duration_since(Instant::now());
        let line = self.channel.clone();
        match timeout_at(by, line.unless_lost(self.flush_all(worker))).await {
            Ok(result) => result?,
            Err(_) => Err(silent("the settlements", limit)),
        }
    }

    async fn flush_all(&mut self, worker: &mut Worker) -> Result<()> {
        while let Ok(command) = self.commands.try_recv() {
            self.inbox.push(command);
        }
        self.obey(worker);
        // At once: copies may wait for a connection that takes no messages.
        self.write(worker).await?;
        while let Some(done) = self.copies.next().await {
            self.copied(worker, done);
        }
        self.write(worker).await?;
        if worker.unflushed == 0 || matches!(worker.plan.what, Consumed::Ephemeral { .. }) && self.is_stopping {
            worker.unflushed = 0;
            return Ok(());
        }
        qos(&self.channel, 1).await?;
        self.end_probe(worker).await?;
        for queue in self.attached.queues.clone().iter() {
            self.probe = Some(Box::pin(register_and_cancel(self.channel.clone(), queue.clone())));
            self.end_probe(worker).await?;
        }
        worker.unflushed = 0;
        Ok(())
    }

    /// Waits for the consumer that a flush registered to be gone. A flush that runs out of time leaves it to the next, or to
    /// whoever serves the channel: what it got would otherwise be held and known to nobody.
    async fn end_probe(&mut self, worker: &Worker) -> Result<()> {
        let Some(probe) = &mut self.probe else { return Ok(()) };
        let probed = probe.await;
        self.probed(worker, probed)
    }

    /// Takes in what came to such a consumer: ordinary deliveries all the same.
    pub(super) fn probed(&mut self, worker: &Worker, probed: Result<Vec<Delivery>>) -> Result<()> {
        self.probe = None;
        for delivery in probed? {
            if self.is_stopping || self.is_paused {
                self.came(delivery.delivery_tag);
                self.returns.push(delivery.delivery_tag);
            } else {
                self.take_one(delivery, worker);
            }
        }
        self.hand_over(worker);
        Ok(())
    }
}

/// Returns what the consumer got before it was cancelled.
async fn register_and_cancel(channel: Line, queue: ShortString) -> Result<Vec<Delivery>> {
    let failed = |error: lapin::Error| from_lapin(&error, Call::Consume);
    let mut arguments = FieldTable::default();
    // Below every other consumer, so that it gets nothing while any of them has room.
    arguments.insert("x-priority".into(), AMQPValue::LongInt(-100));
    let consume = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(queue, ShortString::default(), consume, arguments).await.map_err(failed)?;
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.map_err(failed)?;
    let mut came = Vec::new();
    while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
        came.push(delivery);
    }
    Ok(came)
}
