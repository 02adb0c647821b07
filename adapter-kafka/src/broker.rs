//! The broker handle: names, topology, opening and closing.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use messaging_core::{
    Admin, Broker, BrokerName, Capabilities, ConnectOptions, Connecting, ConsumeOptions, Consumer, Destination,
    Destinations, DrainReport, Error, ErrorKind, Health, HealthState, Names, PublishOptions, Publisher, QueueConsumer,
    QueueName, ReplyAddress, Requester, Result, Scope, SubscribeOptions, Subscriber, TopicName, TopologyMode,
    Transaction, Usage,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::DRIVER;
use crate::capabilities;
use crate::config::{ConnectionOptions, DestinationOptions};
use crate::connection::Connection;
use crate::consumer::{End, Intake};
use crate::publisher::{KafkaPublisher, Target, TargetTopic};
use crate::requester::KafkaRequester;
use crate::topology::Topics;

/// A broker that stands still is lost again each time that a client has tried it, every six seconds; the others answer for it
/// when they are asked.
const LOST_LATELY: Duration = Duration::from_secs(8);

/// One connection to a cluster. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct KafkaBroker(Arc<Inner>);

struct Inner {
    name: BrokerName,
    names: Names,
    topology: TopologyMode,
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
        let names = options.names();
        let ConnectOptions { name, url, namespace: _, topology, destinations, settings } = options;
        let connection = ConnectionOptions::read(&url, settings)?;
        let defaults = connection.destinations.clone();
        let destinations = Destinations::read(defaults, destinations, DestinationOptions::with_destination)?;
        let largest = destinations.iter().map(DestinationOptions::largest).max().unwrap_or(0);
        let connection = Connection::open(connection, largest).await.map_err(|error| redacted(&url, error))?;
        let (consumers, publishers) = Default::default();
        Ok(Self(Arc::new(Inner { name, names, topology, destinations, connection, consumers, publishers })))
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    pub(crate) fn topology(&self) -> TopologyMode {
        self.0.topology
    }

    /// The names of topics and groups. A source's group is called as the source is.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn options(&self, destination: &Destination) -> &DestinationOptions {
        self.0.destinations.of(destination)
    }

    pub(crate) fn scope(&self, place: impl fmt::Display) -> Scope {
        Scope::new(self.0.name.clone(), DRIVER.name, place)
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
            publisher.in_flight.close();
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
        let destination = Destination::Queue(queue.clone());
        let capabilities = Arc::new(Broker::capabilities(self, &destination, Usage::Consume(&options)));
        self.consume_queue(queue, options, capabilities).await
    }
}

#[async_trait]
impl Subscriber for KafkaBroker {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        self.connection().check_open()?;
        let destination = Destination::Topic(topic.clone());
        let capabilities = Arc::new(Broker::capabilities(self, &destination, Usage::Subscribe(&options)));
        self.subscribe_topic(topic, options, capabilities).await
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn name(&self) -> &BrokerName {
        &self.0.name
    }

    fn driver(&self) -> &'static str {
        DRIVER.name
    }

    fn capabilities(&self, destination: &Destination, usage: Usage<'_>) -> Capabilities {
        capabilities::of(&self.connection().options, self.options(destination), usage)
    }

    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        Ok(self.open_publisher(destination, &options).await?)
    }

    async fn requester(&self) -> Result<Arc<dyn Requester>> {
        self.connection().check_open()?;
        Ok(KafkaRequester::open(self).await?)
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Err(Error::new(ErrorKind::Unsupported, capabilities::NO_TRANSACTIONS))
    }

    fn admin(&self) -> &dyn Admin {
        self
    }

    fn health(&self) -> Health {
        let mut health = self.connection().health();
        for consumer in self.consumers() {
            if let Some(end) = consumer.ended().filter(|end| end.kind != ErrorKind::Closed) {
                let text = format!("a consumer of topic {:?} has ended: {}", consumer.settings.topics.main, end.text);
                health = health.and(Health::not_up(HealthState::Degraded, text));
            } else if let Some(ago) = consumer.lost.lock().map(|at| at.elapsed()).filter(|ago| *ago < LOST_LATELY) {
                let topic = &consumer.settings.topics.main;
                let text = format!("a consumer of topic {topic:?} lost a broker that it reads from, {ago:?} ago");
                health = health.and(Health::not_up(HealthState::Degraded, text));
            }
        }
        health
    }

    async fn close(&self, by: Instant) -> DrainReport {
        if !self.connection().close() {
            return DrainReport::default();
        }
        let publishers: Vec<_> = self.0.publishers.lock().drain(..).filter_map(|known| known.upgrade()).collect();
        publishers.iter().for_each(|publisher| publisher.in_flight.close());
        let consumers = self.consumers();
        let drains = consumers.iter().map(|consumer| async move {
            // In this order: closed is what a receive that waits has to say.
            consumer.end(closed());
            consumer.drain(by).await
        });
        let senders = self.connection().take_senders();
        let flushes = senders.iter().map(|sender| timeout_at(by, sender.tickets().flushed()));
        let (reports, _) = futures_util::future::join(join_all(drains), join_all(flushes)).await;
        for sender in &senders {
            sender.abandon();
        }
        self.connection().drop_copies();
        reports.into_iter().fold(DrainReport::default(), DrainReport::and)
    }
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBroker").field("name", &self.0.name).finish_non_exhaustive()
    }
}
