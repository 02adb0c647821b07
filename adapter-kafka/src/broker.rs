//! The broker handle: names, topology, opening and closing.

use std::fmt;
use std::sync::Arc;

use adapter_kit::{EndReason, Opened};
use async_trait::async_trait;
use futures_util::future::join_all;
use messaging_core::spi::{Connecting, Inbox, Replies};
use messaging_core::{
    Broker, Capabilities, ConnectOptions, Consumer, Destination, DrainReport, Error, ErrorKind, Health, Identity,
    Inspect, Names, Place, PublishOptions, Publisher, Repair, ReplyAddress, Result, Scope, Topology, TopologyMode,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::DRIVER;
use crate::capabilities;
use crate::config::{ConnectionOptions, DestinationOptions};
use crate::connection::Connection;
use crate::consumer::{Opening, Settings, Shared, open};
use crate::publisher::{KafkaPublisher, Target, TargetTopic};
use crate::requester::KafkaReplies;
use crate::topology::{Topics, ensure};

/// One connection to a cluster. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct KafkaBroker(Arc<Inner>);

struct Inner {
    identity: Identity,
    names: Names,
    connection: Arc<Connection>,
    /// Runtime on which the broker was opened. Tasks of its handles live there, whichever runtime opens them.
    runtime: Handle,
    consumers: Opened<Shared>,
    publishers: Opened<KafkaPublisher>,
}

/// Opens a broker: the connect function of [`DRIVER`].
pub(crate) fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(KafkaBroker::open(options).await?) as Arc<dyn Broker>) })
}

impl KafkaBroker {
    async fn open(options: ConnectOptions) -> Result<Self> {
        let identity = options.identity(DRIVER.name);
        let names = options.names();
        let options = ConnectionOptions::read(&options)?;
        let url = options.url().clone();
        let connection = Connection::open(options).await.map_err(|error| redacted(&url, error))?;
        let (consumers, publishers) = (Opened::new(), Opened::new());
        let runtime = Handle::current();
        Ok(Self(Arc::new(Inner { identity, names, connection, runtime, consumers, publishers })))
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(crate) fn topology_mode(&self) -> TopologyMode {
        self.0.identity.topology_mode()
    }

    /// The names of topics and groups. A source's group is called as the source is.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn options(&self, destination: &Destination) -> &DestinationOptions {
        self.connection().options.destination(destination)
    }

    pub(crate) fn scope(&self, place: impl fmt::Display) -> Scope {
        self.0.identity.scope(place)
    }

    /// The consumers that were opened here and are still there.
    pub(crate) fn consumers(&self) -> Vec<Arc<Shared>> {
        self.0.consumers.live()
    }

    /// Makes or verifies the topics of a destination, as the topology mode says; returns the number of partitions of each.
    pub(crate) async fn ensure(&self, destination: &Destination, topics: &Topics) -> Result<Vec<i32>> {
        let options = self.options(destination);
        ensure(self.connection(), self.topology_mode(), &destination.to_string(), topics, options).await
    }

    /// The same before something is consumed, which needs the main topic whatever the mode.
    pub(crate) async fn ensure_readable(&self, destination: &Destination, topics: &Topics) -> Result<Vec<i32>> {
        self.connection().check_open()?;
        let counts = self.ensure(destination, topics).await?;
        if counts.first() == Some(&0) {
            return Err(Error::missing(destination, &topics.main));
        }
        Ok(counts)
    }

    /// Opens a consumer and remembers it, to be closed with the broker.
    pub(crate) async fn open_consumer(
        &self,
        settings: Settings,
        opening: Opening,
        place: &(dyn fmt::Display + Sync),
    ) -> Result<Consumer> {
        self.connection().check_open()?;
        let (consumer, shared) = open(settings, opening, self.scope(place)).await?;
        self.0.consumers.add(&shared).inspect_err(|_| {
            shared.outlet.end(EndReason::closed());
            shared.feed.leave();
        })?;
        Ok(consumer)
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
        let publisher =
            KafkaPublisher::new(self.scope(destination), target, connection, sender, options, self.runtime());
        self.0.publishers.add(&publisher).inspect_err(|_| publisher.core().in_flight().close())?;
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

#[async_trait]
impl Broker for KafkaBroker {
    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        let connection = &self.connection().options;
        let destination = of.destination();
        let options =
            destination.as_ref().map_or(connection.destinations.defaults(), |destination| self.options(destination));
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
        let consumers = self.0.consumers.close();
        let drains = consumers.iter().map(|consumer| async move {
            // Set the error before stopping: a pending receive must fail with `Closed`, not end as stopped.
            consumer.outlet.end(EndReason::closed());
            consumer.outlet.drain(by).await
        });
        let reports = join_all(drains).await;
        self.0.publishers.close().iter().for_each(|publisher| publisher.core().in_flight().close());
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
