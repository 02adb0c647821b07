//! Subscribing to topics.

use async_trait::async_trait;
use messaging_core::{
    ConsumeOptions, Consumer, Destination, Durability, Order, Place, Result, Source, SubscribeOptions, Subscriber,
    TopicName,
};

use crate::broker::RabbitBroker;
use crate::consumer::Consumed;

#[async_trait]
impl Subscriber for RabbitBroker {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        let destination = Destination::Topic(topic.clone());
        let capabilities = self.capabilities_of(Place::Subscribe(topic, &options));
        // There is no replay, so that every start is the same.
        let SubscribeOptions { durability, start: _, filter, consume } = options;
        let ConsumeOptions { prefetch, order, retry_mode: _, lease: _, requires: _ } = consume;
        let (what, scope) = match durability {
            Durability::Durable(name) => {
                self.check_layout(&destination, order)?;
                let source = Source::Subscription(topic.clone(), name);
                let scope = self.scope(&source);
                (Consumed::Source { source, filter }, scope)
            }
            Durability::Ephemeral => (Consumed::Ephemeral { topic: topic.clone(), filter }, self.scope(&destination)),
        };
        self.open_consumer(what, prefetch, order == Order::ByKey, capabilities, scope).await
    }
}
