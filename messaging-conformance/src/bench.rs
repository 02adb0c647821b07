//! The bench: what a case works with. It opens, names, counts and waits, so that a case tells only its story.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use messaging_core::{
    Broker, Capabilities, ConnectOptions, ConsumeOptions, Destination, DestinationSettings, Feature, Order, Outcome,
    PublishOptions, Publisher, QueueName, Result, SubscribeOptions, SubscriptionName, TopicName,
};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::time::Instant;

use crate::intercept::around;
use crate::perturb::Perturb;
use crate::tally::Tally;
use crate::verdict::{Stop, Verdict};
use crate::{Case, Harness, Kind, Place, Stage, refuse};

/// How long one step may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a harness may take to prepare for a case: it may start a server, and wait for the cases before it.
pub(crate) const PREPARING: Duration = Duration::from_secs(900);

/// A case's means. Cheap to clone.
#[derive(Clone)]
pub struct Bench(Arc<Inner>);

struct Inner {
    harness: Arc<dyn Harness>,
    stage: Arc<dyn Stage>,
    case: &'static Case,
    broker: Arc<dyn Broker>,
    run: String,
    seed: Option<u64>,
    random: Mutex<SmallRng>,
    names: AtomicU64,
    made: Mutex<BTreeSet<Destination>>,
    opened: Mutex<Vec<Arc<dyn Broker>>>,
    tally: Tally,
}

/// The places of a case, one after the other; a failure names the one that was under way.
#[derive(Debug)]
pub struct Places {
    tally: Tally,
    places: std::vec::IntoIter<Place>,
}

impl Iterator for Places {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let place = self.places.next()?;
        self.tally.now_at(place.kind());
        Some(place)
    }
}

impl Bench {
    /// Has the harness prepare for a case.
    pub(crate) async fn prepare(harness: &Arc<dyn Harness>, case: &'static Case) -> Verdict<Arc<dyn Stage>> {
        Ok(within("the harness hung in `begin`", PREPARING, harness.begin(case.powers)).await??)
    }

    /// Begins a case: connects, and fails by name if that hangs.
    pub(crate) async fn begin(
        harness: Arc<dyn Harness>,
        stage: Arc<dyn Stage>,
        case: &'static Case,
        seed: Option<u64>,
        tally: Tally,
    ) -> Verdict<Self> {
        let broker = connect(&stage, stage.options(), seed).await?;
        let mut random = SmallRng::seed_from_u64(seed.unwrap_or_default());
        if seed.is_none() {
            random = SmallRng::from_rng(&mut rand::rng());
        }
        // Names must be fresh in every run, also in one with the same seed.
        let run = format!("{:08x}", rand::rng().next_u32());
        Ok(Self(Arc::new(Inner {
            harness,
            stage,
            case,
            opened: Mutex::new(vec![Arc::clone(&broker)]),
            broker,
            run,
            seed,
            random: Mutex::new(random),
            names: AtomicU64::new(0),
            made: Mutex::default(),
            tally,
        })))
    }

    /// The broker under test.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.0.broker
    }

    /// The stage, for powers.
    #[must_use]
    pub fn stage(&self) -> &Arc<dyn Stage> {
        &self.0.stage
    }

    /// The harness.
    #[must_use]
    pub fn harness(&self) -> &Arc<dyn Harness> {
        &self.0.harness
    }

    /// The case that runs.
    #[must_use]
    pub fn case(&self) -> &'static Case {
        self.0.case
    }

    /// What the case did so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// Counts operations.
    pub fn did(&self, count: usize) {
        self.0.tally.did(count);
    }

    /// Notes that the declared branch ran.
    pub fn note_proved(&self) {
        self.0.tally.note_proved();
    }

    /// Opens another handle on the same broker.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn open(&self) -> Verdict<Arc<dyn Broker>> {
        self.open_with(|options| options).await
    }

    /// Opens another handle with other options.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn open_with(&self, change: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Verdict<Arc<dyn Broker>> {
        let opened = connect(&self.0.stage, change(self.0.stage.options()), self.0.seed).await?;
        self.0.opened.lock().push(Arc::clone(&opened));
        Ok(opened)
    }

    /// Opens another handle that the bench does not keep alive.
    pub(crate) async fn open_unowned(&self) -> Verdict<Arc<dyn Broker>> {
        connect(&self.0.stage, self.0.stage.options(), self.0.seed).await
    }

    /// A fresh name of a queue.
    #[must_use]
    pub fn queue(&self) -> QueueName {
        let queue = fresh(|| QueueName::parse(self.name()));
        self.note(Destination::Queue(queue.clone()));
        queue
    }

    /// A fresh name of a topic.
    #[must_use]
    pub fn topic(&self) -> TopicName {
        let topic = fresh(|| TopicName::parse(self.name()));
        self.note(Destination::Topic(topic.clone()));
        topic
    }

    /// A fresh name of a subscription.
    #[must_use]
    pub fn subscription(&self) -> SubscriptionName {
        fresh(|| SubscriptionName::parse(self.name()))
    }

    /// A fresh name: the case's number, the run and a count.
    #[must_use]
    pub fn name(&self) -> String {
        let count = self.0.names.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{count}", self.0.case.number().to_ascii_lowercase(), self.0.run)
    }

    /// Remembers what the case makes, to be removed at its end.
    pub(crate) fn note(&self, destination: Destination) {
        self.0.made.lock().insert(destination);
    }

    /// A fresh place of each of the case's kinds on which all its features are declared. Where one is not, proves that it is
    /// refused instead.
    ///
    /// # Errors
    /// A refusal that does not happen, or what the adapter says.
    pub async fn places(&self) -> Verdict<Places> {
        let mut places = Vec::new();
        for kind in [Kind::Queue, Kind::Durable] {
            if self.0.case.kinds.contains(&kind) && self.declared(kind).await? {
                self.0.tally.now_at(kind);
                places.push(Place::fresh(self, kind).await?);
            }
        }
        Ok(Places { tally: self.0.tally.clone(), places: places.into_iter() })
    }

    /// Whether the case's features are declared for a kind of place. If not, proves that the first that is missing is
    /// refused, and notes it.
    ///
    /// # Errors
    /// A refusal that does not happen.
    pub async fn declared(&self, kind: Kind) -> Verdict<bool> {
        let needed: Vec<Feature> = kind.base().iter().chain(self.0.case.features).copied().collect();
        let capabilities = self.capabilities(kind, self.is_ordered());
        match needed.into_iter().find(|feature| !capabilities.supports(*feature)) {
            None => {
                self.note_proved();
                Ok(true)
            }
            Some(missing) => {
                refuse::refused(self, kind, missing).await?;
                self.0.tally.note_refused(format!("{missing} on a {}", kind.name()));
                Ok(false)
            }
        }
    }

    /// Whether the case asks for key order, and its places have to be laid out for it.
    pub(crate) fn is_ordered(&self) -> bool {
        self.0.case.features.contains(&Feature::KeyOrder)
    }

    /// What the broker says it can do for a kind of place.
    #[must_use]
    pub fn capabilities(&self, kind: Kind, ordered: bool) -> Capabilities {
        let consume = if ordered {
            ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(messaging_core::RetryMode::Hold)
        } else {
            ConsumeOptions::default()
        };
        let broker = &self.0.broker;
        let topic = || fresh(|| TopicName::parse(self.name()));
        match kind {
            Kind::Queue => {
                let queue = fresh(|| QueueName::parse(self.name()));
                broker.capabilities(messaging_core::Place::Consume(&queue, &consume))
            }
            Kind::Durable => {
                let options = SubscribeOptions::durable(self.subscription()).with_consume(consume);
                broker.capabilities(messaging_core::Place::Subscribe(&topic(), &options))
            }
            Kind::Ephemeral => {
                let options = SubscribeOptions::ephemeral().with_consume(consume);
                broker.capabilities(messaging_core::Place::Subscribe(&topic(), &options))
            }
            Kind::Broker => broker.capabilities(messaging_core::Place::Broker),
        }
    }

    /// A broker handle for a destination that keeps the order of keys; the ordinary one where order is not asked for.
    pub(crate) async fn broker_for(&self, destination: &Destination) -> Verdict<Arc<dyn Broker>> {
        if !self.is_ordered() {
            return Ok(Arc::clone(self.broker()));
        }
        let settings = DestinationSettings { order: Order::ByKey, ..DestinationSettings::default() };
        self.open_with(|options| options.with_destination(destination.clone(), settings)).await
    }

    /// Opens a publisher on the broker under test.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn publisher(&self, to: &Destination) -> Verdict<Arc<dyn Publisher>> {
        self.wait("opening a publisher", self.broker().publisher(to, PublishOptions::default())).await
    }

    /// Awaits a call of the adapter, which must come back, counts it, and gives its result.
    ///
    /// # Errors
    /// The adapter's error, or that it hangs.
    #[track_caller]
    pub fn wait<'a, T>(
        &'a self,
        what: &'a str,
        call: impl Future<Output = Result<T>> + 'a,
    ) -> impl Future<Output = Verdict<T>> + 'a {
        let place = std::panic::Location::caller();
        async move {
            self.stumble().await;
            let result = within(what, PATIENCE, call).await?;
            self.did(1);
            result.map_err(|error| {
                Stop::Failed(format!("{what}: {} [{}:{}]", error.chain().join(": "), short(place.file()), place.line()))
            })
        }
    }

    /// As [`wait`](Self::wait), for calls that are expected to fail: the error is given instead.
    ///
    /// # Errors
    /// That the call did not fail, or hangs.
    pub async fn refused<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Verdict<messaging_core::Error> {
        self.stumble().await;
        let result = within(what, PATIENCE, call).await?;
        self.did(1);
        match result {
            Ok(_) => Err(Stop::failed(format_args!("{what} was accepted, though it must be refused"))),
            Err(error) => Ok(error),
        }
    }

    /// Awaits how a settlement went.
    ///
    /// # Errors
    /// The adapter's error, or that it hangs.
    #[track_caller]
    pub fn settled(&self, outcome: Outcome) -> impl Future<Output = Verdict> + '_ {
        self.wait("a settlement", outcome)
    }

    /// Waits until a condition holds, asking again and again.
    ///
    /// # Errors
    /// That it does not come to hold.
    pub async fn eventually<F: Future<Output = Verdict<bool>>>(
        &self,
        what: &str,
        mut condition: impl FnMut() -> F,
    ) -> Verdict {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            // A publish in it may wait for its own time limit, which is as long by default.
            if within(what, PATIENCE * 2, condition()).await?? {
                self.did(1);
                return Ok(());
            }
            if begun.elapsed() > PATIENCE * 2 {
                return Err(Stop::failed(format_args!("waited {:?} and it did not happen: {what}", PATIENCE * 2)));
            }
            // The pause between two questions; what is waited for is the answer.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Lets a time pass that a promise speaks of: a lower bound cannot be proved in less.
    pub async fn outlast(&self, time: Duration) {
        // The lower bound itself: nothing but the clock can tell that it is over.
        tokio::time::sleep(time).await;
    }

    /// In a perturbed run, gives way to other tasks a random number of times.
    pub async fn stumble(&self) {
        if self.0.seed.is_some() {
            let times = self.0.random.lock().random_range(0..4);
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        }
    }

    /// A random number below a bound.
    #[must_use]
    pub fn random(&self, below: u64) -> u64 {
        self.0.random.lock().random_range(0..below)
    }

    /// Closes what was opened and removes what was made; returns how much was left over.
    pub(crate) async fn end(&self) -> Verdict<usize> {
        let opened = std::mem::take(&mut *self.0.opened.lock());
        for broker in opened {
            let by = Instant::now() + Duration::from_secs(1);
            let _ = within("closing at the end of the case", PATIENCE, broker.close(by)).await?;
        }
        let made: Vec<Destination> = self.0.made.lock().iter().cloned().collect();
        within("the harness hung in `sweep`", PATIENCE * 2, self.0.stage.sweep(&made)).await?.map_err(Stop::from)
    }
}

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench").field("case", &self.0.case).finish_non_exhaustive()
    }
}

async fn connect(stage: &Arc<dyn Stage>, options: ConnectOptions, seed: Option<u64>) -> Verdict<Arc<dyn Broker>> {
    let broker = within("the adapter hung in `connect`", PATIENCE, stage.connect(options)).await??;
    Ok(match seed {
        Some(seed) => around(broker, Arc::new(Perturb::new(seed))),
        None => broker,
    })
}

/// Awaits something that must come back in time.
pub(crate) async fn within<T>(what: &str, limit: Duration, call: impl Future<Output = T>) -> Verdict<T> {
    tokio::time::timeout(limit, call)
        .map(|done| done.map_err(|_| Stop::failed(format_args!("{what} did not come back within {limit:?}"))))
        .await
}

fn short(file: &str) -> &str {
    file.rsplit_once("src/").map_or(file, |(_, file)| file)
}

#[allow(clippy::expect_used, reason = "fresh names are a case's number, eight hex digits and a count")]
fn fresh<T>(parse: impl FnOnce() -> Result<T>) -> T {
    parse().expect("a fresh name is well formed")
}
