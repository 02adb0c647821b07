//! Subscriptions: durable ones are groups, ephemeral ones read from the ends of the partitions.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::{
<<<<<<< HEAD
    Broker as _, Consumer, Destination, Durability, Place, Result, Source, SubscribeOptions, Subscriber, TopicName,
=======
    Capabilities, Consumer, Destination, Durability, Error, Result, Source, SubscribeOptions, TopicName, TopologyMode,
>>>>>>> main
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
<<<<<<< HEAD
        let source = match durability {
            Durability::Durable(name) => Some(Source::Subscription(topic.clone(), name)),
            Durability::Ephemeral => None,
        };
        let mut topics = match &source {
            Some(source) => Topics::of_source(self.names(), source),
            None => Topics::of_ephemeral(self.names(), &destination),
=======
        let (source, mut topics, group) = match durability {
            Durability::Durable(name) => {
                let source = Source::Subscription(topic.clone(), name);
                let (topics, group) = (Topics::of_source(self.names(), &source), self.names().source(&source));
                (Some(source), topics, Some(group))
            }
            Durability::Ephemeral => (None, Topics::of_ephemeral(self.names(), &destination), None),
        };
        let counts = self.ensure(&destination, &topics).await?;
        if self.topology_mode() == TopologyMode::Assume && counts.first() == Some(&0) {
            return Err(Error::missing(&destination, &topics.main));
        }
        let all = places(&topics.subscribed(), &counts);
        let opening = match group {
            Some(group) => {
                let is_retry = |topic: &str| Some(topic) == topics.retry.as_deref();
                let (retries, main) = all.into_iter().partition(|(topic, _)| is_retry(topic));
                Opening::Group { group, start, main, retries }
            }
            None => Opening::Ephemeral { places: all },
>>>>>>> main
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
