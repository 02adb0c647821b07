//! What the harness does at Kafka, by `rdkafka`, and by two requests of its protocol that `rdkafka` has no call for.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};

use super::{
    Foreign,
    means::{Means, Place},
};
use crate::{Error, Result, native::install, proxy::Proxy, raw::Location, raw::kafka_groups, run};

const ASKING: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// A member that was killed stays in its group until its session ends, and its group cannot be removed before.
const LAST_MEMBER: Duration = Duration::from_secs(50);

pub(super) struct KafkaMeans {
    hosts: String,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl KafkaMeans {
    pub(super) fn new(url: &str) -> Result<Self> {
        let hosts = Location::parse(url, None)?.hosts();
        let admin = Arc::new(config(&hosts).create().map_err(cannot("begin"))?);
        Ok(Self { hosts, admin })
    }

    /// Asks the client library, whose questions block, on a thread for that.
    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        question: impl FnOnce(&AdminClient<DefaultClientContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let admin = Arc::clone(&self.admin);
        let asked = tokio::task::spawn_blocking(move || question(&admin).map_err(cannot(what)));
        asked.await.map_err(|error| Error::caused("asking kafka was given up", error))?
    }

    /// Topics that begin so, with how many partitions each has.
    async fn topics(&self, prefix: &str) -> Result<Vec<(String, i32)>> {
        let prefix = prefix.to_owned();
        self.ask("ask for topics", move |admin| {
            let metadata = admin.inner().fetch_metadata(None, ASKING)?;
            let ours = metadata.topics().iter().filter(|topic| topic.name().starts_with(&prefix));
            Ok(ours.map(|topic| (topic.name().to_owned(), count(topic.partitions().len()))).collect())
        })
        .await
    }

    async fn groups(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.ask("ask for groups", move |admin| {
            let list = admin.inner().fetch_group_list(None, ASKING)?;
            let ours = list.groups().iter().map(|group| group.name().to_owned());
            Ok(ours.filter(|name| name.starts_with(&prefix)).collect())
        })
        .await
    }

    /// How many records were ever written to topics that begin so.
    async fn written(&self, prefix: &str) -> Result<u64> {
        let topics = self.topics(prefix).await?;
        self.ask("ask for the end of a topic", move |admin| {
            let mut written = 0;
            for (topic, partitions) in topics {
                for partition in 0..partitions {
                    let (_, end) = admin.inner().fetch_watermarks(&topic, partition, ASKING)?;
                    written += u64::try_from(end).unwrap_or(0);
                }
            }
            Ok(written)
        })
        .await
    }

    async fn delete_topics(&self, topics: &[&str]) -> Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        let options = AdminOptions::new().operation_timeout(Some(Timeout::After(ASKING)));
        let deleted = self.admin.delete_topics(topics, &options).await.map_err(cannot("delete topics"))?;
        match deleted.into_iter().find_map(Result::err) {
            Some((_, code)) => Err(Error::caused("kafka did not delete a topic", KafkaError::AdminOp(code))),
            None => Ok(()),
        }
    }

    async fn delete_groups(&self, groups: &[String]) -> Result<()> {
        let names: Vec<&str> = groups.iter().map(String::as_str).collect();
        let deleted = self.admin.delete_groups(&names, &AdminOptions::new()).await;
        match deleted.map_err(cannot("delete groups"))?.into_iter().find_map(Result::err) {
            Some((_, code)) => Err(Error::caused("kafka did not delete a group", KafkaError::AdminOp(code))),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Means for KafkaMeans {
    async fn consumers(&self, source: &str) -> Result<usize> {
        let host = self.hosts.split(',').next().unwrap_or_default();
        kafka_groups::members(host, source).await
    }

    async fn remove_queue(&self, queue: &str) -> Result<()> {
        self.delete_topics(&[queue]).await
    }

    async fn publish(&self, to: &Place, message: &Foreign) -> Result<()> {
        let (Place::Queue(topic) | Place::Topic(topic)) = to;
        let mut config = config(&self.hosts);
        config.set("acks", "all").set("linger.ms", "0").set("message.timeout.ms", "20000");
        let producer: FutureProducer = config.create().map_err(cannot("begin"))?;
        let mut headers = OwnedHeaders::new();
        for (name, value) in &message.headers {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
        if let Some(payload) = &message.payload {
            record = record.payload(payload);
        }
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        let sent = producer.send(record, Timeout::Never).await;
        sent.map(drop).map_err(|(error, _)| cannot("produce")(error))
    }

    async fn take(&self, queue: &str) -> Result<Foreign> {
        let group = queue.to_owned();
        let partitions =
            match &*self.topics(queue).await?.into_iter().filter(|(name, _)| name == queue).collect::<Vec<_>>() {
                [(_, partitions)] => *partitions,
                _ => return Err(Error::failed(format!("kafka has no topic {queue}"))),
            };
        let mut config = config(&self.hosts);
        // The queue's group says where the next message is; nothing is committed to it.
        config.set("group.id", &group).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().map_err(cannot("begin to consume"))?;
        let taking = tokio::task::spawn_blocking(move || take_next(&consumer, &group, partitions));
        taking.await.map_err(|error| Error::caused("reading from kafka was given up", error))?
    }

    async fn before_storing(&self, prefix: &str) -> Result<u64> {
        self.written(prefix).await
    }

    async fn has_stored(&self, prefix: &str, before: u64, count: u32, _proxy: &Proxy) -> Result<bool> {
        Ok(self.written(prefix).await? >= before + u64::from(count))
    }

    async fn sweep(&self, prefix: &str) -> Result<usize> {
        let topics = self.topics(prefix).await?;
        self.delete_topics(&topics.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()).await?;
        let gone = run::until("the end of a case's topics and groups", LAST_MEMBER, || async {
            let groups = self.groups(prefix).await?;
            if !groups.is_empty() {
                self.delete_groups(&groups).await?;
            }
            let left = self.topics(prefix).await?.len() + self.groups(prefix).await?.len();
            if left == 0 { Ok(()) } else { Err(Error::failed(format!("{left} are there"))) }
        });
        match gone.await {
            Ok(()) => Ok(0),
            Err(_) => Ok(self.topics(prefix).await?.len() + self.groups(prefix).await?.len()),
        }
    }

    async fn version(&self) -> Result<String> {
        // The protocol has no request for it.
        Ok(install::KAFKA.to_owned())
    }

    async fn close(&self) {}
}

/// Reads the first record after what the group has committed.
fn take_next(consumer: &BaseConsumer, topic: &str, partitions: i32) -> Result<Foreign> {
    let mut places = TopicPartitionList::new();
    for partition in 0..partitions {
        places.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(places, ASKING).map_err(cannot("ask for offsets"))?;
    let mut places = TopicPartitionList::new();
    for element in committed.elements() {
        let from = match element.offset() {
            Offset::Offset(at) => Offset::Offset(at),
            _ => Offset::Beginning,
        };
        places.add_partition_offset(topic, element.partition(), from).map_err(cannot("choose a partition"))?;
    }
    drop(committed);
    consumer.assign(&places).map_err(cannot("take a partition"))?;
    drop(places);
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return Ok(seen(&message.detach())),
            Some(Err(error)) => return Err(cannot("consume")(error)),
            None => {}
        }
    }
    Err(Error::new(crate::ErrorKind::TimedOut, format!("no message came from {topic} within {PATIENCE:?}")))
}

fn seen(message: &OwnedMessage) -> Foreign {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Foreign {
        payload: message.payload().map(<[u8]>::to_vec),
        key: message.key().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect(),
        properties: Vec::new(),
    }
}

fn config(hosts: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", hosts).set("broker.address.family", "v4").set("socket.timeout.ms", "10000");
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
    config
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn cannot(what: &'static str) -> impl Fn(KafkaError) -> Error {
    move |error| Error::caused(format!("kafka's client could not {what}"), error)
}
