//! The broker handle: names, topology, opening and closing.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures_util::future::join_all;
use messaging_core::{
    Broker, Capabilities, ConnectOptions, Connecting, ConsumeOptions, Consumer, Destination, Destinations, DrainReport,
    Error, ErrorKind, Health, Identity, Inbox, Inspect, Names, Place, PublishOptions, Publisher, QueueConsumer,
    QueueName, Repair, Replies, ReplyAddress, Result, Scope, SubscribeOptions, Subscriber, TopicName, Topology,
    TopologyMode,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::DRIVER;
use crate::capabilities;
use crate::config::{ConnectionOptions, DestinationOptions};
use crate::connection::Connection;
use crate::consumer::{End, Intake};
use crate::publisher::{KafkaPublisher, Target, TargetTopic};
use crate::requester::KafkaReplies;
use crate::topology::Topics;

/// One connection to a cluster. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct KafkaBroker(Arc<Inner>);

struct Inner {
    identity: Identity,
    names: Names,
    destinations: Destinations<DestinationOptions>,
    connection: Arc<Connection>,
    consumers: Mutex<Vec<Weak<Intake>>>,
    publishers: Mutex<Vec<Weak<KafkaPublisher>>>,
}

/// Opens a broker: the connect function of [`DRIVER`].
pub(crate) fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(KafkaBroker::open(options).await?) as Arc<dyn Broker>) })
}

impl KafkaBroker {
    async fn open(options: ConnectOptions) -> Result<Self> {
        let identity = options.identity(DRIVER.name);
        let names = options.names();
        let ConnectOptions { name: _, url, namespace: _, topology: _, destinations, settings } = options;
        let connection = ConnectionOptions::read(&url, settings)?;
        let defaults = connection.destinations.clone();
        let destinations = Destinations::read(defaults, destinations, DestinationOptions::with_destination)?;
        let largest = destinations.iter().map(DestinationOptions::largest).max().unwrap_or(0);
        let connection = Connection::open(connection, largest).await.map_err(|error| redacted(&url, error))?;
        let (consumers, publishers) = Default::default();
        Ok(Self(Arc::new(Inner { identity, names, destinations, connection, consumers, publishers })))
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    pub(crate) fn topology_mode(&self) -> TopologyMode {
        self.0.identity.topology_mode()
    }

    /// The names of topics and groups. A source's group is called as the source is.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn options(&self, destination: &Destination) -> &DestinationOptions {
        self.0.destinations.of(destination)
    }

    pub(crate) fn scope(&self, place: impl fmt::Display) -> Scope {
        self.0.identity.scope(place)
    }

    /// Remembers a consumer, to be closed with the broker.
    pub(crate) fn register(&self, intake: Arc<Intake>) {
        let mut consumers = self.0.consumers.lock();
        consumers.retain(|known| known.strong_count() > 0);
        consumers.push(Arc::downgrade(&intake));
        drop(consumers);
        // Closed while this was opened: `close` may not have seen it.
        if self.connection().is_closed() {
            intake.end(closed());
            intake.leave();
        }
    }

    /// The consumers that were opened here and are still there.
    pub(crate) fn consumers(&self) -> Vec<Arc<Intake>> {
        self.0.consumers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    async fn target(&self, destination: &Destination) -> Result<Target> {
        let topics = match destination {
            Destination::Reply(address) => return reply_target(address),
            Destination::Queue(_) | Destination::Topic(_) => Topics::of_destination(self.names(), destination),
        };
        let counts = self.ensure(destination, &topics).await?;
        let topic = |name: &String| {
            // An operator may have added partitions to one topic, and not to the other.
            let at = topics.all().iter().position(|one| one == name);
            TargetTopic::new(name.clone(), at.and_then(|at| counts.get(at)).copied().unwrap_or(0))
        };
        let delayed = topics.delayed.as_ref().or(topics.retry.as_ref()).map(topic);
        Ok(Target { main: topic(&topics.main), delayed, reply: None })
    }

    pub(crate) async fn open_publisher(
        &self,
        destination: &Destination,
        options: &PublishOptions,
    ) -> Result<Arc<KafkaPublisher>> {
        self.connection().check_open()?;
        // It warms up while topics are looked after.
        let sender = self.connection().sender(options.timeout)?;
        let target = self.target(destination).await?;
        sender.warm(vec![target.main.name.clone()]).await;
        let connection = Arc::clone(self.connection());
        let publisher = KafkaPublisher::new(self.scope(destination), target, connection, sender, options);
        let mut publishers = self.0.publishers.lock();
        publishers.retain(|known| known.strong_count() > 0);
        publishers.push(Arc::downgrade(&publisher));
        drop(publishers);
        if self.connection().is_closed() {
            publisher.core().in_flight().close();
        }
        Ok(publisher)
    }
}

/// An address as requesters write it: topic, partition, and what the requester is called.
fn reply_target(address: &ReplyAddress) -> Result<Target> {
    let mut parts = address.as_str().split('/');
    let reply = match (parts.next(), parts.next().and_then(|number| number.parse().ok()), parts.next()) {
        (Some(topic), Some(partition), Some(requester)) => Some((topic, partition, requester)),
        _ => None,
    };
    let Some((topic, partition, requester)) = reply else {
        return Err(Error::new(
            ErrorKind::InvalidName,
            format!("{:?} is not a reply address of this kind of broker", address.as_str()),
        ));
    };
    let reply = Some((partition, requester.to_owned()));
    Ok(Target { main: TargetTopic::new(topic.to_owned(), 0), delayed: None, reply })
}

/// An error whose text may hold what the user wrote into the address.
fn redacted(url: &messaging_core::BrokerUrl, error: Error) -> Error {
    let text = url.redact(error.text());
    if text == error.text() { error } else { Error::new(error.kind(), text) }
}

fn closed() -> End {
    End::new(ErrorKind::Closed, "the broker was closed: open it again")
}

#[async_trait]
impl QueueConsumer for KafkaBroker {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        self.connection().check_open()?;
        let capabilities = Arc::new(Broker::capabilities(self, Place::Consume(queue, &options)));
        self.consume_queue(queue, options, capabilities).await
    }
}

#[async_trait]
impl Subscriber for KafkaBroker {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        self.connection().check_open()?;
        let capabilities = Arc::new(Broker::capabilities(self, Place::Subscribe(topic, &options)));
        self.subscribe_topic(topic, options, capabilities).await
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        let connection = &self.connection().options;
        let destination = of.destination();
        let options = destination.as_ref().map_or(&connection.destinations, |destination| self.options(destination));
        capabilities::of(connection, options, of)
    }

    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        Ok(self.open_publisher(destination, &options).await?)
    }

    fn health(&self) -> Health {
        let consumers = self.consumers();
        consumers.iter().fold(self.connection().health(), |health, consumer| health.and(consumer.health()))
    }

    async fn close(&self, by: Instant) -> DrainReport {
        if !self.connection().begin_close() {
            return DrainReport::default();
        }
        // Consumers first: their handlers may still publish, retry and dead-letter.
        let consumers = self.consumers();
        let drains = consumers.iter().map(|consumer| async move {
            // Set the error before stopping: a pending receive must fail with `Closed`, not end as stopped.
            consumer.end(closed());
            consumer.drain(by).await
        });
        let reports = join_all(drains).await;
        let publishers: Vec<_> = self.0.publishers.lock().drain(..).filter_map(|known| known.upgrade()).collect();
        publishers.iter().for_each(|publisher| publisher.core().in_flight().close());
        self.connection().close();
        let senders = self.connection().take_senders();
        let _ = join_all(senders.iter().map(|sender| timeout_at(by, sender.tickets().flushed()))).await;
        for sender in &senders {
            sender.abandon();
        }
        self.connection().drop_copies();
        reports.into_iter().fold(DrainReport::default(), DrainReport::and)
    }

    fn topology(&self) -> &dyn Topology {
        self
    }

    fn inspect(&self) -> &dyn Inspect {
        self
    }

    fn repair(&self) -> &dyn Repair {
        self
    }

    async fn replies(&self, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        self.connection().check_open()?;
        Ok(Arc::new(KafkaReplies::open(self, inbox).await?))
    }
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBroker").field("name", self.0.identity.name()).finish_non_exhaustive()
    }
}
