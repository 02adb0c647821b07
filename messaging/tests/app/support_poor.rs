//! A broker that can do next to nothing, and counts what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use messaging::{
    Admin, Broker, BrokerName, Capabilities, ConsumeOptions, Consumer, Destination, DrainReport, Error, ErrorKind,
    Feature, Health, PublishOptions, Publisher, QueueConsumer, QueueName, Requester, Result, SubscribeOptions,
    Subscriber, TopicName, Transaction, Usage,
};
use tokio::time::Instant;

#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<(AtomicUsize, AtomicUsize)>);

impl Calls {
    pub(crate) fn opened(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn closed(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    fn open<T>(&self) -> Result<T> {
        self.0.0.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Unsupported, "nothing to consume here"))
    }
}

pub(crate) fn broker() -> (Arc<dyn Broker>, Calls) {
    let calls = Calls::default();
    (Arc::new(Poor { name: BrokerName::main(), calls: calls.clone() }), calls)
}

#[derive(Debug)]
struct Poor {
    name: BrokerName,
    calls: Calls,
}

#[async_trait]
impl QueueConsumer for Poor {
    async fn consume(&self, _: &QueueName, _: ConsumeOptions) -> Result<Consumer> {
        self.calls.open()
    }
}

#[async_trait]
impl Subscriber for Poor {
    async fn subscribe(&self, _: &TopicName, _: SubscribeOptions) -> Result<Consumer> {
        self.calls.open()
    }
}

#[async_trait]
impl Broker for Poor {
    fn name(&self) -> &BrokerName {
        &self.name
    }

    fn driver(&self) -> &'static str {
        "poor"
    }

    fn capabilities(&self, _: &Destination, _: Usage<'_>) -> Capabilities {
        Capabilities::none().with_native([Feature::Queue])
    }

    async fn publisher(&self, _: &Destination, _: PublishOptions) -> Result<Arc<dyn Publisher>> {
        self.calls.open()
    }

    async fn requester(&self) -> Result<Arc<dyn Requester>> {
        self.calls.open()
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        self.calls.open()
    }

    fn admin(&self) -> &dyn Admin {
        unreachable!("nobody administers it")
    }

    fn health(&self) -> Health {
        Health::up()
    }

    async fn close(&self, _: Instant) -> DrainReport {
        self.calls.0.1.fetch_add(1, Ordering::SeqCst);
        DrainReport::default()
    }
}
