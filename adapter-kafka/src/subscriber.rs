//! Subscriptions: durable ones are groups, ephemeral ones read from the ends of the partitions.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::{
    Broker as _, Consumer, Destination, Durability, Place, Result, Source, SubscribeOptions, Subscriber, TopicName,
};

use crate::broker::KafkaBroker;
use crate::consumer::{Opening, Settings};
use crate::topology::{Topics, places};

#[async_trait]
impl Subscriber for KafkaBroker {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        let capabilities = Arc::new(self.capabilities(Place::Subscribe(topic, &options)));
        let SubscribeOptions { durability, start, filter, consume } = options;
        let destination = Destination::Topic(topic.clone());
        let source = match durability {
            Durability::Durable(name) => Some(Source::Subscription(topic.clone(), name)),
            Durability::Ephemeral => None,
        };
        let mut topics = match &source {
            Some(source) => Topics::of_source(self.names(), source),
            None => Topics::of_ephemeral(self.names(), &destination),
        };
        let counts = self.ensure_readable(&destination, &topics).await?;
        let (opening, place): (_, Box<dyn fmt::Display + Send + Sync>) = match &source {
            Some(source) => {
                topics.retry_partitions = counts.get(1).copied().unwrap_or(0);
                (Opening::group(self.names().source(source), start, &topics, &counts), Box::new(source.clone()))
            }
            None => (
                Opening::Ephemeral { places: places(&topics.subscribed(), &counts) },
                Box::new(format!("an ephemeral subscription of {destination}")),
            ),
        };
        let settings = Settings {
            source,
            topics,
            options: consume,
            filter,
            only_key: None,
            capabilities,
            connection: Arc::clone(self.connection()),
        };
        self.open_consumer(settings, opening, &*place).await
    }
}
