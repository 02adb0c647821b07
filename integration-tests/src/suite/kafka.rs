//! What the harness does at Kafka, by `rdkafka`, and by two requests of its protocol that `rdkafka` has no call for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier},
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
use crate::{Error, Result, Way, native, proxy::Proxy, raw::Location, raw::kafka_groups, run};

/// How large a record of a topic may be.
const LARGEST: &str = "max.message.bytes";
const ASKING: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// A member that was killed stays in its group until its session ends, and its group cannot be removed before.
const LAST_MEMBER: Duration = Duration::from_secs(50);

pub(super) struct KafkaMeans {
    hosts: String,
    way: Way,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl KafkaMeans {
    pub(super) fn new(url: &str, way: Way) -> Result<Self> {
        let hosts = Location::parse(url, None)?.hosts();
        let admin = Arc::new(config(&hosts).create().map_err(cannot("begin"))?);
        Ok(Self { hosts, way, admin })
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

    /// What is set of a topic itself.
    async fn overrides(&self, topic: &str) -> Result<HashMap<String, String>> {
        let described = self.admin.describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await;
        let mut set = HashMap::new();
        for resource in described.map_err(cannot("describe a topic"))? {
            let resource =
                resource.map_err(|code| Error::caused("kafka did not describe a topic", KafkaError::AdminOp(code)))?;
            let own = resource.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
            set.extend(own.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(set)
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

    async fn set_refusing(&self, queue: &str, refusing: bool) -> Result<()> {
        // Every record is larger than this; the other settings have to be said again, or they are lost.
        let mut set = self.overrides(queue).await?;
        // Otherwise it takes as much as the adapter has such topics take.
        let largest = if refusing { "1" } else { "2147483647" };
        set.insert(LARGEST.to_owned(), largest.to_owned());
        let config = AlterConfig {
            specifier: ResourceSpecifier::Topic(queue),
            entries: set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        let altered = self.admin.alter_configs([&config], &AdminOptions::new()).await;
        if let Some((_, code)) = altered.map_err(cannot("alter a topic"))?.into_iter().find_map(Result::err) {
            return Err(Error::caused("kafka did not alter a topic", KafkaError::AdminOp(code)));
        }
        // The controller has it; the broker that takes the records may hear of it a moment later.
        run::until("a topic's new setting", PATIENCE, || async {
            let is_refusing = self.overrides(queue).await?.get(LARGEST).is_some_and(|bytes| bytes == "1");
            if is_refusing == refusing { Ok(()) } else { Err(Error::failed("it has the old one")) }
        })
        .await
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
        let topic = queue.to_owned();
        let partitions =
            match &*self.topics(queue).await?.into_iter().filter(|(name, _)| name == queue).collect::<Vec<_>>() {
                [(_, partitions)] => *partitions,
                _ => return Err(Error::failed(format!("kafka has no topic {queue}"))),
            };
        let mut config = config(&self.hosts);
        // A consumer has to have a group; nothing is committed to this one.
        config.set("group.id", "raw").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().map_err(cannot("begin to consume"))?;
        let taking = tokio::task::spawn_blocking(move || take_last(&consumer, &topic, partitions));
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
        // The protocol has no request for it: of a server that runs from files of this machine, they tell.
        match self.way {
            Way::Native => native::kafka_version(),
            Way::Container | Way::Environment => Ok("of an unknown version".to_owned()),
        }
    }

    async fn close(&self) {}
}

/// Reads the last record of every partition, and gives the youngest: what a group has read is its own affair.
fn take_last(consumer: &BaseConsumer, topic: &str, partitions: i32) -> Result<Foreign> {
    let mut places = TopicPartitionList::new();
    for partition in 0..partitions {
        let ends = consumer.fetch_watermarks(topic, partition, ASKING).map_err(cannot("ask for the end of a topic"))?;
        if ends.1 > ends.0 {
            let last = Offset::Offset(ends.1 - 1);
            places.add_partition_offset(topic, partition, last).map_err(cannot("choose a partition"))?;
        }
    }
    let wanted = places.count();
    consumer.assign(&places).map_err(cannot("take a partition"))?;
    // A list that lives would keep the consumer from ending.
    drop(places);
    let end = Instant::now() + PATIENCE;
    let mut found: BTreeMap<i32, OwnedMessage> = BTreeMap::new();
    while found.len() < wanted && Instant::now() < end {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => drop(found.insert(message.partition(), message.detach())),
            Some(Err(error)) => return Err(cannot("consume")(error)),
            None => {}
        }
    }
    let youngest = found.values().max_by_key(|message| message.timestamp().to_millis());
    youngest.map(seen).ok_or_else(|| {
        Error::new(crate::ErrorKind::TimedOut, format!("no message came from {topic} within {PATIENCE:?}"))
    })
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
