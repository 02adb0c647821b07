//! A complete adapter, as small as the contract allows: queues over a `Mutex<VecDeque>`, and nothing else declared.
//!
//! Read it beside `docs/writing-an-adapter.md`. What is not declared here never arrives here: the core refuses it.

mod admin;
mod consumer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use async_trait::async_trait;
use messaging_core::spi::*;
use messaging_core::*;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::consumer::{Holder, TinyDeliveries};

/// What outlives a connection.
#[derive(Clone, Debug, Default)]
pub struct TinyServer(Arc<Mutex<BTreeMap<QueueName, Arc<Queue>>>>);

#[derive(Debug, Default)]
struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Messages, and how often each was delivered.
    ready: VecDeque<(Message, u32)>,
    /// Those that are out: by tag, with their holder.
    out: BTreeMap<u64, (Message, u32, u64)>,
    tags: u64,
    wakers: Vec<Waker>,
}

impl Queue {
    /// Changes the state and wakes everyone: whoever has nothing to do waits again.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock();
        let (result, wakers) = (act(&mut state), std::mem::take(&mut state.wakers));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Takes back what a holder has; returns how much that was.
    fn take_back(&self, holder: u64) -> u64 {
        self.change(|state| {
            let held: Vec<u64> = state.out.iter().filter(|(_, out)| out.2 == holder).map(|(tag, _)| *tag).collect();
            for (message, attempts, _) in held.iter().rev().filter_map(|tag| state.out.remove(tag)) {
                state.ready.push_front((message, attempts));
            }
            held.len() as u64
        })
    }
}

#[derive(Debug)]
struct Tiny {
    identity: Identity,
    server: TinyServer,
    closed: Arc<AtomicBool>,
    consumers: Mutex<Vec<Arc<Holder>>>,
}

impl TinyServer {
    /// Opens a broker on this server, the core's checks around it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for any setting: there are none.
    pub fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        options.settings.clone().finish()?;
        options.url.parameters().finish()?;
        let (identity, (closed, consumers)) = (options.identity("tiny"), Default::default());
        Ok(Checked::around(Arc::new(Tiny { identity, server: self.clone(), closed, consumers })))
    }
}

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::none().with_native([Feature::Queue, Feature::Purge]);
    (capabilities.attempts, capabilities.settlement) = (Attempts::Exact, SettlementTiming::Confirmed);
    (capabilities.stale, capabilities.retry_place) = (StaleDetection::Exact, RetryPlace::Tail);
    (capabilities.limits.time_granularity, capabilities.limits.redelivery_within) = Default::default();
    capabilities
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker was closed: open it again")
}

impl Tiny {
    fn queue(&self, name: &QueueName) -> Result<Arc<Queue>> {
        self.check_open()?;
        let mut queues = self.server.0.lock();
        if self.identity.topology_mode() == TopologyMode::Create {
            return Ok(queues.entry(name.clone()).or_default().clone());
        }
        queues
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("queue {name:?} does not exist")))
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }
}

#[async_trait]
impl QueueConsumer for Tiny {
    async fn consume(&self, queue: &QueueName, options: ConsumeOptions) -> Result<Consumer> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let holder = Arc::new(Holder {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            queue: self.queue(queue)?,
            prefetch: options.prefetch,
            flow: Mutex::new(Flow::Running),
            settled: AtomicU64::new(0),
            closed: self.closed.clone(),
            capabilities: Arc::new(capabilities()),
        });
        self.consumers.lock().push(holder.clone());
        let capabilities = holder.capabilities.clone();
        Ok(Consumer::new(Box::new(TinyDeliveries(holder)), capabilities, self.identity.scope(queue)))
    }
}

impl Subscriber for Tiny {}

#[async_trait]
impl Broker for Tiny {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn capabilities(&self, _of: Place<'_>) -> Capabilities {
        capabilities()
    }

    async fn publisher(&self, to: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>> {
        let Destination::Queue(name) = to else { return Err(undeclared(Feature::Topic)) };
        let core = PublisherCore::new(self.identity.scope(to), &options);
        Ok(Arc::new(TinyPublisher { core, queue: self.queue(name)?, closed: self.closed.clone() }))
    }

    fn health(&self) -> Health {
        self.check_open().map_or_else(|error| Health::not_up(HealthState::Down, error.text()), |()| Health::up())
    }

    async fn close(&self, by: Instant) -> DrainReport {
        self.closed.store(true, Ordering::Release);
        let (consumers, mut report) = (std::mem::take(&mut *self.consumers.lock()), DrainReport::default());
        for consumer in consumers {
            report = report.and(consumer.drain(by).await);
        }
        report
    }

    fn topology(&self) -> &dyn Topology {
        self
    }

    fn repair(&self) -> &dyn Repair {
        self
    }
}

#[derive(Debug)]
struct TinyPublisher {
    core: PublisherCore,
    queue: Arc<Queue>,
    closed: Arc<AtomicBool>,
}

impl Publisher for TinyPublisher {
    fn core(&self) -> &PublisherCore {
        &self.core
    }

    fn send(&self, message: Message, _room: Permit) -> Outcome<Receipt> {
        if self.closed.load(Ordering::Acquire) {
            return Outcome::ready(Err(closed()));
        }
        self.queue.change(|state| state.ready.push_back((message, 0)));
        Outcome::ready(Ok(Receipt::default()))
    }
}
