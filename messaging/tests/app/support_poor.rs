//! A broker that can do next to nothing, and counts what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use messaging::{
    Broker, BrokerName, Capabilities, ConsumeOptions, Consumer, Destination, DrainReport, Error, ErrorKind, Feature,
    Health, Identity, Place, PublishOptions, Publisher, QueueConsumer, QueueName, Result, SubscribeOptions, Subscriber,
    TopicName, TopologyMode,
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
    let identity = Identity::new(BrokerName::main(), "poor", TopologyMode::Create);
    (Arc::new(Poor { identity, calls: calls.clone() }), calls)
}

#[derive(Debug)]
struct Poor {
    identity: Identity,
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
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn capabilities(&self, _: Place<'_>) -> Capabilities {
        Capabilities::none().with_native([Feature::Queue])
    }

    async fn publisher(&self, _: &Destination, _: PublishOptions) -> Result<Arc<dyn Publisher>> {
        self.calls.open()
    }

    fn health(&self) -> Health {
        Health::up()
    }

    async fn close(&self, _: Instant) -> DrainReport {
        self.calls.0.1.fetch_add(1, Ordering::SeqCst);
        DrainReport::default()
    }
}
