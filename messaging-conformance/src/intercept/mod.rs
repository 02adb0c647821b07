//! A broker that passes everything on, with places to step in.
//!
//! The mutants that prove the suite are built on it, and so is the perturbation of schedules. It shows nothing of itself to
//! a case: deliveries keep their tags, settlements take effect at the call, a transaction gets the deliveries it knows.

mod admin;
mod broker;
mod consumer;
mod publisher;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::spi::{Deliveries, Inbox, Permit, Replies, Settler, Unsettled};
use messaging_core::{
    Broker, Browsed, Capabilities, ConsumeOptions, Consumer, Control, DeadLetter, Declaration, Delivery, Depth,
    Destination, DrainReport, Event, Flow, Health, Inspect, Message, Outcome, Part, Place, Plan, PublishOptions,
    Publisher, QueueName, Receipt, Redrive, Repair, Result, Settlement, Source, SourcePosition, SubscribeOptions,
    SubscriptionName, TopicName, Topology, Transaction,
};
use tokio::time::Instant;

pub use self::broker::around;

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
    fn capabilities(&self, truth: Capabilities, of: Place<'_>) -> Capabilities {
        let _ = of;
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
    async fn replies(&self, inner: &Arc<dyn Broker>, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        inner.replies(inbox).await
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
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        to.send(message, permit)
    }
    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        to.send_many(messages, permit)
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
    async fn plan(&self, topology: &dyn Topology, declarations: &[Declaration]) -> Result<Plan> {
        topology.plan(declarations).await
    }
    async fn create(&self, topology: &dyn Topology, declarations: &[Declaration]) -> Result<()> {
        topology.create(declarations).await
    }
    async fn depth(&self, inspect: &dyn Inspect, source: &Source) -> Result<Depth> {
        inspect.depth(source).await
    }
    async fn lag(&self, inspect: &dyn Inspect, source: &Source) -> Result<u64> {
        inspect.lag(source).await
    }
    async fn positions(&self, inspect: &dyn Inspect, source: &Source) -> Result<Vec<SourcePosition>> {
        inspect.positions(source).await
    }
    async fn browse(&self, inspect: &dyn Inspect, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        inspect.browse(source, max).await
    }
    async fn dead_letters(&self, inspect: &dyn Inspect, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        inspect.dead_letters(source, max).await
    }
    async fn redrive(&self, inner: &Arc<dyn Broker>, source: &Source, which: Redrive) -> Result<u64> {
        inner.repair().redrive(source, which).await
    }
    async fn purge(&self, repair: &dyn Repair, source: &Source, part: Part) -> Result<Option<u64>> {
        repair.purge(source, part).await
    }
    async fn unsubscribe(&self, repair: &dyn Repair, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        repair.unsubscribe(topic, name).await
    }
}
