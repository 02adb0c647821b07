//! Queues: a topic with one group, which is the queue's.

use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::{
<<<<<<< HEAD
    Broker as _, ConsumeOptions, Consumer, Destination, Place, QueueConsumer, QueueName, Result, Source, Start,
=======
    Capabilities, ConsumeOptions, Consumer, Destination, Error, QueueName, Result, Source, Start, TopologyMode,
>>>>>>> main
};

use crate::broker::KafkaBroker;
use crate::consumer::{Opening, Settings};
use crate::topology::Topics;

#[async_trait]
impl QueueConsumer for KafkaBroker {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        let capabilities = Arc::new(self.capabilities(Place::Consume(queue, &options)));
        let destination = Destination::Queue(queue.clone());
        let source = Source::Queue(queue.clone());
        let mut topics = Topics::of_source(self.names(), &source);
<<<<<<< HEAD
        let counts = self.ensure_readable(&destination, &topics).await?;
        topics.retry_partitions = counts.get(1).copied().unwrap_or(0);
        let opening = Opening::group(topics.main.clone(), Start::Earliest, &topics, &counts);
=======
        let counts = self.ensure(&destination, &topics).await?;
        if self.topology_mode() == TopologyMode::Assume && counts.first() == Some(&0) {
            return Err(Error::missing(&destination, &topics.main));
        }
        topics.retry_partitions = counts.get(1).copied().unwrap_or(0);
        let all = places(&topics.subscribed(), &counts);
        let (main_places, retries) = all.into_iter().partition(|(topic, _)| *topic == topics.main);
        let opening = Opening::Group { group: topics.main.clone(), start: Start::Earliest, main: main_places, retries };
>>>>>>> main
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
}
