//! The broker with places to step in.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::spi::{Inbox, Replies};
use messaging_core::{
    Broker, Capabilities, ConsumeOptions, Consumer, Destination, DrainReport, Health, Identity, Inspect, Place,
    PublishOptions, Publisher, QueueConsumer, QueueName, Repair, Result, SubscribeOptions, Subscriber, TopicName,
    Topology, Transaction,
};
use tokio::time::Instant;

use super::admin::InterceptedAdmin;
use super::consumer::InterceptedDeliveries;
use super::publisher::{InterceptedPublisher, InterceptedTransaction};
use super::{Intercept, Stream};

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
        let source = InterceptedDeliveries::new(stream, Arc::clone(&self.how), Arc::clone(&capabilities));
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
#[deny(clippy::missing_trait_methods)]
impl QueueConsumer for Intercepted {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        let told = self.capabilities(Place::Consume(queue, &options));
        let consumer = self.how.consume(&self.inner, queue, options).await?;
        Ok(self.wrap(self.told(consumer, told)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Subscriber for Intercepted {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        let told = self.capabilities(Place::Subscribe(topic, &options));
        let consumer = self.how.subscribe(&self.inner, topic, options).await?;
        Ok(self.wrap(self.told(consumer, told)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Broker for Intercepted {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        self.how.capabilities(self.inner.capabilities(of), of)
    }

    async fn publisher(&self, to: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        let inner = self.how.publisher(&self.inner, to, options).await?;
        Ok(Arc::new(InterceptedPublisher { inner, how: Arc::clone(&self.how) }))
    }

    async fn replies(&self, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        self.how.replies(&self.inner, inbox).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(InterceptedTransaction(self.how.begin(&self.inner).await?)))
    }

    fn topology(&self) -> &dyn Topology {
        &self.admin
    }

    fn inspect(&self) -> &dyn Inspect {
        &self.admin
    }

    fn repair(&self) -> &dyn Repair {
        &self.admin
    }

    fn health(&self) -> Health {
        self.how.health(&self.inner)
    }

    async fn close(&self, by: Instant) -> DrainReport {
        self.how.close(&self.inner, by).await
    }
}
