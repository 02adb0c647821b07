//! The only owner of clients that are not consumers: producers, the admin client, and the thread that watches over them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use messaging_core::{Error, ErrorKind, Health, HealthState, Result};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};

use crate::blocking::DropOnThread;
use crate::config::ConnectionOptions;
use crate::copies::CopyProducer;
use crate::error::{code_of, from_kafka};
use crate::first_answer::first_answer;
use crate::producer::Sender;
use crate::raw;

/// Interval at which the watch looks after time limits.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between two questions for a sign of life.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Age of an unconfirmed message from which health is degraded.
const UNCONFIRMED_AFTER: Duration = Duration::from_secs(5);
/// A topic that every cluster has or can say that it has not.
pub(crate) const PROBED_TOPIC: &str = "__consumer_offsets";

/// Keeps a client's complaints, so that a failed connection has a reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listener(Arc<Mutex<Option<(Code, String)>>>);

impl Listener {
    /// The client's last complaint; "all brokers down" hides no other.
    pub(crate) fn complaint(&self) -> Option<(Code, String)> {
        self.0.lock().clone()
    }
}

impl ClientContext for Listener {
    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = code_of(&error) else { return };
        tracing::debug!(%code, reason, "kafka's client complains");
        let mut known = self.0.lock();
        // "All brokers down" follows whatever the cause was, and would hide it.
        if code != Code::AllBrokersDown || known.is_none() {
            *known = Some((code, reason.to_owned()));
        }
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message);
    }
}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    // It sends nothing.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

pub(crate) type Admin = AdminClient<Listener>;
pub(crate) type Probe = BaseProducer<Listener>;

/// Time after which an admin client that is not used is dropped.
const ADMIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct Connection {
    pub(crate) options: ConnectionOptions,
    /// A client that sends nothing: it asks for metadata and listens to the brokers' state.
    probe: Arc<DropOnThread<Probe>>,
    /// Made when needed and dropped when idle: nobody serves its events, which pile up while brokers are away.
    admin: Mutex<Option<(Instant, Arc<DropOnThread<Admin>>)>>,
    largest: usize,
    /// One for each time limit of a publish: librdkafka's limit is the producer's.
    senders: Mutex<BTreeMap<Duration, Arc<Sender>>>,
    copies: Mutex<Option<Arc<CopyProducer>>>,
    /// Nothing new is opened any more; handles that are there still work.
    closing: AtomicBool,
    closed: AtomicBool,
    watch: Mutex<Watch>,
}

/// Last observations of the watch.
#[derive(Debug, Default)]
struct Watch {
    /// Since when the broker does not answer, and why.
    silent: Option<(Instant, String)>,
    /// Since when messages wait for their confirmation.
    unconfirmed: Option<Duration>,
}

impl Connection {
    /// Connects, and returns once the broker has answered.
    pub(crate) async fn open(options: ConnectionOptions) -> Result<Arc<Self>> {
        let largest = options.largest();
        let listener = Listener::default();
        let probe: Probe = options
            .client()
            .create_with_context(listener.clone())
            .map_err(|error| from_kafka("kafka's client cannot be set up", &error))?;
        let probe = Arc::new(DropOnThread::new(probe));
        first_answer(&probe, &listener, &options).await?;
        let connection = Arc::new(Self {
            options,
            probe,
            admin: Mutex::default(),
            largest,
            senders: Mutex::default(),
            copies: Mutex::default(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            watch: Mutex::default(),
        });
        connection.start_watch()?;
        Ok(connection)
    }

    /// One to no broker, for tests that need none.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Arc<Self> {
        Self::unopened("kafka://nowhere.invalid")
    }

    /// The options of a connection, for tests that open consumers alone.
    #[cfg(test)]
    pub(crate) fn unopened(url: &str) -> Arc<Self> {
        let url = messaging_core::BrokerUrl::parse(url).unwrap();
        Arc::new(Self {
            options: ConnectionOptions::read(&messaging_core::ConnectOptions::new(url)).unwrap(),
            probe: Arc::new(DropOnThread::empty()),
            admin: Mutex::default(),
            largest: 0,
            senders: Mutex::default(),
            copies: Mutex::default(),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(true),
            watch: Mutex::default(),
        })
    }

    /// The client that asks for metadata, shared with calls that block elsewhere.
    pub(crate) fn probe(&self) -> Arc<DropOnThread<Probe>> {
        Arc::clone(&self.probe)
    }

    /// The admin client.
    pub(crate) fn admin(&self) -> Result<Arc<DropOnThread<Admin>>> {
        self.check_open()?;
        let mut admin = self.admin.lock();
        if let Some((used, known)) = &mut *admin {
            *used = Instant::now();
            return Ok(Arc::clone(known));
        }
        let made = self.options.client().create_with_context(Listener::default());
        let made =
            Arc::new(DropOnThread::new(made.map_err(|error| from_kafka("kafka's client cannot be set up", &error))?));
        *admin = Some((Instant::now(), Arc::clone(&made)));
        Ok(made)
    }

    /// The producer for messages that are given up after `timeout`.
    pub(crate) fn sender(&self, timeout: Duration) -> Result<Arc<Sender>> {
        self.check_open()?;
        let mut senders = self.senders.lock();
        if let Some(known) = senders.get(&timeout) {
            return Ok(Arc::clone(known));
        }
        let sender = Sender::open(&self.options.producer(timeout, self.largest), timeout)?;
        senders.insert(timeout, Arc::clone(&sender));
        Ok(sender)
    }

    /// The producer of copies: retries, dead letters, redrives. It works until all consumers of a closing broker are drained.
    pub(crate) fn copies(&self) -> Result<Arc<CopyProducer>> {
        if self.is_closed() {
            return Err(closed());
        }
        let mut known = self.copies.lock();
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let copies = CopyProducer::open(&self.options.copy_producer())?;
        *known = Some(Arc::clone(&copies));
        Ok(copies)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closing.load(Ordering::Acquire) || self.is_closed() { Err(closed()) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Opens nothing new from now on; false if a close had begun before.
    pub(crate) fn begin_close(&self) -> bool {
        !self.closing.swap(true, Ordering::AcqRel)
    }

    /// Refuses everything from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.closed.store(true, Ordering::Release);
    }

    /// The producers, given up: the last holder drops them on a thread of its own.
    pub(crate) fn take_senders(&self) -> Vec<Arc<Sender>> {
        std::mem::take(&mut *self.senders.lock()).into_values().collect()
    }

    /// Ends what copies are made by.
    pub(crate) fn drop_copies(&self) {
        drop(self.copies.lock().take());
    }

    /// Health by the last observations of the watch.
    pub(crate) fn health(&self) -> Health {
        if self.is_closed() {
            return Health::not_up(HealthState::Down, "the broker was closed");
        }
        let watch = self.watch.lock();
        let mut health = Health::up();
        if let Some((since, why)) = &watch.silent {
            let text = format!("the broker does not answer for {:?}: {why}", since.elapsed());
            health = health.and(Health::not_up(HealthState::Down, text));
        }
        if let Some(age) = watch.unconfirmed.filter(|age| *age > UNCONFIRMED_AFTER) {
            let text = format!("messages wait for their confirmation for {age:?}");
            health = health.and(Health::not_up(HealthState::Degraded, text));
        }
        health
    }

    /// One thread looks after time limits and asks the broker for a sign of life: a black hole raises no event in the client.
    fn start_watch(self: &Arc<Self>) -> Result<()> {
        let (weak, probe) = (Arc::downgrade(self), self.probe());
        let watch = move || {
            let mut probed: Option<Instant> = None;
            loop {
                let Some(client) = probe.get() else { return };
                // Serves the client's events meanwhile, which would pile up.
                client.poll(WATCH_INTERVAL);
                let Some(connection) = weak.upgrade().filter(|connection| !connection.is_closed()) else { return };
                connection.look_after_time_limits();
                drop(connection);
                if probed.is_some_and(|at| at.elapsed() < PROBE_INTERVAL) {
                    continue;
                }
                let answer = client.client().fetch_metadata(Some(PROBED_TOPIC), Duration::from_secs(3));
                probed = Some(Instant::now());
                let Some(connection) = weak.upgrade() else { return };
                connection.remind_of_servers(client);
                connection.note_answer(answer.err());
            }
        };
        let started = thread::Builder::new().name("kafka-watch".into()).spawn(watch);
        started.map(drop).map_err(|error| Error::new(ErrorKind::Internal, format!("no thread for the watch: {error}")))
    }

    fn look_after_time_limits(&self) {
        let senders: Vec<_> = self.senders.lock().values().cloned().collect();
        let oldest = senders.iter().filter_map(|sender| sender.tick()).max();
        self.watch.lock().unconfirmed = oldest;
        let mut admin = self.admin.lock();
        if admin.as_ref().is_some_and(|(used, _)| used.elapsed() > ADMIN_IDLE_TIMEOUT) {
            drop(admin.take());
        }
    }

    /// Helps clients that have nobody left to ask.
    fn remind_of_servers(&self, probe: &Probe) {
        let servers = self.options.servers();
        raw::remind_of_servers(probe.client().native_ptr(), servers);
        let senders: Vec<_> = self.senders.lock().values().cloned().collect();
        senders.iter().for_each(|sender| sender.remind_of_servers(servers));
        let copies = self.copies.lock().clone();
        copies.iter().for_each(|copies| copies.remind_of_servers(servers));
        let admin = self.admin.lock().as_ref().map(|(_, admin)| Arc::clone(admin));
        if let Some(admin) = admin.as_ref().and_then(|admin| admin.get()) {
            raw::remind_of_servers(admin.inner().native_ptr(), servers);
        }
    }

    fn note_answer(&self, error: Option<KafkaError>) {
        let mut watch = self.watch.lock();
        watch.silent = error.map(|error| {
            let since = watch.silent.take().map_or_else(Instant::now, |(since, _)| since);
            (since, error.to_string())
        });
    }
}

/// Error of every call on a broker that was closed.
pub(crate) fn closed() -> Error {
    Error::closed("the broker")
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}
