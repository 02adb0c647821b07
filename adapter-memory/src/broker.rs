//! The broker handle: names, topology, opening and closing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use messaging_core::spi::{Connecting, Inbox, PublisherCore, Replies};
use messaging_core::{
    Broker, BrokerName, Capabilities, ConnectOptions, ConsumeOptions, Consumer, Destination, Destinations, DrainReport,
    Durability, Error, ErrorKind, Faults, Flow, Health, HealthState, Identity, Inspect, Names, Place, PublishOptions,
    Publisher, QueueConsumer, QueueName, Repair, Result, Source, SubscribeOptions, Subscriber, TopicName, Topology,
    TopologyMode, Transaction,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::DRIVER;
use crate::backlog::Backlog;
use crate::capabilities;
use crate::config::DestinationOptions;
use crate::consumer::{Attachment, MemoryDeliveries};
use crate::publisher::{Assumed, MemoryPublisher, Sends, Target};
use crate::request::MemoryReplies;
use crate::server::{Link, Server};
use crate::topic::Topic;
use crate::transaction::MemoryTransaction;

/// One connection to a memory server. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct MemoryBroker(Arc<Inner>);

struct Inner {
    identity: Identity,
    names: Names,
    destinations: Destinations<DestinationOptions>,
    server: Arc<Server>,
    closed: Arc<AtomicBool>,
    consumers: Mutex<Vec<Weak<Attachment>>>,
    senders: Mutex<Vec<Weak<Sends>>>,
    inboxes: Mutex<Vec<Weak<Inbox>>>,
}

/// Opens a broker: the connect function of [`DRIVER`].
pub(crate) fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move {
        let server = Server::at(&options.url);
        Ok(Arc::new(MemoryBroker::open(server, options)?) as Arc<dyn Broker>)
    })
}

impl MemoryBroker {
    pub(crate) fn with_defaults(server: Arc<Server>) -> Self {
        let identity = Identity::new(BrokerName::main(), DRIVER.name, TopologyMode::Create);
        Self::build(server, identity, Names::new(None), Destinations::default())
    }

    pub(crate) fn open(server: Arc<Server>, options: ConnectOptions) -> Result<Self> {
        let identity = options.identity(DRIVER.name);
        let names = options.names();
        let ConnectOptions { name: _, url, namespace: _, topology: _, destinations, settings } = options;
        if url.user().is_some() || !url.path().is_empty() || url.hosts().len() > 1 {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "{url} is not an address of a memory broker: write \"memory://\" or \"memory://name\", with parameters after \"?\""
                ),
            ));
        }
        let (mut defaults, mut faults) = (DestinationOptions::default(), Faults::default());
        for mut settings in [settings, url.parameters()] {
            defaults.take(&mut settings);
            settings.finish_into(&mut faults);
        }
        let take = DestinationOptions::take_destination;
        let destinations = Destinations::read(defaults, &destinations, &mut faults, take);
        faults.into_result()?;
        Ok(Self::build(server, identity, names, destinations))
    }

    fn build(
        server: Arc<Server>,
        identity: Identity,
        names: Names,
        destinations: Destinations<DestinationOptions>,
    ) -> Self {
        let closed = Arc::default();
        let (consumers, senders, inboxes) = Default::default();
        Self(Arc::new(Inner { identity, names, destinations, server, closed, consumers, senders, inboxes }))
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.0.server
    }

    /// The names at the server.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn options(&self, destination: &Destination) -> &DestinationOptions {
        self.0.destinations.of(destination)
    }

    /// The backlog of a source.
    pub(crate) fn source(&self, source: &Source) -> Result<Arc<Backlog>> {
        self.check_open()?;
        let full = self.names().source(source);
        let found = match source {
            Source::Queue(_) => self.server().queue(&full),
            Source::Subscription(topic, _) => {
                let topic = self.names().destination(&Destination::Topic(topic.clone()));
                self.server().topic(&topic).and_then(|topic| topic.subscription(&full))
            }
        };
        found.ok_or_else(|| Error::missing(source, &full))
    }

    /// The queue, made or verified by the topology mode; none if it is only assumed.
    pub(crate) fn queue(&self, name: &QueueName) -> Result<Option<Arc<Backlog>>> {
        let destination = Destination::Queue(name.clone());
        let (physical, options) = (self.names().destination(&destination), self.options(&destination));
        let make = || Backlog::queue(Source::Queue(name.clone()), options.clone(), self.server().clock);
        let queue = match self.0.identity.topology_mode() {
            TopologyMode::Create => self.server().queue_or_insert(&physical, make),
            TopologyMode::Verify => {
                self.server().queue(&physical).ok_or_else(|| Error::missing(&destination, &physical))?
            }
            TopologyMode::Assume => return Ok(self.server().queue(&physical)),
        };
        same(&destination, &queue.options, options)?;
        if options.order == messaging_core::Order::ByKey {
            queue.lock().keep_order();
        }
        Ok(Some(queue))
    }

    /// The topic, made or verified by the topology mode; none if it is only assumed.
    pub(crate) fn topic(&self, name: &TopicName) -> Result<Option<Arc<Topic>>> {
        let destination = Destination::Topic(name.clone());
        let (physical, options) = (self.names().destination(&destination), self.options(&destination));
        let topic = match self.0.identity.topology_mode() {
            TopologyMode::Create => self.server().topic_or_insert(&physical, options.clone(), name),
            TopologyMode::Verify => {
                self.server().topic(&physical).ok_or_else(|| Error::missing(&destination, &physical))?
            }
            TopologyMode::Assume => return Ok(self.server().topic(&physical)),
        };
        same(&destination, &topic.options, options)?;
        Ok(Some(topic))
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::closed("the broker"));
        }
        Ok(())
    }

    /// Fails as a connection attempt does while the server is stopped.
    pub(crate) fn check_link(&self) -> Result<()> {
        self.check_open()?;
        match self.server().link() {
            Link::Up => Ok(()),
            Link::Down => Err(Error::new(ErrorKind::Unreachable, "the memory server is stopped")),
            Link::BlackHole => Err(Error::new(ErrorKind::Timeout, "the memory server does not answer")),
        }
    }

    pub(crate) fn target(&self, destination: &Destination) -> Result<Target> {
        let assumed = |is_queue| {
            Target::Assumed(Assumed {
                physical: self.names().destination(destination),
                place: destination.to_string(),
                is_queue,
            })
        };
        Ok(match destination {
            Destination::Queue(queue) => self.queue(queue)?.map_or_else(|| assumed(true), Target::Queue),
            Destination::Topic(topic) => self.topic(topic)?.map_or_else(|| assumed(false), Target::Topic),
            Destination::Reply(address) => Target::Reply(address.clone()),
        })
    }

    pub(crate) fn add_inbox(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.0.inboxes.lock();
        inboxes.retain(|known| known.strong_count() > 0);
        inboxes.push(Arc::downgrade(inbox));
    }

    /// The consumers that were opened here and are still there.
    pub(crate) fn consumers(&self) -> Vec<Arc<Attachment>> {
        self.0.consumers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn consumer(
        &self,
        place: impl fmt::Display,
        backlog: Arc<Backlog>,
        ephemeral_of: Option<Arc<Topic>>,
        options: &ConsumeOptions,
    ) -> Consumer {
        let capabilities = Arc::new(capabilities::of(&backlog.options, backlog.feed().is_some()));
        let deliveries =
            MemoryDeliveries::attach(self.server(), backlog, ephemeral_of, options, Arc::clone(&capabilities));
        let mut consumers = self.0.consumers.lock();
        consumers.retain(|known| known.strong_count() > 0);
        consumers.push(deliveries.attachment());
        drop(consumers);
        // Closed while this was opened: `close` may not have seen it.
        if self.check_open().is_err() {
            deliveries.close();
        }
        Consumer::new(Box::new(deliveries), capabilities, self.0.identity.scope(place))
    }
}

fn same(destination: &Destination, is: &DestinationOptions, asked: &DestinationOptions) -> Result<()> {
    let differences = is.differences(asked);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::differs(destination, differences.join(", ")))
}

#[async_trait]
impl QueueConsumer for MemoryBroker {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        self.check_link()?;
        let destination = Destination::Queue(queue.clone());
        let backlog =
            self.queue(queue)?.ok_or_else(|| Error::missing(&destination, &self.names().destination(&destination)))?;
        Ok(self.consumer(destination, backlog, None, &options))
    }
}

#[async_trait]
impl Subscriber for MemoryBroker {
    async fn subscribe(&self, topic: &TopicName, options: SubscribeOptions) -> Result<Consumer> {
        self.check_link()?;
        let SubscribeOptions { durability, start, filter, consume } = options;
        let destination = Destination::Topic(topic.clone());
        let found =
            self.topic(topic)?.ok_or_else(|| Error::missing(&destination, &self.names().destination(&destination)))?;
        Ok(match durability {
            Durability::Durable(name) => {
                let backlog = found.subscribe(self.names(), &name, start, filter.as_ref())?;
                self.consumer(Source::Subscription(topic.clone(), name), backlog, None, &consume)
            }
            Durability::Ephemeral => {
                let backlog = found.attach(filter.as_ref());
                self.consumer(format!("an ephemeral subscription of {destination}"), backlog, Some(found), &consume)
            }
        })
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        let destination = of.destination();
        let options =
            destination.as_ref().map_or(self.0.destinations.defaults(), |destination| self.options(destination));
        capabilities::of(options, matches!(destination, Some(Destination::Topic(_))))
    }

    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        self.check_link()?;
        let target = self.target(destination)?;
        let closed = Arc::clone(&self.0.closed);
        let core = PublisherCore::new(self.0.identity.scope(destination), &options);
        let publisher = MemoryPublisher::new(core, Arc::clone(self.server()), closed, target, options);
        let mut senders = self.0.senders.lock();
        senders.retain(|known| known.strong_count() > 0);
        senders.push(Arc::downgrade(publisher.sends()));
        Ok(Arc::new(publisher))
    }

    fn health(&self) -> Health {
        if self.check_open().is_err() {
            return Health::not_up(
                HealthState::Down,
                format!("broker {:?} was closed", self.0.identity.name().as_str()),
            );
        }
        match self.server().link() {
            Link::Up => Health::up(),
            Link::Down => Health::not_up(HealthState::Down, "the memory server is stopped"),
            Link::BlackHole => Health::not_up(HealthState::Down, "the memory server does not answer"),
        }
    }

    async fn close(&self, by: Instant) -> DrainReport {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return DrainReport::default();
        }
        let senders: Vec<_> = self.0.senders.lock().drain(..).filter_map(|sends| sends.upgrade()).collect();
        for sends in senders {
            sends.close();
        }
        self.0.inboxes.lock().drain(..).filter_map(|inbox| inbox.upgrade()).for_each(|inbox| inbox.close());
        let consumers = self.consumers();
        for consumer in &consumers {
            // In this order: closed is what a receive that waits has to say.
            consumer.close();
            messaging_core::Control::set_flow(&**consumer, Flow::Stopped);
        }
        let mut report = DrainReport::default();
        for consumer in consumers {
            report = report.and(consumer.drain(by).await);
            consumer.closed();
        }
        report
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
        self.check_link()?;
        Ok(Arc::new(MemoryReplies::new(self.clone(), &inbox)))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        self.check_link()?;
        Ok(Box::new(MemoryTransaction::new(self.clone())))
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker")
            .field("name", self.0.identity.name())
            .field("server", &self.0.server)
            .finish_non_exhaustive()
    }
}
