//! Queues: a topic with one group, which is the queue's.

use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::{
    Broker as _, ConsumeOptions, Consumer, Destination, Place, QueueConsumer, QueueName, Result, Source, Start,
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
        let counts = self.ensure_readable(&destination, &topics).await?;
        topics.retry_partitions = counts.get(1).copied().unwrap_or(0);
        let opening = Opening::group(topics.main.clone(), Start::Earliest, &topics, &counts);
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
