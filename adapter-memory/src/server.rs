//! The "server": what outlives a connection, shared by name within the process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use messaging_core::spi::{Checked, Inbox};

use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, Error, ErrorKind, Event, Message, QueueName, Result, Source, TopicName,
};
use parking_lot::Mutex;

use crate::backlog::Backlog;
use crate::broker::MemoryBroker;
use crate::clock::Clock;
use crate::config::DestinationOptions;
use crate::publisher::Sends;
use crate::topic::Topic;

/// How the next publishes fail, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishFault {
    /// Refused: not sent, worth another try.
    Refused,
    /// Stored, but the answer is lost: the outcome is unknown.
    AnswerLost,
}

/// The state of the line between brokers and the server, for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    /// It works.
    Up,
    /// The server is stopped: publishes fail at once, nothing is delivered.
    Down,
    /// Nothing comes back: publishes run into their time limit, nothing is delivered.
    BlackHole,
}

/// Whether a restart keeps messages, subscriptions and dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// It does, as a broker with a disk.
    Keep,
    /// It does not.
    Lose,
}

/// A memory server: queues, topics and subscriptions, and the means to disturb it in tests.
///
/// A broker opened at `memory://name` reaches the server of that name in this process, made at its first use; it lives until
/// [`forget`](Self::forget). One opened at `memory://` has a server of its own, gone with its last handle. Cheap to clone.
#[derive(Clone)]
pub struct MemoryServer(pub(crate) Arc<Server>);

pub(crate) struct Server {
    name: String,
    pub(crate) clock: Clock,
    queues: Mutex<BTreeMap<String, Arc<Backlog>>>,
    topics: Mutex<BTreeMap<String, Arc<Topic>>>,
    pub(crate) inboxes: Mutex<HashMap<String, Weak<Inbox>>>,
    /// Consumers, to be cut off; those that are gone are swept when new ones come.
    attached: Mutex<Vec<Weak<crate::consumer::Attachment>>>,
    senders: Mutex<Vec<Weak<Sends>>>,
    /// Transactions commit one at a time, so that they lock several places without waiting for each other in a circle.
    pub(crate) committing: Mutex<()>,
    /// Any fault is on: one load on the hot path.
    disturbed: AtomicBool,
    link: AtomicU8,
    failing: AtomicU32,
    answers_lost: AtomicU32,
}

static NAMED: LazyLock<Mutex<HashMap<String, Arc<Server>>>> = LazyLock::new(Mutex::default);

impl MemoryServer {
    /// A server that only its handles and brokers reach.
    #[must_use]
    pub fn private() -> Self {
        Self(Server::new(""))
    }

    /// The server of a name, made if it is not there.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock();
        Self(Arc::clone(named.entry(name.to_owned()).or_insert_with(|| Server::new(name))))
    }

    /// Lets go of the server of a name; the next use of the name makes a new one. Brokers that are open keep the old one.
    pub fn forget(name: &str) {
        drop(NAMED.lock().remove(name));
    }

    /// Opens a broker on this server with default options, the core's checks around it.
    ///
    /// # Panics
    /// Never: the options are the defaults.
    #[must_use]
    pub fn broker(&self) -> Arc<dyn Broker> {
        Checked::around(Arc::new(MemoryBroker::with_defaults(self.0.clone())))
    }

    /// Opens a broker on this server, the core's checks around it. The URL of the options counts for its parameters only.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an option that is not valid.
    pub fn open(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        Ok(Checked::around(Arc::new(MemoryBroker::open(self.0.clone(), options)?)))
    }

    /// Lets the next `count` publishes fail.
    pub fn fail_publishes(&self, count: u32, how: PublishFault) {
        match how {
            PublishFault::Refused => self.0.failing.store(count, Ordering::SeqCst),
            PublishFault::AnswerLost => self.0.answers_lost.store(count, Ordering::SeqCst),
        }
        self.0.note_disturbance();
    }

    /// Lets the next `count` dead letters of a source fail, in every namespace: the messages stay and are delivered again
    /// later.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such source.
    pub fn fail_dead_letters(&self, source: &Source, count: u32) -> Result<()> {
        let found = self.0.sources(source);
        if found.is_empty() {
            return Err(self.0.missing(source));
        }
        found.iter().for_each(|backlog| backlog.lock().fail_dead_letters = count);
        Ok(())
    }

    /// Cuts every consumer off: what they hold goes to others, their settlements are stale, and they come back at once.
    pub fn cut_consumers(&self) {
        self.0.cut();
    }

    /// How many consumers are registered at a source now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such source.
    pub fn consumers(&self, source: &Source) -> Result<usize> {
        let found = self.0.sources(source);
        if found.is_empty() {
            return Err(self.0.missing(source));
        }
        Ok(found.iter().map(|backlog| backlog.lock().consumers()).sum())
    }

    /// Removes a queue with all that is in it, under whoever uses it: its consumers end with [`ErrorKind::NotFound`]. Of a
    /// topic, end its subscriptions instead.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such queue.
    pub fn remove_queue(&self, queue: &QueueName) -> Result<()> {
        let source = Source::Queue(queue.clone());
        let found = self.0.sources(&source);
        if found.is_empty() {
            return Err(self.0.missing(&source));
        }
        for backlog in found {
            self.0.queues.lock().retain(|_, known| !Arc::ptr_eq(known, &backlog));
            backlog.with(|state, effects| {
                state.wipe(effects);
                state.gone = true;
                state.wake_all(effects);
            });
        }
        Ok(())
    }

    /// Changes the state of the line. Back to [`Link::Up`], every consumer was cut off meanwhile.
    pub fn set_link(&self, link: Link) {
        let before = self.0.link.swap(link as u8, Ordering::SeqCst);
        self.0.note_disturbance();
        if link != Link::Up && before == Link::Up as u8 {
            self.0.tell_consumers(&Event::Disconnected);
        }
        if link == Link::Up && before != Link::Up as u8 {
            self.0.come_back();
        }
    }

    /// Stops and starts the server. Consumers are cut off and come back by themselves.
    pub fn restart(&self, data: Data) {
        self.set_link(Link::Down);
        if data == Data::Lose {
            self.0.wipe();
        }
        self.set_link(Link::Up);
    }
}

impl fmt::Debug for MemoryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryServer").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            clock: Clock::new(),
            queues: Mutex::default(),
            topics: Mutex::default(),
            inboxes: Mutex::default(),
            attached: Mutex::default(),
            senders: Mutex::default(),
            committing: Mutex::default(),
            disturbed: AtomicBool::new(false),
            link: AtomicU8::new(Link::Up as u8),
            failing: AtomicU32::new(0),
            answers_lost: AtomicU32::new(0),
        })
    }

    /// The server of a broker's address.
    pub(crate) fn at(url: &BrokerUrl) -> Arc<Self> {
        match url.hosts().first() {
            Some(host) => MemoryServer::named(&host.name).0,
            None => Self::new(""),
        }
    }

    pub(crate) fn queue(&self, name: &str) -> Option<Arc<Backlog>> {
        self.queues.lock().get(name).cloned()
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.lock().get(name).cloned()
    }

    pub(crate) fn queue_or_insert(&self, name: &str, make: impl FnOnce() -> Arc<Backlog>) -> Arc<Backlog> {
        Arc::clone(self.queues.lock().entry(name.to_owned()).or_insert_with(make))
    }

    pub(crate) fn topic_or_insert(&self, name: &str, options: DestinationOptions, logical: &TopicName) -> Arc<Topic> {
        let make = || Topic::new(logical.clone(), options, self.clock);
        Arc::clone(self.topics.lock().entry(name.to_owned()).or_insert_with(make))
    }

    /// The backlogs that a source's logical name leads to from any namespace.
    fn sources(&self, source: &Source) -> Vec<Arc<Backlog>> {
        let queues: Vec<_> = self.queues.lock().values().cloned().collect();
        let topics: Vec<_> = self.topics.lock().values().cloned().collect();
        let subscriptions = topics.iter().flat_map(|topic| topic.subscriptions());
        queues.into_iter().chain(subscriptions).filter(|backlog| backlog.source.as_ref() == Some(source)).collect()
    }

    #[cold]
    fn missing(&self, source: &Source) -> Error {
        Error::new(ErrorKind::NotFound, format!("{source} does not exist on the memory server {:?}", self.name))
    }

    /// Whether any fault is on.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    pub(crate) fn link(&self) -> Link {
        match self.link.load(Ordering::Acquire) {
            0 => Link::Up,
            1 => Link::Down,
            _ => Link::BlackHole,
        }
    }

    /// Takes one of the publishes that are to fail.
    pub(crate) fn take_publish_fault(&self) -> Option<PublishFault> {
        let take = |count: &AtomicU32| {
            count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
        };
        let fault = if take(&self.failing) {
            Some(PublishFault::Refused)
        } else if take(&self.answers_lost) {
            Some(PublishFault::AnswerLost)
        } else {
            None
        };
        self.note_disturbance();
        fault
    }

    fn note_disturbance(&self) {
        let is_on = || {
            self.link.load(Ordering::SeqCst) != Link::Up as u8
                || self.failing.load(Ordering::SeqCst) > 0
                || self.answers_lost.load(Ordering::SeqCst) > 0
        };
        let disturbed = is_on();
        self.disturbed.store(disturbed, Ordering::SeqCst);
        // Another fault may have been set between the look and the note.
        if !disturbed && is_on() {
            self.disturbed.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn attach(&self, attachment: &Arc<crate::consumer::Attachment>) {
        let mut attached = self.attached.lock();
        attached.retain(|known| known.strong_count() > 0);
        attached.push(Arc::downgrade(attachment));
    }

    pub(crate) fn add_sender(&self, sends: &Arc<Sends>) {
        let mut senders = self.senders.lock();
        senders.retain(|known| known.strong_count() > 0);
        senders.push(Arc::downgrade(sends));
    }

    fn attachments(&self) -> Vec<Arc<crate::consumer::Attachment>> {
        self.attached.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn tell_consumers(&self, event: &Event) {
        for attachment in self.attachments() {
            attachment.tell(event.clone());
        }
    }

    fn cut(&self) {
        for attachment in self.attachments() {
            attachment.cut();
        }
    }

    fn come_back(&self) {
        for attachment in self.attachments() {
            attachment.come_back();
        }
        let senders: Vec<_> = self.senders.lock().iter().filter_map(Weak::upgrade).collect();
        for sends in senders {
            sends.lose_held();
        }
    }

    fn wipe(&self) {
        let queues: Vec<_> = self.queues.lock().values().cloned().collect();
        let topics: Vec<_> = self.topics.lock().values().cloned().collect();
        let subscriptions = topics.iter().flat_map(|topic| topic.subscriptions());
        for backlog in queues.iter().cloned().chain(subscriptions) {
            backlog.with(|state, effects| {
                if let Some(feed) = backlog.feed() {
                    feed.skip_to_end();
                }
                state.wipe(effects);
            });
            if let Some(dedup) = &backlog.dedup {
                dedup.clear();
            }
        }
        for topic in &topics {
            if let Some(dedup) = &topic.dedup {
                dedup.clear();
            }
            topic.log.wipe();
        }
        // What waits for room comes after what was lost.
        queues.iter().for_each(|queue| queue.room_came());
        topics.iter().for_each(|topic| topic.log.admit_parked());
    }

    /// Hands a reply to whoever waits at the address.
    pub(crate) fn reply(&self, address: &str, message: Message) -> Result<()> {
        let inbox = self.inboxes.lock().get(address).and_then(Weak::upgrade);
        let Some(inbox) = inbox else {
            return Err(Error::new(
                ErrorKind::Unroutable,
                format!("nobody waits at the reply address {address:?} any more"),
            ));
        };
        inbox.deliver(message);
        Ok(())
    }
}
