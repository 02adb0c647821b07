//! Queues: a topic with one group, which is the queue's.

use std::sync::Arc;

use messaging_core::{
    Capabilities, ConsumeOptions, Consumer, Destination, Error, QueueName, Result, Source, Start, TopologyMode,
};

use crate::broker::KafkaBroker;
use crate::consumer::{Opening, Settings, open};
use crate::topology::{Topics, ensure, places};

impl KafkaBroker {
    pub(crate) async fn consume_queue(
        &self,
        queue: &QueueName,
        options: ConsumeOptions,
        capabilities: Arc<Capabilities>,
    ) -> Result<Consumer> {
        let destination = Destination::Queue(queue.clone());
        let source = Source::Queue(queue.clone());
        let mut topics = Topics::of_source(self.names(), &source);
        let counts = self.ensure(&destination, &topics).await?;
        if self.topology_mode() == TopologyMode::Assume && counts.first() == Some(&0) {
            return Err(Error::missing(&destination, &topics.main));
        }
        topics.retry_partitions = counts.get(1).copied().unwrap_or(0);
        let all = places(&topics.subscribed(), &counts);
        let (main_places, retries) = all.into_iter().partition(|(topic, _)| *topic == topics.main);
        let opening = Opening::Group { group: topics.main.clone(), start: Start::Earliest, main: main_places, retries };
        let settings = Settings {
            source: Some(source),
            topics,
            options,
            filter: None,
            only_key: None,
            capabilities,
            connection: Arc::clone(self.connection()),
        };
        self.open_consumer(settings, opening, &destination).await
    }

    /// Has the topics of a destination there.
    pub(crate) async fn ensure(&self, destination: &Destination, topics: &Topics) -> Result<Vec<i32>> {
        ensure(self.connection(), self.topology_mode(), &destination.to_string(), topics, self.options(destination))
            .await
    }

    pub(crate) async fn open_consumer(
        &self,
        settings: Settings,
        opening: Opening,
        place: &(dyn std::fmt::Display + Sync),
    ) -> Result<Consumer> {
        self.connection().check_open()?;
        let (consumer, intake) = open(settings, opening, self.scope(place)).await?;
        self.register(intake);
        Ok(consumer)
    }
}
