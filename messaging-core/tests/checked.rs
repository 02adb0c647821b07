//! What was not declared is refused before the adapter sees it: this one panics when it is reached.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::spi::{Checked, Inbox, Replies};
use messaging_core::{
    Broker, BrokerName, Capabilities, ConsumeOptions, Consumer, Declaration, Destination, DrainReport, ErrorKind,
    Feature, Health, Identity, Inspect, Lease, NoSubscriber, Order, Part, Place, Plan, PlanAction, PlanStep,
    PublishOptions, Publisher, QueueConsumer, QueueName, Redrive, Repair, Result, RetryMode, Source, Start,
    SubjectFilter, SubscribeOptions, Subscriber, SubscriptionName, TopicName, Topology, TopologyMode, Transaction,
};
use tokio::time::Instant;

#[derive(Debug)]
struct Untouchable(Identity, Capabilities);

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
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn capabilities(&self, _: Place<'_>) -> Capabilities {
        self.1.clone()
    }

    async fn publisher(&self, _: &Destination, _: PublishOptions) -> Result<Arc<dyn Publisher>> {
        panic!("reached")
    }

    async fn replies(&self, _: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        panic!("reached")
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        panic!("reached")
    }

    fn inspect(&self) -> &dyn Inspect {
        panic!("reached")
    }

    fn repair(&self) -> &dyn Repair {
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
    let identity = Identity::new(BrokerName::main(), "untouchable", TopologyMode::Create);
    Checked::around(Arc::new(Untouchable(identity, capabilities)))
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
    let (inspect, repair) = (broker.inspect(), broker.repair());
    let errors = [
        broker.publisher(&Destination::Queue(queue()), PublishOptions::default()).await.map(drop).unwrap_err(),
        broker.publisher(&Destination::Topic(topic()), PublishOptions::default()).await.map(drop).unwrap_err(),
        broker.consume(&queue(), ConsumeOptions::default()).await.map(drop).unwrap_err(),
        broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.map(drop).unwrap_err(),
        broker.requester().await.map(drop).unwrap_err(),
        broker.begin().await.map(drop).unwrap_err(),
        inspect.depth(&source).await.map(drop).unwrap_err(),
        inspect.lag(&source).await.map(drop).unwrap_err(),
        inspect.positions(&source).await.map(drop).unwrap_err(),
        inspect.browse(&source, 1).await.map(drop).unwrap_err(),
        inspect.dead_letters(&source, 1).await.map(drop).unwrap_err(),
        repair.redrive(&source, Redrive::All).await.map(drop).unwrap_err(),
        repair.purge(&source, Part::Live).await.map(drop).unwrap_err(),
        repair.unsubscribe(&topic(), &name).await.unwrap_err(),
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

/// A broker that implements no more than it has to, around which no checks stand.
#[derive(Debug)]
struct Bare(Identity);

#[async_trait]
impl QueueConsumer for Bare {
    async fn consume(&self, _: &QueueName, _: ConsumeOptions) -> Result<Consumer> {
        panic!("reached")
    }
}

impl Subscriber for Bare {}

#[async_trait]
impl Broker for Bare {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn capabilities(&self, _: Place<'_>) -> Capabilities {
        Capabilities::none().with_native(Feature::ALL).without(Feature::Lease, "no lease is long enough here")
    }

    async fn publisher(&self, _: &Destination, _: PublishOptions) -> Result<Arc<dyn Publisher>> {
        panic!("reached")
    }

    fn health(&self) -> Health {
        Health::up()
    }

    async fn close(&self, _: Instant) -> DrainReport {
        DrainReport::default()
    }
}

#[tokio::test]
async fn what_an_adapter_does_not_implement_is_refused_by_what_it_inherits() {
    let bare: Arc<dyn Broker> = Arc::new(Bare(Identity::new(BrokerName::main(), "bare", TopologyMode::Create)));
    let name = SubscriptionName::parse("s").unwrap();
    let source = Source::Queue(queue());
    let declaration = [Declaration::Destination(Destination::Queue(queue()))];
    for broker in [bare.clone(), Checked::around(bare)] {
        let (inspect, repair) = (broker.inspect(), broker.repair());
        for (error, word) in [
            (broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.map(drop), "topic"),
            (broker.requester().await.map(drop), "request_reply"),
            (broker.begin().await.map(drop), "transactions"),
            (broker.topology().plan(&declaration).await.map(drop), "plans"),
            (broker.topology().create(&declaration).await, "plans"),
            (broker.apply(&declaration).await.map(drop), "plans"),
            (inspect.depth(&source).await.map(drop), "depth"),
            (inspect.lag(&source).await.map(drop), "depth"),
            (inspect.positions(&source).await.map(drop), "positions"),
            (inspect.browse(&source, 1).await.map(drop), "browse"),
            (inspect.dead_letters(&source, 1).await.map(drop), "dead_letter"),
            (repair.redrive(&source, Redrive::All).await.map(drop), "redrive"),
            (repair.purge(&source, Part::Dead).await.map(drop), "purge"),
            (repair.unsubscribe(&topic(), &name).await, "durable_subscription"),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.text().contains(word), "{error}");
        }
    }
}

/// Answers every plan with one action, and counts what it is asked to make.
#[derive(Debug)]
struct Planner(Identity, PlanAction, AtomicUsize);

#[async_trait]
impl QueueConsumer for Planner {
    async fn consume(&self, _: &QueueName, _: ConsumeOptions) -> Result<Consumer> {
        panic!("reached")
    }
}

impl Subscriber for Planner {}

#[async_trait]
impl Topology for Planner {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        assert_ne!(self.0.topology_mode(), TopologyMode::Assume, "assume asks nothing");
        let step = |declaration: &Declaration| PlanStep {
            what: format!("{declaration:?}"),
            physical_name: "p".to_owned(),
            action: self.1.clone(),
        };
        Ok(Plan { steps: declarations.iter().map(step).collect() })
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        self.2.fetch_add(declarations.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Broker for Planner {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn capabilities(&self, _: Place<'_>) -> Capabilities {
        Capabilities::none()
    }

    async fn publisher(&self, _: &Destination, _: PublishOptions) -> Result<Arc<dyn Publisher>> {
        panic!("reached")
    }

    fn health(&self) -> Health {
        Health::up()
    }

    async fn close(&self, _: Instant) -> DrainReport {
        DrainReport::default()
    }

    fn topology(&self) -> &dyn Topology {
        self
    }
}

#[tokio::test]
async fn a_plan_is_applied_by_the_topology_mode() {
    let differs = PlanAction::Differs(vec!["a is 1, asked for is 2".to_owned()]);
    let (create, verify, assume) = (TopologyMode::Create, TopologyMode::Verify, TopologyMode::Assume);
    for (mode, action, refused, made) in [
        (create, PlanAction::Create, None, 1),
        (create, PlanAction::Keep, None, 0),
        (create, differs.clone(), Some(ErrorKind::Mismatch), 0),
        (verify, PlanAction::Create, Some(ErrorKind::NotFound), 0),
        (verify, PlanAction::Keep, None, 0),
        (verify, differs.clone(), Some(ErrorKind::Mismatch), 0),
        (assume, PlanAction::Create, None, 0),
        (assume, differs.clone(), None, 0),
    ] {
        let identity = Identity::new(BrokerName::main(), "planner", mode);
        let planner = Arc::new(Planner(identity, action.clone(), AtomicUsize::new(0)));
        let broker = Checked::around(planner.clone());
        let applied = broker.apply(&[Declaration::Destination(Destination::Queue(queue()))]).await;
        assert_eq!(planner.2.load(Ordering::Relaxed), made, "{mode:?} {action:?}");
        match (applied, refused) {
            (Ok(plan), None) => assert_eq!(plan.steps.len(), usize::from(mode != assume), "{mode:?} {action:?}"),
            (Err(error), Some(kind)) => {
                assert_eq!(error.kind(), kind, "{mode:?} {action:?}");
                assert!(error.to_string().contains("broker \"main\""), "{error}");
            }
            (applied, _) => panic!("{mode:?} {action:?}: {applied:?}"),
        }
    }
}
