//! Mutants that live, die and recover wrongly.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use messaging_conformance::intercept::{Intercept, Stream};
use messaging_core::spi::{Permit, Settler, Unsettled};
use messaging_core::{
    Broker, ConsumeOptions, Consumer, DeadLetterReason, Delivery, Destination, DrainReport, Error, ErrorKind, Health,
    Message, Outcome, PublishOptions, Publisher, QueueName, Receipt, Result, Settlement,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mutants;
use crate::stage::{Faithful, Shared};

mutants! {
    close_leaves_a_receive_waiting, L4_close_wakes_a_blocked_receive, |_| Arc::new(NeverEnds);
    close_loses_buffered_settlements, L5_close_flushes, |_| Arc::new(BuffersAcks::default());
    close_does_nothing, L6_handles_after_close, |_| Arc::new(StaysOpen);
    drain_waits_for_nobody, L1_drain_waits_for_the_started, |_| Arc::new(DrainsAtOnce);
    drain_dead_letters_what_it_interrupts, L2_drain_ends_by_its_deadline, |_| Arc::new(DrainBuries::default());
    leaves_a_task_behind, L7_dropping_everything_leaks_no_task, |_| Arc::new(LeaksATask);
    is_always_healthy, I3_health_tells_the_truth, |_| Arc::new(AlwaysUp);
    registers_two_consumers_after_a_cut, X2_connection_killed, |shared| Arc::new(Registers(Arc::clone(shared))), TwoAfterACut;
    forgets_what_is_on_its_disk, X1_server_restarted, |_| Arc::new(Faithful), ForgetfulServer;
    forgets_the_unsettled_in_a_restart, A1_ack_is_final_across_a_restart, |_| Arc::new(Faithful), ForgetfulServer;
    loses_messages_around_a_cut, X2_cut_again_and_again, |_| Arc::new(LosesRedelivered);
    loses_messages_in_a_black_hole, X3_black_hole, |_| Arc::new(SaysOkToSilence);
    loses_what_a_cut_consumer_held, R1_a_cut_consumer_hands_over, |_| Arc::new(LosesRedelivered);
}

#[derive(Debug)]
struct NeverEnds;

impl Intercept for NeverEnds {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        match from.source.poll_next_many(cx, max, out) {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Closed => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Pending,
            other => other,
        }
    }
}

/// Acknowledgements wait until there are sixty-four; nobody flushes the rest.
#[derive(Debug, Default)]
struct BuffersAcks(Mutex<Vec<(Arc<dyn Settler>, Unsettled)>>);

impl Intercept for BuffersAcks {
    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        if how != Settlement::Ack {
            return by.settle(delivery, how);
        }
        let mut buffered = self.0.lock();
        buffered.push((by, delivery));
        if buffered.len() >= 64 {
            for (by, delivery) in buffered.drain(..) {
                drop(by.settle(delivery, Settlement::Ack));
            }
        }
        Outcome::ready(Ok(()))
    }
}

#[derive(Debug)]
struct StaysOpen;

#[async_trait]
impl Intercept for StaysOpen {
    async fn close(&self, _inner: &Arc<dyn Broker>, _by: Instant) -> DrainReport {
        DrainReport::default()
    }
}

#[derive(Debug)]
struct DrainsAtOnce;

#[async_trait]
impl Intercept for DrainsAtOnce {
    async fn drain(&self, from: &mut Stream, _by: Instant) -> DrainReport {
        from.source.drain(Instant::now()).await
    }
}

/// At the deadline of a drain, what is still held goes to the dead letter.
#[derive(Debug, Default)]
struct DrainBuries(Mutex<Vec<(Arc<dyn Settler>, Unsettled)>>);

#[async_trait]
impl Intercept for DrainBuries {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let mut fresh = Vec::new();
        let polled = from.source.poll_next_many(cx, max, &mut fresh);
        for delivery in fresh {
            let (unsettled, settler) = delivery.into_parts();
            self.0.lock().push((Arc::clone(&settler), unsettled.clone()));
            out.push(Delivery::new(unsettled, settler));
        }
        polled
    }

    async fn drain(&self, from: &mut Stream, by: Instant) -> DrainReport {
        tokio::time::sleep_until(by).await;
        let mut abandoned = 0;
        let held = std::mem::take(&mut *self.0.lock());
        for (settler, unsettled) in held {
            let reason = Settlement::DeadLetter(Box::new(DeadLetterReason::new("interrupted")));
            abandoned += u64::from(settler.settle(unsettled, reason).await.is_ok());
        }
        DrainReport { abandoned, ..from.source.drain(by).await }
    }
}

#[derive(Debug)]
struct LeaksATask;

#[async_trait]
impl Intercept for LeaksATask {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        drop(tokio::spawn(std::future::pending::<()>()));
        inner.consume(queue, options).await
    }
}

#[derive(Debug)]
struct AlwaysUp;

impl Intercept for AlwaysUp {
    fn health(&self, _inner: &Arc<dyn Broker>) -> Health {
        Health::up()
    }
}

#[derive(Debug)]
struct Registers(Arc<Shared>);

#[async_trait]
impl Intercept for Registers {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        self.0.opened.lock().push((Arc::clone(inner), queue.clone()));
        inner.consume(queue, options).await
    }
}

/// What comes a second time is lost: it is acknowledged behind everyone's back.
#[derive(Debug)]
struct LosesRedelivered;

impl Intercept for LosesRedelivered {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        loop {
            let mut fresh = Vec::new();
            let polled = from.source.poll_next_many(cx, max, &mut fresh);
            let count = fresh.len();
            for delivery in fresh {
                if delivery.attempt() > 1 { drop(delivery.ack()) } else { out.push(delivery) }
            }
            match polled {
                Poll::Ready(Ok(taken)) if taken > 0 && out.is_empty() => continue,
                Poll::Ready(Ok(taken)) => return Poll::Ready(Ok(taken.min(count).min(out.len()))),
                other => return other,
            }
        }
    }
}

/// No answer for a while is taken for a good one.
#[derive(Debug)]
struct SaysOkToSilence;

#[async_trait]
impl Intercept for SaysOkToSilence {
    async fn publisher(
        &self,
        inner: &Arc<dyn Broker>,
        to: &Destination,
        options: PublishOptions,
    ) -> Result<Arc<dyn Publisher>> {
        inner.publisher(to, options.with_timeout(Duration::from_millis(50))).await
    }

    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        match to.send(message, permit).try_take() {
            Ok(result) => Outcome::ready(result.or_else(|error: Error| {
                if error.kind() == ErrorKind::Timeout { Ok(Receipt::default()) } else { Err(error) }
            })),
            // Nobody answered at once.
            Err(_) => Outcome::ready(Ok(Receipt::default())),
        }
    }
}
