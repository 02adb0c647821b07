//! What the tests share: names, openers and waits that fail loudly.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adapter_memory::MemoryServer;
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Delivery, Depth, Destination, PublishOptions,
    Publisher, QueueName, Source, SubscribeOptions, SubscriptionName, TopicName,
};

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn queue() -> QueueName {
    QueueName::parse("orders").unwrap()
}

pub(crate) fn topic() -> TopicName {
    TopicName::parse("news").unwrap()
}

pub(crate) fn name(text: &str) -> SubscriptionName {
    SubscriptionName::parse(text).unwrap()
}

pub(crate) fn durable(text: &str) -> SubscribeOptions {
    SubscribeOptions::durable(name(text))
}

pub(crate) fn of_queue() -> Source {
    Source::Queue(queue())
}

pub(crate) fn of_subscription(text: &str) -> Source {
    Source::Subscription(topic(), name(text))
}

/// Options with the parameters of a memory URL, such as `capacity=2`.
pub(crate) fn options(parameters: &str) -> ConnectOptions {
    ConnectOptions::new(BrokerUrl::parse(&format!("memory://?{parameters}")).unwrap())
}

/// A server of its own and a broker on it.
pub(crate) fn open(parameters: &str) -> (MemoryServer, Arc<dyn Broker>) {
    let server = MemoryServer::private();
    let broker = server.open(options(parameters)).unwrap();
    (server, broker)
}

pub(crate) async fn to_queue(broker: &Arc<dyn Broker>) -> Arc<dyn Publisher> {
    broker.publisher(&Destination::Queue(queue()), PublishOptions::default()).await.unwrap()
}

pub(crate) async fn to_topic(broker: &Arc<dyn Broker>) -> Arc<dyn Publisher> {
    broker.publisher(&Destination::Topic(topic()), PublishOptions::default()).await.unwrap()
}

pub(crate) async fn from_queue(broker: &Arc<dyn Broker>, prefetch: usize) -> Consumer {
    broker.consume(&queue(), ConsumeOptions::default().with_prefetch(prefetch)).await.unwrap()
}

pub(crate) async fn depth(broker: &Arc<dyn Broker>, source: &Source) -> Depth {
    broker.inspect().depth(source).await.unwrap()
}

/// The next delivery; fails if none comes.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    let next = tokio::time::timeout(SOON, consumer.next()).await.expect("no delivery came: a wake-up was lost");
    next.unwrap().expect("the consumer was stopped")
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message().payload().to_vec()).unwrap()
}

/// Polls once, without anybody to wake.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Fails unless the future ends in time.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future).await.expect("it did not end in time")
}

/// Lets other tasks run until they wait.
pub(crate) async fn settle_down() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
