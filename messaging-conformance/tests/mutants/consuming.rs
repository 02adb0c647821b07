//! Mutants that consume and subscribe wrongly.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::FutureExt;
use messaging_conformance::intercept::{Intercept, Stream};
use messaging_core::spi::{Deliveries, Settler, Unsettled};
use messaging_core::{
    Broker, ConsumeOptions, Consumer, Control, Delivery, Destination, DrainReport, Durability, Event, Flow, Lease,
    Order, Outcome, Part, PublishOptions, Publisher, QueueName, Result, RetryMode, Settlement, Source, Start,
    SubjectFilter, SubscribeOptions, SubscriptionName, TopicName,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mutants;

mutants! {
    hoards_past_its_prefetch, F1_unsettled_within_the_prefetch, |_| consumes(|options| {
        let more = options.prefetch * 10;
        options.with_prefetch(more)
    });
    hoards_while_it_stalls, F3_a_stalled_consumer_does_not_hoard, |_| Arc::new(Hoards);
    gives_the_first_consumer_everything, Q2_every_consumer_gets_work, |_| Arc::new(FirstComeAll::default());
    forgets_late_consumers, Q5_a_late_consumer_gets_a_share, |_| Arc::new(FirstComeAll::default());
    drops_the_backlog, Q3_backlog_waits_for_the_first_consumer, |_| Arc::new(DropsBacklog);
    mixes_queues, Q4_queues_do_not_mix, |_| Arc::new(OneQueue);
    gives_fewer_than_its_prefetch, C4_concurrency_is_exactly_n, |_| consumes(|options| {
        let fewer = options.prefetch.saturating_sub(1).max(1);
        options.with_prefetch(fewer)
    });
    admits_nothing_after_a_settlement, F2_settling_admits_more, |_| Arc::new(AdmitsOnce::default());
    goes_on_while_paused, F4_pause_and_resume, |_| Arc::new(IgnoresFlow(Flow::Paused));
    an_ephemeral_one_goes_on_while_paused, S11_a_paused_ephemeral_subscription_misses_nothing, |_| Arc::new(IgnoresFlow(Flow::Paused));
    goes_on_after_a_stop, L3_stop_and_start_again, |_| Arc::new(IgnoresFlow(Flow::Stopped));
    loses_what_a_cancelled_receive_had, C5_cancelled_receives_lose_nothing, |_| Arc::new(LosesCancelled);
    keeps_what_a_dropped_consumer_held, R1_a_dropped_consumer_hands_over, |_| Arc::new(NeverLetsGo);
    keeps_what_a_gone_consumer_held, C3_churn_of_consumers, |_| Arc::new(NeverLetsGo);
    waits_for_a_full_batch, B4_a_partial_batch_returns_promptly, |_| Arc::new(WaitsForFull);
    lease_ends_early, R2_a_lease_runs_out_not_before, |_| consumes(|options| {
        let half = options.lease.duration / 2;
        options.with_lease(Lease { duration: half, max: half })
    });
    ignores_the_order_of_keys, O2_order_of_a_key_across_consumers, |_| consumes(|options| {
        options.with_order(Order::None).with_retry_mode(RetryMode::Requeue)
    }), NoLayout;
    members_each_get_a_copy, S2_members_share_one_copy, |_| Arc::new(CopyEach(AtomicUsize::new(0)));
    subscriptions_share_one_copy, S1_each_subscription_gets_all, |_| Arc::new(AllShare);
    ephemeral_replays, S3_ephemeral_sees_nothing_from_before, |_| Arc::new(Replays(AtomicUsize::new(0)));
    ephemeral_ones_share_one_copy, S1_each_ephemeral_subscription_gets_all, |_| Arc::new(EphemeralShare);
    durable_forgets_while_away, S4_durable_gets_what_it_missed, |_| Arc::new(Forgets { until_acked: false, seen: Mutex::default(), acked: AtomicBool::new(false) });
    start_moves_with_a_crash, S9_the_start_is_fixed, |_| Arc::new(Forgets { until_acked: true, seen: Mutex::default(), acked: AtomicBool::new(false) });
    replay_begins_now, S5_replay, |_| subscribes(|options| options.with_start(Start::New));
    replay_ignores_the_time, S5_replay, |_| subscribes(|options| {
        let start = if let Start::At(_) = options.start { Start::Earliest } else { options.start };
        options.with_start(start)
    });
    filter_leaks, S7_subject_filters, |_| subscribes(|mut options| {
        options.filter = None;
        options
    });
    filter_takes_a_star_for_many_words, S7_subject_filters, |_| subscribes(|mut options| {
        let wide = |filter: SubjectFilter| SubjectFilter::parse(filter.as_str().replace('*', "#")).unwrap();
        options.filter = options.filter.map(wide);
        options
    });
    ephemeral_filter_leaks, S7_subject_filters_of_ephemeral_subscriptions, |_| subscribes(|mut options| {
        options.filter = None;
        options
    });
    returns_before_it_is_subscribed, S8_ready_when_subscribed, |_| Arc::new(SubscribesLate);
    returns_before_the_ephemeral_is_attached, S8_an_ephemeral_one_is_ready_when_subscribed, |_| Arc::new(SubscribesLate);
    tells_no_gap, S10_a_cut_ephemeral_subscription_sees_a_gap, |_| Arc::new(TellsNoGap);
}

#[derive(Debug)]
struct Consumes(fn(ConsumeOptions) -> ConsumeOptions);

fn consumes(how: fn(ConsumeOptions) -> ConsumeOptions) -> Arc<dyn Intercept> {
    Arc::new(Consumes(how))
}

#[async_trait]
impl Intercept for Consumes {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        inner.consume(queue, (self.0)(options)).await
    }

    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        mut options: SubscribeOptions,
    ) -> Result<Consumer> {
        options.consume = (self.0)(options.consume);
        inner.subscribe(topic, options).await
    }
}

#[derive(Debug)]
struct Subscribes(fn(SubscribeOptions) -> SubscribeOptions);

fn subscribes(how: fn(SubscribeOptions) -> SubscribeOptions) -> Arc<dyn Intercept> {
    Arc::new(Subscribes(how))
}

#[async_trait]
impl Intercept for Subscribes {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        options: SubscribeOptions,
    ) -> Result<Consumer> {
        inner.subscribe(topic, (self.0)(options)).await
    }
}

/// Takes all there is on the first poll, and gives out as much as is asked for.
#[derive(Debug)]
struct Hoards;

#[async_trait]
impl Intercept for Hoards {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        inner.consume(queue, options.with_prefetch(1_000)).await
    }

    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        if from.kept.is_empty() {
            match from.source.poll_next_many(cx, 1_000, &mut from.kept) {
                Poll::Ready(Ok(1..)) => {}
                other => return other,
            }
        }
        let count = max.min(from.kept.len());
        out.extend(from.kept.drain(..count));
        Poll::Ready(Ok(count))
    }
}

/// Only the first consumer of a queue gets anything.
#[derive(Debug, Default)]
struct FirstComeAll(Mutex<Vec<QueueName>>);

#[async_trait]
impl Intercept for FirstComeAll {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        let is_first = {
            let mut known = self.0.lock();
            let is_first = !known.contains(queue);
            known.push(queue.clone());
            is_first
        };
        let consumer = inner.consume(queue, options).await?;
        if !is_first {
            consumer.control().set_flow(Flow::Paused);
        }
        Ok(consumer)
    }
}

#[derive(Debug)]
struct DropsBacklog;

#[async_trait]
impl Intercept for DropsBacklog {
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        inner.repair().purge(&Source::Queue(queue.clone()), Part::Live).await?;
        inner.consume(queue, options).await
    }
}

/// All queues are one.
#[derive(Debug)]
struct OneQueue;

fn the_one() -> QueueName {
    QueueName::parse("the-one").unwrap()
}

#[async_trait]
impl Intercept for OneQueue {
    async fn publisher(
        &self,
        inner: &Arc<dyn Broker>,
        _to: &Destination,
        options: PublishOptions,
    ) -> Result<Arc<dyn Publisher>> {
        inner.publisher(&Destination::Queue(the_one()), options).await
    }

    async fn consume(&self, inner: &Arc<dyn Broker>, _queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        inner.consume(&the_one(), options).await
    }
}

/// A consumer that holds as much as it may never gets more, whatever it settles.
#[derive(Debug, Default)]
struct AdmitsOnce(Mutex<HashMap<usize, usize>>);

impl Intercept for AdmitsOnce {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let mut given = self.0.lock();
        let given = given.entry(Arc::as_ptr(&from.held).addr()).or_default();
        if *given >= 4 {
            return Poll::Pending;
        }
        let polled = from.source.poll_next_many(cx, max.min(4 - *given), out);
        if let Poll::Ready(Ok(count)) = &polled {
            *given += count;
        }
        polled
    }
}

#[derive(Debug)]
struct IgnoresFlow(Flow);

impl Intercept for IgnoresFlow {
    fn set_flow(&self, control: &Arc<dyn Control>, flow: Flow) {
        if flow != self.0 {
            control.set_flow(flow);
        }
    }
}

/// Keeps deliveries from one poll to the next, and forgets them when the receive between is cancelled.
#[derive(Debug)]
struct LosesCancelled;

impl Intercept for LosesCancelled {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        if let Some(kept) = from.kept.pop() {
            out.push(kept);
            return Poll::Ready(Ok(1));
        }
        match from.source.poll_next_many(cx, max.min(1), &mut from.kept) {
            Poll::Ready(Ok(1..)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }

    fn stop_waiting(&self, from: &mut Stream) {
        std::mem::take(&mut from.kept).into_iter().for_each(std::mem::forget);
        from.source.stop_waiting();
    }
}

/// A consumer that is dropped stays registered with all it holds.
#[derive(Debug)]
struct NeverLetsGo;

impl Intercept for NeverLetsGo {
    fn dropped(&self, from: Stream) {
        std::mem::forget(from);
    }
}

/// Receiving many waits until there are as many as were asked for.
#[derive(Debug)]
struct WaitsForFull;

impl Intercept for WaitsForFull {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        loop {
            match from.source.poll_next_many(cx, max - from.kept.len(), &mut from.kept) {
                Poll::Ready(Ok(1..)) if from.kept.len() < max => {}
                Poll::Ready(Ok(1..)) => {
                    out.append(&mut from.kept);
                    return Poll::Ready(Ok(max));
                }
                other => return other,
            }
        }
    }
}

fn name(text: impl AsRef<str>) -> SubscriptionName {
    SubscriptionName::parse(text).unwrap()
}

#[derive(Debug)]
struct CopyEach(AtomicUsize);

#[async_trait]
impl Intercept for CopyEach {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        mut options: SubscribeOptions,
    ) -> Result<Consumer> {
        let own = name(format!("own-{}", self.0.fetch_add(1, Ordering::Relaxed)));
        options.durability = Durability::Durable(own);
        inner.subscribe(topic, options).await
    }
}

#[derive(Debug)]
struct AllShare;

#[async_trait]
impl Intercept for AllShare {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        mut options: SubscribeOptions,
    ) -> Result<Consumer> {
        options.durability = Durability::Durable(name("all"));
        inner.subscribe(topic, options).await
    }
}

/// An ephemeral subscription is a durable one from the earliest.
#[derive(Debug)]
struct Replays(AtomicUsize);

#[async_trait]
impl Intercept for Replays {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        mut options: SubscribeOptions,
    ) -> Result<Consumer> {
        if options.durability == Durability::Ephemeral {
            options.durability = Durability::Durable(name(format!("e-{}", self.0.fetch_add(1, Ordering::Relaxed))));
            options.start = Start::Earliest;
        }
        inner.subscribe(topic, options).await
    }
}

#[derive(Debug)]
struct EphemeralShare;

#[async_trait]
impl Intercept for EphemeralShare {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        mut options: SubscribeOptions,
    ) -> Result<Consumer> {
        if options.durability == Durability::Ephemeral {
            options.durability = Durability::Durable(name("ephemeral"));
        }
        inner.subscribe(topic, options).await
    }
}

/// A durable subscription is made anew each time; or only as long as nothing was acknowledged.
#[derive(Debug)]
struct Forgets {
    until_acked: bool,
    seen: Mutex<Vec<SubscriptionName>>,
    acked: AtomicBool,
}

#[async_trait]
impl Intercept for Forgets {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        options: SubscribeOptions,
    ) -> Result<Consumer> {
        if let Durability::Durable(name) = &options.durability {
            let was_seen = {
                let mut seen = self.seen.lock();
                let was_seen = seen.contains(name);
                seen.push(name.clone());
                was_seen
            };
            if was_seen && !(self.until_acked && self.acked.load(Ordering::Acquire)) {
                inner.repair().unsubscribe(topic, name).await?;
            }
        }
        inner.subscribe(topic, options).await
    }

    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        self.acked.store(true, Ordering::Release);
        by.settle(delivery, how)
    }
}

/// Subscribes when the consumer is polled for the first time.
#[derive(Debug)]
struct SubscribesLate;

#[async_trait]
impl Intercept for SubscribesLate {
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        options: SubscribeOptions,
    ) -> Result<Consumer> {
        let capabilities = Arc::new(inner.capabilities(messaging_core::Place::Subscribe(topic, &options)));
        let scope = inner.identity().scope(topic);
        let late = Late { broker: Arc::clone(inner), topic: topic.clone(), options, source: None };
        Ok(Consumer::new(Box::new(late), capabilities, scope))
    }
}

#[derive(Debug)]
struct Late {
    broker: Arc<dyn Broker>,
    topic: TopicName,
    options: SubscribeOptions,
    source: Option<Box<dyn Deliveries>>,
}

impl Late {
    fn source(&mut self) -> &mut Box<dyn Deliveries> {
        let (broker, topic, options) = (&self.broker, &self.topic, &self.options);
        self.source.get_or_insert_with(|| {
            // The memory broker answers at once.
            broker.subscribe(topic, options.clone()).now_or_never().unwrap().unwrap().into_source()
        })
    }
}

#[async_trait]
impl Deliveries for Late {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        self.source().poll_next_many(cx, max, out)
    }

    fn stop_waiting(&mut self) {
        self.source().stop_waiting();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.source().poll_event(cx)
    }

    fn control(&self) -> Arc<dyn Control> {
        Arc::new(Nobody)
    }

    async fn drain(&mut self, _by: Instant) -> DrainReport {
        DrainReport::default()
    }
}

/// Steers nothing.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Control for Nobody {
    fn set_flow(&self, _flow: Flow) {}

    async fn flush(&self, _by: Instant) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct TellsNoGap;

impl Intercept for TellsNoGap {
    fn poll_event(&self, from: &mut Stream, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match from.source.poll_event(cx) {
                Poll::Ready(Event::Gap { .. }) => {}
                other => return other,
            }
        }
    }
}
