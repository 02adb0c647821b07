//! A broker that passes everything on, with places to step in.
//!
//! The mutants that prove the suite are built on it, and so is the perturbation of schedules. It shows nothing of itself to
//! a case: deliveries keep their tags, settlements take effect at the call, a transaction gets the deliveries it knows.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::{
    Acked, Admin, Broker, BrokerName, Browsed, Capabilities, ConsumeOptions, Consumer, Control, DeadLetter,
    Declaration, Deliveries, Delivery, Depth, Destination, DrainReport, Event, Flow, Health, InFlight, Message,
    Outcome, Part, Plan, PublishOptions, Publisher, QueueConsumer, QueueName, Receipt, Redrive, Requester, Result,
    Room, Scope, Settlement, Settler, Source, SourcePosition, SubscribeOptions, Subscriber, SubscriptionName,
    TopicName, Transaction, Unsettled, Usage,
};
use tokio::time::Instant;

/// What a consumer has behind it.
#[derive(Debug)]
pub struct Stream {
    /// The adapter's deliveries.
    pub source: Box<dyn Deliveries>,
    /// Deliveries that whoever steps in keeps back.
    pub kept: Vec<Delivery>,
    /// How many deliveries were handed out and not settled.
    pub held: Arc<AtomicUsize>,
}

/// Places to step in. Each passes on unless it is overridden.
#[async_trait]
#[allow(missing_docs, reason = "each is the method of the same name of the contract's traits")]
pub trait Intercept: Send + Sync + fmt::Debug + 'static {
    fn capabilities(&self, truth: Capabilities, to: &Destination, usage: Usage<'_>) -> Capabilities {
        let _ = (to, usage);
        truth
    }
    async fn publisher(
        &self,
        inner: &Arc<dyn Broker>,
        to: &Destination,
        options: PublishOptions,
    ) -> Result<Arc<dyn Publisher>> {
        inner.publisher(to, options).await
    }
    async fn consume(&self, inner: &Arc<dyn Broker>, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        inner.consume(queue, options).await
    }
    async fn subscribe(
        &self,
        inner: &Arc<dyn Broker>,
        topic: &TopicName,
        options: SubscribeOptions,
    ) -> Result<Consumer> {
        inner.subscribe(topic, options).await
    }
    async fn requester(&self, inner: &Arc<dyn Broker>) -> Result<Arc<dyn Requester>> {
        inner.requester().await
    }
    async fn begin(&self, inner: &Arc<dyn Broker>) -> Result<Box<dyn Transaction>> {
        inner.begin().await
    }
    fn health(&self, inner: &Arc<dyn Broker>) -> Health {
        inner.health()
    }
    async fn close(&self, inner: &Arc<dyn Broker>, by: Instant) -> DrainReport {
        inner.close(by).await
    }
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, room: Room) -> Outcome<Receipt> {
        to.send(message, room)
    }
    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, room: Room) -> Vec<Outcome<Receipt>> {
        to.send_many(messages, room)
    }
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        from.source.poll_next_many(cx, max, out)
    }
    fn stop_waiting(&self, from: &mut Stream) {
        from.source.stop_waiting();
    }
    fn poll_event(&self, from: &mut Stream, cx: &mut Context<'_>) -> Poll<Event> {
        from.source.poll_event(cx)
    }
    fn dropped(&self, from: Stream) {
        drop(from);
    }
    fn received(&self, delivery: Unsettled) -> Unsettled {
        delivery
    }
    fn settle(&self, by: Arc<dyn Settler>, delivery: Unsettled, how: Settlement) -> Outcome {
        by.settle(delivery, how)
    }
    fn extend(&self, by: &Arc<dyn Settler>, tag: u64, time: Duration) -> Outcome {
        by.extend(tag, time)
    }
    fn set_flow(&self, control: &Arc<dyn Control>, flow: Flow) {
        control.set_flow(flow);
    }
    async fn drain(&self, from: &mut Stream, by: Instant) -> DrainReport {
        from.source.drain(by).await
    }
    async fn depth(&self, admin: &dyn Admin, source: &Source) -> Result<Depth> {
        admin.depth(source).await
    }
    async fn positions(&self, admin: &dyn Admin, source: &Source) -> Result<Vec<SourcePosition>> {
        admin.positions(source).await
    }
    async fn browse(&self, admin: &dyn Admin, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        admin.browse(source, max).await
    }
    async fn dead_letters(&self, admin: &dyn Admin, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        admin.dead_letters(source, max).await
    }
    async fn redrive(&self, inner: &Arc<dyn Broker>, source: &Source, which: Redrive) -> Result<u64> {
        inner.admin().redrive(source, which).await
    }
    async fn unsubscribe(&self, admin: &dyn Admin, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        admin.unsubscribe(topic, name).await
    }
}

/// Puts places to step in around a broker.
#[must_use]
pub fn around(inner: Arc<dyn Broker>, how: Arc<dyn Intercept>) -> Arc<dyn Broker> {
    Arc::new(Intercepted { admin: InterceptedAdmin(Arc::clone(&inner), Arc::clone(&how)), inner, how })
}

struct Intercepted {
    inner: Arc<dyn Broker>,
    how: Arc<dyn Intercept>,
    admin: InterceptedAdmin,
}

impl Intercepted {
    fn wrap(&self, consumer: Consumer) -> Consumer {
        let (capabilities, scope) = (Arc::clone(consumer.capabilities()), consumer.scope().clone());
        let stream = Stream { source: consumer.into_source(), kept: Vec::new(), held: Arc::default() };
        let source = InterceptedDeliveries {
            stream: Some(stream),
            how: Arc::clone(&self.how),
            capabilities: Arc::clone(&capabilities),
            settlers: None,
        };
        Consumer::new(Box::new(source), capabilities, scope)
    }

    fn told(&self, consumer: Consumer, capabilities: Capabilities) -> Consumer {
        let scope = consumer.scope().clone();
        Consumer::new(consumer.into_source(), Arc::new(capabilities), scope)
    }
}

impl fmt::Debug for Intercepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intercepted").field("inner", &self.inner).field("how", &self.how).finish_non_exhaustive()
    }
}

#[async_trait]
impl QueueConsumer for Intercepted {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        let told = self.capabilities(&Destination::Queue(queue.clone()), Usage::Consume(&options));
        let consumer = self.how.consume(&self.inner, queue, options).await?;
        Ok(self.wrap(self.told(consumer, told)))
    }
}

#[async_trait]
impl Subscriber for Intercepted {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        let told = self.capabilities(&Destination::Topic(topic.clone()), Usage::Subscribe(&options));
        let consumer = self.how.subscribe(&self.inner, topic, options).await?;
        Ok(self.wrap(self.told(consumer, told)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Broker for Intercepted {
    fn name(&self) -> &BrokerName {
        self.inner.name()
    }

    fn driver(&self) -> &'static str {
        self.inner.driver()
    }

    fn capabilities(&self, to: &Destination, usage: Usage<'_>) -> Capabilities {
        self.how.capabilities(self.inner.capabilities(to, usage), to, usage)
    }

    async fn publisher(&self, to: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        let inner = self.how.publisher(&self.inner, to, options).await?;
        Ok(Arc::new(InterceptedPublisher { inner, how: Arc::clone(&self.how) }))
    }

    async fn requester(&self) -> Result<Arc<dyn Requester>> {
        self.how.requester(&self.inner).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(InterceptedTransaction(self.how.begin(&self.inner).await?)))
    }

    fn admin(&self) -> &dyn Admin {
        &self.admin
    }

    fn health(&self) -> Health {
        self.how.health(&self.inner)
    }

    async fn close(&self, by: Instant) -> DrainReport {
        self.how.close(&self.inner, by).await
    }
}

#[derive(Debug)]
struct InterceptedPublisher {
    inner: Arc<dyn Publisher>,
    how: Arc<dyn Intercept>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Publisher for InterceptedPublisher {
    fn scope(&self) -> &Scope {
        self.inner.scope()
    }

    fn in_flight(&self) -> &InFlight {
        self.inner.in_flight()
    }

    fn send(&self, message: Message, room: Room) -> Outcome<Receipt> {
        self.how.send(&self.inner, message, room)
    }

    fn send_many(&self, messages: Vec<Message>, room: Room) -> Vec<Outcome<Receipt>> {
        self.how.send_many(&self.inner, messages, room)
    }

    fn send_now(&self, message: Message) -> std::result::Result<Result<Receipt>, Message> {
        // The short cut would pass by the places to step in.
        Err(message)
    }

    fn send_many_now(&self, _messages: &mut std::vec::IntoIter<Message>, _receipts: &mut Vec<Result<Receipt>>) {}

    async fn flush(&self, by: Instant) -> Result<()> {
        self.inner.flush(by).await
    }
}

#[derive(Debug)]
struct InterceptedDeliveries {
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
struct InterceptedSettler {
    inner: Arc<dyn Settler>,
    how: Arc<dyn Intercept>,
    capabilities: Arc<Capabilities>,
    held: Arc<AtomicUsize>,
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

/// A transaction of the inner broker, which gets its own deliveries back.
#[derive(Debug)]
struct InterceptedTransaction(Box<dyn Transaction>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Transaction for InterceptedTransaction {
    fn send(&mut self, to: &Destination, message: Message) -> Result<()> {
        self.0.send(to, message)
    }

    fn ack(&mut self, delivery: Delivery) {
        let (unsettled, settler) = delivery.into_parts();
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(&settler) as _;
        match any.downcast::<InterceptedSettler>() {
            Ok(own) => {
                own.held.fetch_sub(1, Ordering::AcqRel);
                self.0.ack(Delivery::new(unsettled, Arc::clone(&own.inner)));
            }
            Err(_) => self.0.ack(Delivery::new(unsettled, settler)),
        }
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit().await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.0.rollback().await
    }
}

struct InterceptedAdmin(Arc<dyn Broker>, Arc<dyn Intercept>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Admin for InterceptedAdmin {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.0.admin().plan(declarations).await
    }

    async fn apply(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.0.admin().apply(declarations).await
    }

    async fn depth(&self, source: &Source) -> Result<Depth> {
        self.1.depth(self.0.admin(), source).await
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        self.0.admin().lag(source).await
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        self.1.positions(self.0.admin(), source).await
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.1.browse(self.0.admin(), source, max).await
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        self.1.dead_letters(self.0.admin(), source, max).await
    }

    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        self.1.redrive(&self.0, source, which).await
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        self.0.admin().purge(source, part).await
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        self.1.unsubscribe(self.0.admin(), topic, name).await
    }
}
