//! Subscriptions: durable ones are groups, ephemeral ones read from the ends of the partitions.

use std::sync::Arc;

use messaging_core::{
    Capabilities, Consumer, Destination, Durability, Error, Result, Source, SubscribeOptions, TopicName, TopologyMode,
};

use crate::broker::KafkaBroker;
use crate::consumer::{Opening, Settings};
use crate::topology::{Topics, places};

impl KafkaBroker {
    pub(crate) async fn subscribe_topic(
        &self,
        topic: &TopicName,
        options: SubscribeOptions,
        capabilities: Arc<Capabilities>,
    ) -> Result<Consumer> {
        let SubscribeOptions { durability, start, filter, consume } = options;
        let destination = Destination::Topic(topic.clone());
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
        };
        if source.is_some() {
            topics.retry_partitions = counts.get(1).copied().unwrap_or(0);
        }
        let place: Box<dyn std::fmt::Display + Send + Sync> = match &source {
            Some(source) => Box::new(source.clone()),
            None => Box::new(format!("an ephemeral subscription of {destination}")),
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
