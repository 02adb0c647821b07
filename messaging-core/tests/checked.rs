//! What was not declared is refused before the adapter sees it: this one panics when it is reached.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::{
    Admin, Broker, BrokerName, Capabilities, Checked, ConsumeOptions, Consumer, Destination, DrainReport, ErrorKind,
    Feature, Health, Lease, NoSubscriber, Order, PublishOptions, Publisher, QueueConsumer, QueueName, Redrive,
    Requester, Result, RetryMode, Source, Start, SubjectFilter, SubscribeOptions, Subscriber, SubscriptionName,
    TopicName, Transaction, Usage,
};
use tokio::time::Instant;

#[derive(Debug)]
struct Untouchable(BrokerName, Capabilities);

#[async_trait]
impl QueueConsumer for Untouchable {
    async fn consume(&self, _: &QueueName, _: ConsumeOptions) -> Result<Consumer> {
        panic!("reached")
    }
}

#[async_trait]
impl Subscriber for Untouchable {
    async fn subscribe(&self, _: &TopicName, _: SubscribeOptions) -> Result<Consumer> {
        panic!("reached")
    }
}

#[async_trait]
impl Broker for Untouchable {
    fn name(&self) -> &BrokerName {
        &self.0
    }

    fn driver(&self) -> &'static str {
        "untouchable"
    }

    fn capabilities(&self, _: &Destination, _: Usage<'_>) -> Capabilities {
        self.1.clone()
    }

    async fn publisher(&self, _: &Destination, _: PublishOptions) -> Result<Arc<dyn Publisher>> {
        panic!("reached")
    }

    async fn requester(&self) -> Result<Arc<dyn Requester>> {
        panic!("reached")
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        panic!("reached")
    }

    fn admin(&self) -> &dyn Admin {
        panic!("reached")
    }

    fn health(&self) -> Health {
        Health::up()
    }

    async fn close(&self, _: Instant) -> DrainReport {
        DrainReport::default()
    }
}

fn around(capabilities: Capabilities) -> Arc<dyn Broker> {
    Checked::around(Arc::new(Untouchable(BrokerName::main(), capabilities)))
}

fn queue() -> QueueName {
    QueueName::parse("q").unwrap()
}

fn topic() -> TopicName {
    TopicName::parse("t").unwrap()
}

#[tokio::test]
async fn whatever_is_not_declared_is_refused_before_the_adapter_sees_it() {
    let broker = around(Capabilities::none());
    let name = SubscriptionName::parse("s").unwrap();
    let source = Source::Queue(queue());
    let admin = broker.admin();
    let errors = [
        broker.publisher(&Destination::Queue(queue()), PublishOptions::default()).await.map(drop).unwrap_err(),
        broker.publisher(&Destination::Topic(topic()), PublishOptions::default()).await.map(drop).unwrap_err(),
        broker.consume(&queue(), ConsumeOptions::default()).await.map(drop).unwrap_err(),
        broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.map(drop).unwrap_err(),
        broker.requester().await.map(drop).unwrap_err(),
        broker.begin().await.map(drop).unwrap_err(),
        admin.depth(&source).await.map(drop).unwrap_err(),
        admin.lag(&source).await.map(drop).unwrap_err(),
        admin.positions(&source).await.map(drop).unwrap_err(),
        admin.browse(&source, 1).await.map(drop).unwrap_err(),
        admin.dead_letters(&source, 1).await.map(drop).unwrap_err(),
        admin.redrive(&source, Redrive::All).await.map(drop).unwrap_err(),
        admin.unsubscribe(&topic(), &name).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let shown = error.to_string();
        assert!(shown.contains("does not offer it") && shown.contains("broker \"main\""), "{shown}");
    }
}

#[tokio::test]
async fn all_unmet_needs_are_told_at_once() {
    let broker = around(Capabilities::none().with_native([Feature::Topic]));
    let options = SubscribeOptions::durable(SubscriptionName::parse("s").unwrap())
        .with_start(Start::Earliest)
        .with_filter(SubjectFilter::parse("a.*").unwrap())
        .with_consume(
            ConsumeOptions::default()
                .with_order(Order::ByKey)
                .with_retry_mode(RetryMode::Hold)
                .with_prefetch(1_000_000)
                .with_requires(messaging_core::Requirements::none().with(Feature::DeadLetter)),
        );
    let error = broker.subscribe(&topic(), options).await.map(drop).unwrap_err();
    for need in ["durable_subscription", "replay", "subject_filter", "key_order", "hold", "prefetch", "dead_letter"] {
        assert!(error.text().contains(need), "{need}: {error}");
    }
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_with_their_name() {
    let broker = around(Capabilities::none().with_native(Feature::ALL));
    let consume = ConsumeOptions::default;
    let lease = |duration, max| consume().with_lease(Lease { duration, max });
    let second = Duration::from_secs(1);
    for (options, part) in [
        (consume().with_prefetch(0), "prefetch is 0"),
        (consume().with_order(Order::ByKey), "retry_mode = requeue"),
        (consume().with_retry_mode(RetryMode::Hold), "order_by = key"),
        (lease(Duration::ZERO, second), "lease"),
        (lease(second * 2, second), "lease"),
    ] {
        let error = broker.consume(&queue(), options).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.text().contains(part), "{error}");
    }
    let publish = PublishOptions::default;
    for (options, part) in [
        (publish().with_in_flight(0), "in_flight is 0"),
        (publish().with_in_flight(1_000_001), "1000000"),
        (publish().with_in_flight_bytes(0), "in_flight_bytes is 0"),
        (publish().with_timeout(Duration::ZERO), "timeout is zero"),
    ] {
        let error = broker.publisher(&Destination::Queue(queue()), options).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.text().contains(part), "{error}");
    }
    let options = SubscribeOptions::ephemeral().with_start(Start::Earliest);
    assert_eq!(broker.subscribe(&topic(), options).await.map(drop).unwrap_err().kind(), ErrorKind::Config);
    let options = publish().with_no_subscriber(NoSubscriber::Refuse);
    let lacking = around(Capabilities::none().with_native([Feature::Topic]));
    let error = lacking.publisher(&Destination::Topic(topic()), options).await.map(drop).unwrap_err();
    assert!(error.text().contains("require_subscriber"), "{error}");
}
