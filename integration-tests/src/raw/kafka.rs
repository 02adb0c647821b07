//! Kafka by `rdkafka`: a topic of one partition, `acks=all`, read from its beginning by offset.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::{Location, RawClient};
use crate::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Client {
    config: ClientConfig,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    /// One a topic, each with its place in it.
    consumers: HashMap<String, Closing>,
}

impl Client {
    pub(super) fn connect(at: &Location) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", at.hosts()).set("broker.address.family", "v4");
        config.set("socket.timeout.ms", "10000").set("message.timeout.ms", "30000");
        // By default it waits up to 10 s before it tries a server again.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
        let protocol = match (at.is_encrypted(), at.login()) {
            (false, None) => "plaintext",
            (false, Some(_)) => "sasl_plaintext",
            (true, None) => "ssl",
            (true, Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some((user, password)) = at.login() {
            config.set("sasl.mechanism", "PLAIN").set("sasl.username", user).set("sasl.password", password);
        }
        if let Some(trust) = at.trust_file() {
            config.set("ssl.ca.location", trust.to_string_lossy());
        }
        let admin = config.create().map_err(cannot("begin"))?;
        let mut producing = config.clone();
        producing.set("acks", "all").set("linger.ms", "0");
        let producer = producing.create().map_err(cannot("begin"))?;
        Ok(Self { config, admin, producer, consumers: HashMap::new() })
    }

    fn consumer(&mut self, topic: &str) -> Result<&BaseConsumer> {
        if !self.consumers.contains_key(topic) {
            let mut config = self.config.clone();
            config.set("group.id", "raw").set("enable.auto.commit", "false");
            let consumer: BaseConsumer = config.create().map_err(cannot("begin to consume"))?;
            let mut partitions = TopicPartitionList::new();
            partitions.add_partition_offset(topic, 0, Offset::Beginning).map_err(cannot("choose a partition"))?;
            consumer.assign(&partitions).map_err(cannot("take a partition"))?;
            self.consumers.insert(topic.to_owned(), Closing(Some(consumer)));
        }
        let found = self.consumers.get(topic).and_then(|closing| closing.0.as_ref());
        found.ok_or_else(|| Error::failed("kafka's client has no consumer"))
    }
}

/// The id of the node that leads the one partition of a topic; none while there is no leader.
pub(crate) async fn leader(url: &str, topic: &str) -> Result<Option<i32>> {
    let client = Client::connect(&Location::parse(url, None)?)?;
    let topic = topic.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let metadata =
            client.admin.inner().fetch_metadata(Some(&topic), METADATA_TIMEOUT).map_err(cannot("ask for leaders"))?;
        let partition = metadata.topics().first().and_then(|topic| topic.partitions().first());
        Ok(partition.map(rdkafka::metadata::MetadataPartition::leader).filter(|leader| *leader >= 0))
    });
    asked.await.map_err(|error| Error::caused("asking kafka for a leader was given up", error))?
}

#[async_trait]
impl RawClient for Client {
    async fn create(&mut self, name: &str) -> Result<()> {
        // As many copies as the server's default says; the other constructors want a number.
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(Timeout::After(METADATA_TIMEOUT)));
        let created = self.admin.create_topics([&topic], &options).await.map_err(cannot("create a topic"))?;
        if let Some(Err((_, code))) = created.into_iter().next() {
            return Err(Error::caused("kafka did not create a topic", KafkaError::AdminOp(code)));
        }
        Ok(())
    }

    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        let record = FutureRecord::<(), str>::to(name).partition(0).payload(text);
        let sent = self.producer.send(record, Timeout::Never).await;
        sent.map(drop).map_err(|(error, _)| cannot("produce")(error))
    }

    async fn take(&mut self, name: &str) -> Result<String> {
        loop {
            match self.consumer(name)?.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    return Ok(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
                }
                // The client goes on by itself: what it says here is that a broker is away just now.
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(cannot("consume")(error)),
                None => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        self.consumers.remove(name);
        let removed = self.admin.delete_topics(&[name], &AdminOptions::new()).await;
        removed.map(drop).map_err(cannot("delete a topic"))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration holds a password.
        to.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A consumer that is closed on a thread of its own: closing waits for a broker that may be dead.
struct Closing(Option<BaseConsumer>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(consumer) = self.0.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;

    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::UnknownTopicOrPartition
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

fn cannot(what: &'static str) -> impl Fn(KafkaError) -> Error {
    move |error| Error::caused(format!("kafka's client could not {what}"), error)
}
