//! Requests and their replies: one topic for all replies, of which each requester reads one partition from its end on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::spi::{Inbox, Replies};
use messaging_core::{
    ConsumeOptions, Consumer, Destination, Error, ErrorKind, Place, PublishOptions, Publisher, QueueName, ReplyAddress,
    Result,
};
use uuid::Uuid;

use crate::broker::KafkaBroker;
use crate::config::{DestinationOptions, Retention};
use crate::consumer::{Opening, Settings};
use crate::topology::{Topics, ensure};

/// Retention of the reply topic.
const REPLY_RETENTION: Duration = Duration::from_secs(60 * 60);

pub(crate) struct KafkaReplies {
    broker: KafkaBroker,
    address: ReplyAddress,
    /// Takes replies in; ends with this.
    reading: tokio::task::JoinHandle<()>,
}

impl KafkaReplies {
    pub(crate) async fn open(broker: &KafkaBroker, inbox: Arc<Inbox>) -> Result<Self> {
        let topic = broker.names().shared(&["messaging", "replies"]);
        let topics = Topics { main: topic.clone(), retry: None, delayed: None, dead: None, retry_partitions: 0 };
        let options = DestinationOptions {
            retention: Some(Retention::For(REPLY_RETENTION)),
            // A key stands for a requester there, who wants every reply.
            compaction: Some(false),
            ..broker.connection().options.destinations.defaults().clone()
        };
        let counts = ensure(broker.connection(), broker.topology_mode(), "request/reply", &topics, &options).await?;
        let count = counts.first().copied().unwrap_or(0);
        if count == 0 {
            return Err(Error::new(ErrorKind::NotFound, format!("request/reply needs topic {topic:?}: create it")));
        }
        let id = Uuid::new_v4();
        // Any partition will do; replies are spread by it.
        let partition = i32::try_from(id.as_u128() % count.unsigned_abs() as u128).unwrap_or(0);
        let address = ReplyAddress::new(format!("{topic}/{partition}/{}", id.simple()));
        let consumer = read(broker, topics, (topic, partition), id.simple().to_string()).await?;
        let reading = broker.runtime().spawn(take_in(consumer, CloseOnEnd(inbox)));
        Ok(Self { broker: broker.clone(), address, reading })
    }
}

/// A consumer of one partition from its end on.
async fn read(broker: &KafkaBroker, topics: Topics, place: (String, i32), id: String) -> Result<Consumer> {
    let options = ConsumeOptions::default().with_prefetch(1_000);
    let capabilities = messaging_core::Broker::capabilities(broker, Place::Broker);
    let settings = Settings {
        source: None,
        topics,
        options,
        filter: None,
        only_key: Some(id),
        capabilities: Arc::new(capabilities),
        connection: Arc::clone(broker.connection()),
    };
    broker.open_consumer(settings, Opening::Ephemeral { places: vec![place] }, &"replies").await
}

/// Closes the inbox when nothing is put into it any more, also where the runtime ends: requests that wait end with an error.
struct CloseOnEnd(Arc<Inbox>);

impl Drop for CloseOnEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Hands replies to their requests until the consumer ends.
async fn take_in(mut consumer: Consumer, inbox: CloseOnEnd) {
    while let Ok(Some(delivery)) = consumer.next().await {
        let message = delivery.message().clone();
        drop(delivery.ack());
        inbox.0.deliver(message);
    }
}

#[async_trait]
impl Replies for KafkaReplies {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        Ok(self.broker.open_publisher(&Destination::Queue(to.clone()), &PublishOptions::default()).await?)
    }
}

impl Drop for KafkaReplies {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl fmt::Debug for KafkaReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReplies").field("address", &self.address.as_str()).finish_non_exhaustive()
    }
}
