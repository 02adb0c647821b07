//! The broker handle: opening, health, and closing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, join3};
use messaging_core::spi::{Connecting, Inbox, Replies};
use messaging_core::{
    Broker, Capabilities, ConnectOptions, Consumer, Destination, DrainReport, Error, ErrorKind, Health, Identity,
    Inspect, Names, Order, Place, PublishOptions, Publisher, Repair, Result, Scope,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::DRIVER;
use crate::capabilities;
use crate::config::Config;
use crate::connection::Link;
use crate::consumer::{self, Consumed, ConsumerContext, Handle, Plan, Shared};
use crate::delay::Delays;
use crate::error::closed;
use crate::layout::Target;
use crate::publisher::{RabbitPublisher, SharedPublisher};
use crate::requester::{RabbitReplies, receive_replies};
use crate::topology::Topology;
use crate::writer::{Purpose, Writer, WriterContext, WriterState};

/// How long the broker may take to confirm a retry, a dead letter or a reply.
const COPY_TIMEOUT: Duration = Duration::from_secs(30);

/// The connections to one RabbitMQ. Clones are the same.
#[derive(Clone)]
pub(crate) struct RabbitBroker(Arc<Inner>);

struct Inner {
    identity: Identity,
    config: Arc<Config>,
    names: Names,
    publishing: Arc<Link>,
    consuming: Arc<Link>,
    declaring: Arc<Link>,
    topology: Arc<Topology>,
    delays: Arc<Delays>,
    copies: Writer,
    tasks: TaskTracker,
    is_closed: AtomicBool,
    opened: Mutex<Opened>,
}

/// What was opened, as long as it lives.
#[derive(Default)]
struct Opened {
    consumers: Vec<(Weak<Shared>, Handle)>,
    publishers: Vec<Weak<RabbitPublisher>>,
    inboxes: Vec<Weak<Inbox>>,
    requests: Vec<Weak<WriterState>>,
}

/// Opens a broker: the connect function of [`DRIVER`].
pub(crate) fn connect(options: ConnectOptions) -> Connecting {
    Box::pin(async move { Ok(Arc::new(RabbitBroker::open(options).await?) as Arc<dyn Broker>) })
}

impl RabbitBroker {
    async fn open(options: ConnectOptions) -> Result<Self> {
        let config = Arc::new(Config::new(&options)?);
        let identity = options.identity(DRIVER.name);
        let names = options.names();
        let ConnectOptions { name: _, namespace: _, topology, url: _, destinations: _, settings: _ } = options;
        let consuming = Arc::new(Link::open(config.clone(), "consume").await?);
        let publishing = Arc::new(Link::open(config.clone(), "publish").await?);
        // Declarations go over a connection that never publishes, because a blocked one answers nothing; and that is theirs alone,
        // because each thing that is looked for and missing costs a channel number, until the connection is replaced.
        let declaring = Arc::new(Link::open(config.clone(), "declare").await?);
        let topology = Arc::new(Topology::new(declaring.clone(), config.clone(), names.clone(), topology));
        let delays = Arc::new(Delays::new(topology.clone()));
        let tasks = TaskTracker::new();
        let around = WriterContext {
            link: publishing.clone(),
            topology: topology.clone(),
            delays: delays.clone(),
            tasks: tasks.clone(),
            broker: identity.name().clone(),
        };
        let copies = Writer::start(around, Purpose::Copies, 10_000, COPY_TIMEOUT);
        Ok(Self(Arc::new(Inner {
            identity,
            config,
            names,
            publishing,
            consuming,
            declaring,
            topology,
            delays,
            copies,
            tasks,
            is_closed: AtomicBool::new(false),
            opened: Mutex::default(),
        })))
    }

    fn check_open(&self) -> Result<()> {
        if self.0.is_closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.0.topology
    }

    pub(crate) fn delays(&self) -> &Delays {
        &self.0.delays
    }

    pub(crate) fn copies(&self) -> &Writer {
        &self.0.copies
    }

    pub(crate) fn target(&self, destination: &Destination) -> Result<Target> {
        Target::of(destination, &self.0.names, &self.0.config)
    }

    pub(crate) fn scope(&self, place: impl fmt::Display) -> Scope {
        self.0.identity.scope(place)
    }

    pub(crate) fn capabilities_of(&self, place: Place<'_>) -> Arc<Capabilities> {
        Arc::new(capabilities::of(&self.0.config, place))
    }

    /// Key order is laid out before the first publish; asked for later, it would not be kept.
    pub(crate) fn check_layout(&self, destination: &Destination, order: Order) -> Result<()> {
        if order == Order::ByKey && self.0.config.destination(destination).order == Order::None {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "{destination} is not laid out for key order: set order_by = \"key\" for it in the configuration of everyone who publishes to it or consumes it"
                ),
            ));
        }
        Ok(())
    }

    fn writer_context(&self) -> WriterContext {
        WriterContext {
            link: self.0.publishing.clone(),
            topology: self.0.topology.clone(),
            delays: self.0.delays.clone(),
            tasks: self.0.tasks.clone(),
            broker: self.0.identity.name().clone(),
        }
    }

    /// Starts the writer of a requester.
    pub(crate) fn start_requests(&self, inbox: &Arc<Inbox>) -> Writer {
        let in_flight = PublishOptions::default().in_flight;
        let writer = Writer::start(
            self.writer_context(),
            Purpose::Requests(receive_replies(inbox, self.0.tasks.clone())),
            in_flight,
            COPY_TIMEOUT,
        );
        let mut opened = self.0.opened.lock();
        opened.inboxes.retain(|inbox| inbox.strong_count() > 0);
        opened.inboxes.push(Arc::downgrade(inbox));
        opened.requests.retain(|writer| writer.strong_count() > 0);
        opened.requests.push(Arc::downgrade(writer.state()));
        drop(opened);
        writer
    }

    /// How many deliveries of a source the consumers of this handle hold and have not settled.
    pub(crate) fn unsettled_here(&self, source: &messaging_core::Source) -> u64 {
        let consumers: Vec<Arc<Shared>> = self.live_consumers();
        consumers.iter().filter(|shared| shared.source() == Some(source)).map(|shared| shared.unacknowledged()).sum()
    }

    /// A subscription is no more: its consumers here learn it at once, others when the broker cancels them.
    pub(crate) fn end_consumers(&self, source: &messaging_core::Source) {
        let consumers = self.live_consumers();
        consumers.iter().filter(|shared| shared.source() == Some(source)).for_each(|shared| shared.set_ended());
    }

    fn live_consumers(&self) -> Vec<Arc<Shared>> {
        self.0.opened.lock().consumers.iter().filter_map(|(shared, _)| shared.upgrade()).collect()
    }

    pub(crate) async fn open_consumer(
        &self,
        what: Consumed,
        prefetch: usize,
        by_key: bool,
        capabilities: Arc<Capabilities>,
        scope: Scope,
    ) -> Result<Consumer> {
        self.check_open()?;
        let around = ConsumerContext {
            link: self.0.consuming.clone(),
            topology: self.0.topology.clone(),
            copies: self.0.copies.clone(),
            tasks: self.0.tasks.clone(),
        };
        let plan = Plan { what, prefetch, by_key, capabilities, scope };
        let (consumer, handle) = consumer::open(around, plan).await?;
        let mut opened = self.0.opened.lock();
        opened.consumers.retain(|(_, handle)| !handle.is_over());
        opened.consumers.push((Arc::downgrade(&handle.shared), handle));
        Ok(consumer)
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn capabilities(&self, of: Place<'_>) -> Capabilities {
        capabilities::of(&self.0.config, of)
    }

    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        self.check_open()?;
        let (target, scope) = (self.target(destination)?, self.scope(destination));
        if let Destination::Reply(_) = destination {
            return Ok(Arc::new(SharedPublisher::new(self.0.copies.clone(), target, &options, scope)));
        }
        self.0.topology.destination(destination).await?;
        let publisher = Arc::new(RabbitPublisher::open(self.writer_context(), target, &options, scope));
        publisher.writer().opened(self.0.config.request_timeout).await?;
        let mut opened = self.0.opened.lock();
        opened.publishers.retain(|publisher| publisher.strong_count() > 0);
        opened.publishers.push(Arc::downgrade(&publisher));
        Ok(publisher)
    }

    fn health(&self) -> Health {
        let mut health = self
            .0
            .consuming
            .health()
            .and(self.0.publishing.health())
            .and(self.0.declaring.health())
            .and(self.0.copies.state().health());
        for consumer in self.live_consumers() {
            health = health.and(consumer.health());
        }
        let publishers: Vec<_> = self.0.opened.lock().publishers.iter().filter_map(Weak::upgrade).collect();
        for publisher in publishers {
            health = health.and(publisher.writer().state().health());
        }
        health
    }

    async fn close(&self, by: Instant) -> DrainReport {
        if self.0.is_closed.swap(true, Ordering::AcqRel) {
            return DrainReport::default();
        }
        let Opened { consumers, publishers, inboxes, requests } = std::mem::take(&mut *self.0.opened.lock());
        inboxes.iter().filter_map(Weak::upgrade).for_each(|inbox| inbox.close());
        let drained = join_all(consumers.iter().map(|(_, handle)| async {
            let report = handle.drain(by).await;
            handle.shared.set_closed();
            report
        }));
        let mut report = drained.await.into_iter().fold(DrainReport::default(), DrainReport::and);
        let publishers: Vec<_> = publishers.iter().filter_map(Weak::upgrade).collect();
        let flushed = join_all(publishers.iter().map(|publisher| async {
            publisher.core().in_flight().close();
            let flushed = publisher.writer().flush(by).await;
            publisher.writer().state().end();
            flushed
        }));
        report.errors.extend(flushed.await.into_iter().filter_map(Result::err));
        let _ = self.0.copies.flush(by).await;
        self.0.copies.state().end();
        requests.iter().filter_map(Weak::upgrade).for_each(|writer| writer.end());
        self.0.tasks.close();
        let soon = by.max(Instant::now() + Duration::from_millis(100));
        let _ = timeout_at(soon, self.0.tasks.wait()).await;
        let Inner { publishing, consuming, declaring, .. } = &*self.0;
        join3(publishing.close(soon), consuming.close(soon), declaring.close(soon)).await;
        report
    }

    fn topology(&self) -> &dyn messaging_core::Topology {
        self
    }

    fn inspect(&self) -> &dyn Inspect {
        self
    }

    fn repair(&self) -> &dyn Repair {
        self
    }

    async fn replies(&self, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        self.check_open()?;
        Ok(Arc::new(RabbitReplies::new(self.clone(), &inbox)))
    }
}

impl fmt::Debug for RabbitBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitBroker")
            .field("name", self.0.identity.name())
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}
