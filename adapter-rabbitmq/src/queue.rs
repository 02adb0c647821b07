//! Consuming queues.

use async_trait::async_trait;
use messaging_core::{ConsumeOptions, Consumer, Destination, Order, Place, QueueConsumer, QueueName, Result, Source};

use crate::broker::RabbitBroker;
use crate::consumer::Consumed;

#[async_trait]
impl QueueConsumer for RabbitBroker {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        let destination = Destination::Queue(queue.clone());
        let capabilities = self.capabilities_of(Place::Consume(queue, &options));
        // Deliveries have no lease here; what else is required was checked before.
        let ConsumeOptions { prefetch, order, retry_mode: _, lease: _, requires: _ } = options;
        self.check_layout(&destination, order)?;
        let source = Source::Queue(queue.clone());
        let scope = self.scope(&source);
        let what = Consumed::Source { source, filter: None };
        self.open_consumer(what, prefetch, order == Order::ByKey, capabilities, scope).await
    }
}
