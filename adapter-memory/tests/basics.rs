//! What one sees first: messages go in, come out, and are settled.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use adapter_memory::MemoryServer;
use messaging_core::{
    Broker, ConsumeOptions, Delivery, Destination, ErrorKind, Feature, Lease, Message, Order, PublishOptions,
    Publisher, PublisherExt, QueueName, Redrive, RetryMode, Source, Start, SubjectFilter, SubscribeOptions,
    SubscriptionName, TopicName,
};

const SOON: Duration = Duration::from_secs(5);

fn queue() -> QueueName {
    QueueName::parse("orders").unwrap()
}

fn topic() -> TopicName {
    TopicName::parse("news").unwrap()
}

fn durable(name: &str) -> SubscribeOptions {
    SubscribeOptions::durable(SubscriptionName::parse(name).unwrap())
}

async fn to_queue(broker: &Arc<dyn Broker>) -> Arc<dyn Publisher> {
    broker.publisher(&Destination::Queue(queue()), PublishOptions::default()).await.unwrap()
}

async fn to_topic(broker: &Arc<dyn Broker>) -> Arc<dyn Publisher> {
    broker.publisher(&Destination::Topic(topic()), PublishOptions::default()).await.unwrap()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message().payload().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn published_is_delivered_once_acked_and_gone() {
    let broker = MemoryServer::private().broker();
    to_queue(&broker).await.publish("one").await.unwrap();
    let mut consumer = broker.consume(&queue(), ConsumeOptions::default()).await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!((text(&delivery).as_str(), delivery.attempt()), ("one", 1));
    delivery.ack().await.unwrap();
    let depth = broker.inspect().depth(&Source::Queue(queue())).await.unwrap();
    assert_eq!(depth.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_consumer_is_woken_and_a_cancelled_receive_loses_nothing() {
    let broker = MemoryServer::private().broker();
    let publisher = to_queue(&broker).await;
    let mut first = broker.consume(&queue(), ConsumeOptions::default()).await.unwrap();
    let mut second = broker.consume(&queue(), ConsumeOptions::default()).await.unwrap();
    // The first waits, is woken by the message, and its receive is cancelled before it takes it.
    let mut waiting = Box::pin(first.next());
    assert!(futures_poll(&mut waiting).is_none());
    let other = tokio::spawn(async move { second.next().await.unwrap().map(|delivery| text(&delivery)) });
    tokio::task::yield_now().await;
    publisher.publish("x").await.unwrap();
    drop(waiting);
    let received = tokio::time::timeout(SOON, other).await.expect("the wake-up was lost").unwrap();
    assert_eq!(received.as_deref(), Some("x"));
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn retry_counts_waits_and_a_drop_comes_back() {
    let broker = MemoryServer::private().broker();
    to_queue(&broker).await.publish("x").await.unwrap();
    let mut consumer = broker.consume(&queue(), ConsumeOptions::default()).await.unwrap();
    let begun = tokio::time::Instant::now();
    consumer.next().await.unwrap().unwrap().retry_after(Duration::from_secs(3)).await.unwrap();
    let again = consumer.next().await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!(again.attempt(), 2);
    drop(again);
    let third = consumer.next().await.unwrap().unwrap();
    assert_eq!(third.attempt(), 3);
    third.release().await.unwrap();
    assert_eq!(consumer.next().await.unwrap().unwrap().attempt(), 3);
}

#[tokio::test(start_paused = true)]
async fn prefetch_bounds_what_is_held_and_a_settlement_admits_more() {
    let broker = MemoryServer::private().broker();
    let publisher = to_queue(&broker).await;
    let mut consumer = broker.consume(&queue(), ConsumeOptions::default().with_prefetch(2)).await.unwrap();
    for result in publisher.publish_batch((0..3).map(|n| Message::new(n.to_string())).collect()).await {
        result.unwrap();
    }
    let held = consumer.next_many(10).await.unwrap();
    assert_eq!(held.len(), 2);
    assert!(futures_poll(&mut Box::pin(consumer.next())).is_none());
    Delivery::ack_all(held).await.unwrap();
    assert_eq!(text(&consumer.next().await.unwrap().unwrap()), "2");
}

#[tokio::test(start_paused = true)]
async fn key_order_is_kept_through_hold_and_other_keys_flow() {
    let broker = MemoryServer::private().broker();
    let publisher = to_queue(&broker).await;
    for (key, body) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")] {
        publisher.publish(Message::builder(body).key(key).build().unwrap()).await.unwrap();
    }
    let options = ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold);
    let mut one = broker.consume(&queue(), options.clone()).await.unwrap();
    let mut two = broker.consume(&queue(), options).await.unwrap();
    let a1 = one.next().await.unwrap().unwrap();
    let b1 = two.next().await.unwrap().unwrap();
    assert_eq!((text(&a1), text(&b1)), ("a1".into(), "b1".into()));
    a1.retry_after(Duration::from_secs(1)).await.unwrap();
    assert!(futures_poll(&mut Box::pin(two.next())).is_none(), "the key waits for its first");
    b1.ack().await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = two.next().await.unwrap().unwrap();
        seen.push(text(&delivery));
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, ["a1", "a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn each_subscription_gets_all_and_members_share() {
    let broker = MemoryServer::private().broker();
    let publisher = to_topic(&broker).await;
    publisher.publish("before").await.unwrap();
    let mut new = broker.subscribe(&topic(), durable("new")).await.unwrap();
    let mut early = broker.subscribe(&topic(), durable("early").with_start(Start::Earliest)).await.unwrap();
    let mut member = broker.subscribe(&topic(), durable("early")).await.unwrap();
    let mut ephemeral = broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.unwrap();
    publisher.publish("after").await.unwrap();
    assert_eq!(text(&new.next().await.unwrap().unwrap()), "after");
    assert_eq!(text(&ephemeral.next().await.unwrap().unwrap()), "after");
    let first = early.next().await.unwrap().unwrap();
    let second = member.next().await.unwrap().unwrap();
    assert_eq!((text(&first), text(&second)), ("before".into(), "after".into()));
    second.ack().await.unwrap();
    let source = Source::Subscription(topic(), SubscriptionName::parse("early").unwrap());
    let position = broker.inspect().positions(&source).await.unwrap()[0];
    assert_eq!((position.committed, position.current, position.end), (0, 2, 2));
    first.ack().await.unwrap();
    assert_eq!(broker.inspect().positions(&source).await.unwrap()[0].committed, 2);
    assert_eq!(broker.inspect().lag(&source).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn filters_delays_ttl_and_priorities() {
    let broker = MemoryServer::private().broker();
    let publisher = to_topic(&broker).await;
    let filtered = durable("eu").with_filter(SubjectFilter::parse("eu.*").unwrap());
    let mut consumer = broker.subscribe(&topic(), filtered).await.unwrap();
    let message = |body: &'static str, subject| Message::builder(body).subject(subject);
    publisher.publish(message("us", "us.new").build().unwrap()).await.unwrap();
    publisher.publish(message("late", "eu.new").delay(Duration::from_secs(5)).build().unwrap()).await.unwrap();
    publisher.publish(message("short", "eu.new").ttl(Duration::from_secs(1)).build().unwrap()).await.unwrap();
    publisher.publish(message("low", "eu.new").priority(1).build().unwrap()).await.unwrap();
    publisher.publish(message("high", "eu.new").priority(9).build().unwrap()).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let delivery = consumer.next().await.unwrap().unwrap();
        seen.push(text(&delivery));
        delivery.ack().await.unwrap();
    }
    assert_eq!(seen, ["high", "low", "late"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_keeps_everything_and_redrives_to_where_it_failed() {
    let broker = MemoryServer::private().broker();
    let publisher = to_queue(&broker).await;
    let message = Message::builder("bad").header("tenant", "acme").build().unwrap();
    publisher.publish(message.clone()).await.unwrap();
    let mut consumer = broker.consume(&queue(), ConsumeOptions::default()).await.unwrap();
    consumer.next().await.unwrap().unwrap().dead_letter("rejected").await.unwrap();
    let source = Source::Queue(queue());
    let dead = broker.inspect().dead_letters(&source, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].message.id(), dead[0].attempts, dead[0].reason.code.as_ref()), (message.id(), 1, "rejected"));
    assert_eq!(broker.repair().redrive(&source, Redrive::All).await.unwrap(), 1);
    let again = consumer.next().await.unwrap().unwrap();
    assert_eq!((again.attempt(), again.redriven(), again.message().headers().get("tenant")), (1, 1, Some("acme")));
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_not_before_its_time_and_its_holder_is_stale() {
    let broker = MemoryServer::private().broker();
    to_queue(&broker).await.publish("x").await.unwrap();
    let lease = Lease { duration: Duration::from_secs(10), max: Duration::from_secs(10) };
    let mut slow = broker.consume(&queue(), ConsumeOptions::default().with_lease(lease)).await.unwrap();
    let mut other = broker.consume(&queue(), ConsumeOptions::default()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let held = slow.next().await.unwrap().unwrap();
    held.extend(Duration::from_secs(20)).await.unwrap();
    let moved = other.next().await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(moved.attempt(), 2);
    assert_eq!(held.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    moved.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn everything_is_declared() {
    let broker = MemoryServer::private().broker();
    let options = PublishOptions::default();
    let supports = |destination: Destination, feature: &Feature| {
        broker.capabilities(messaging_core::Place::Publish(&destination, &options)).supports(*feature)
    };
    assert!(Feature::ALL.iter().all(|feature| supports(Destination::Topic(topic()), feature)));
    // A queue has no log, and says so.
    let of_queues = |feature: &Feature| *feature != Feature::Positions;
    assert!(Feature::ALL.iter().all(|feature| supports(Destination::Queue(queue()), feature) == of_queues(feature)));
}
