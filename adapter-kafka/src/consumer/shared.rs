//! One consumer: its options, its outlet, and the link between the outlet and the polling thread.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use adapter_kit::{EndReason, Feeder, Finished, Outlet, OutletOptions};
use async_trait::async_trait;
use messaging_core::spi::Tickets;
use messaging_core::{
    Capabilities, ConsumeOptions, Error, ErrorKind, ErrorOutcome, Health, HealthState, Order, Result, RetryMode, Scope,
    Source, SubjectFilter,
};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::faults::Faults;
use super::item::Item;
use super::partition::Partition;
use super::{Flush, PartitionId};
use crate::connection::Connection;
use crate::raw::QueueWaker;
use crate::topology::Topics;

/// Time for which a lost connection keeps health degraded. The client tries a broker that stands still about every six seconds, so the
/// window must be longer.
const LOST_WINDOW: Duration = Duration::from_secs(8);

/// Source, topics and options of a consumer.
pub(crate) struct Settings {
    /// None for an ephemeral subscription.
    pub(crate) source: Option<Source>,
    pub(crate) topics: Topics,
    pub(crate) options: ConsumeOptions,
    pub(crate) filter: Option<SubjectFilter>,
    /// Only records of this key are for this consumer: replies.
    pub(crate) only_key: Option<String>,
    pub(crate) capabilities: Arc<Capabilities>,
    pub(crate) connection: Arc<Connection>,
}

/// Progress of the polling thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// It took its first part of the partitions.
    pub(crate) has_joined: bool,
    /// Result of the last commit.
    pub(crate) committed: Option<std::result::Result<(), EndReason>>,
    /// It left the group, and its client is gone.
    pub(crate) has_left: bool,
}

/// Orders for the polling thread.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) flushes: Vec<Flush>,
    /// Everything that waits is to be passed over.
    pub(super) purges: Vec<Flush>,
    pub(super) leave: bool,
    /// Deadline of the last commit.
    pub(super) leave_by: Option<Instant>,
}

/// The polling thread, as the outlet and the settlers reach it.
pub(crate) struct Feed {
    /// Copies under way.
    tickets: Arc<Tickets<()>>,
    pub(super) orders: Mutex<Orders>,
    pub(super) queue_waker: Mutex<Option<QueueWaker>>,
    pub(super) thread: OnceLock<Thread>,
    pub(crate) progress: watch::Sender<Progress>,
    /// The partitions that this member has. The polling thread and their deliveries keep them.
    partitions: Mutex<Vec<Weak<Partition>>>,
    /// Settlements of partitions that this member does not have any more, and that the broker did not confirm.
    unconfirmed: AtomicU64,
}

impl Feed {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            tickets: Tickets::new(),
            orders: Mutex::default(),
            queue_waker: Mutex::default(),
            thread: OnceLock::new(),
            progress: watch::Sender::new(Progress::default()),
            partitions: Mutex::default(),
            unconfirmed: AtomicU64::new(0),
        })
    }

    pub(crate) fn tickets(&self) -> &Arc<Tickets<()>> {
        &self.tickets
    }

    /// The partitions that this member has.
    pub(super) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn add_partition(&self, partition: &Arc<Partition>) {
        self.partitions.lock().push(Arc::downgrade(partition));
    }

    pub(super) fn remove_partition(&self, partition: &Arc<Partition>) {
        self.partitions.lock().retain(|known| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(partition)));
    }

    /// Settlements that the broker may not know: they may come again.
    fn unconfirmed(&self) -> u64 {
        let here: u64 = self.partitions().iter().map(|partition| partition.unconfirmed()).sum();
        self.unconfirmed.load(Ordering::SeqCst) + here
    }

    /// Notes settlements of partitions that are gone, and that the broker did not confirm.
    pub(super) fn note_unconfirmed(&self, count: u64) {
        self.unconfirmed.fetch_add(count, Ordering::SeqCst);
    }

    /// Tells the polling thread to leave, whatever is out.
    pub(crate) fn leave(&self) {
        self.orders.lock().leave = true;
        self.wake();
    }
}

#[async_trait]
impl Feeder for Feed {
    /// Wakes the polling thread, wherever it waits.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        if let Some(waker) = &*self.queue_waker.lock() {
            waker.wake();
        }
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        let late = || {
            Error::new(ErrorKind::Timeout, "the broker did not say in time that it has the settlements")
                .with_outcome(ErrorOutcome::Unknown)
        };
        // Copies come first: their originals are settled when they are confirmed.
        timeout_at(by, self.tickets.flushed()).await.map_err(|_| late())?;
        let answered = {
            let (answer, answered) = oneshot::channel();
            let mut orders = self.orders.lock();
            if let Some(last) = &self.progress.borrow().committed {
                return last.clone().map_err(|end| end.error());
            }
            orders.flushes.push(answer);
            answered
        };
        self.wake();
        match timeout_at(by, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => match &self.progress.borrow().committed {
                Some(last) => last.clone().map_err(|end| end.error()),
                None => Err(Error::new(ErrorKind::Internal, "the consumer's thread has died")),
            },
            Err(_) => Err(late()),
        }
    }

    /// Commits and leaves.
    async fn finish(&self, by: Instant) -> Finished {
        // At its deadline a drain that had something to abandon leaves the rest to the thread.
        let is_late = Instant::now() >= by;
        let mut progress = self.progress.subscribe();
        self.orders.lock().leave_by = Some(by);
        self.leave();
        let _ = timeout_at(by, progress.wait_for(|progress| progress.has_left)).await;
        let errors = match &progress.borrow().committed {
            Some(Ok(())) => Vec::new(),
            Some(Err(end)) => vec![end.error()],
            None if is_late => Vec::new(),
            None => vec![Error::new(ErrorKind::Timeout, "the broker did not take the last commit in time")],
        };
        Finished { released: 0, unconfirmed: self.unconfirmed(), errors }
    }

    /// Deliveries that are out are stale from now on, also before the polling thread comes to leave.
    fn disown(&self) {
        self.partitions().iter().for_each(|partition| partition.disown());
    }
}

/// One consumer, shared by its polling thread, its partitions and its broker.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) outlet: Outlet<Item>,
    pub(crate) feed: Arc<Feed>,
    pub(super) faults: Faults,
}

impl Shared {
    pub(crate) fn new(settings: Settings, scope: Scope) -> Arc<Self> {
        let feed = Feed::new();
        let mut options = OutletOptions::new(scope, &settings.options).with_trouble_linger(LOST_WINDOW);
        if settings.source.is_none() {
            // Without a group all retries wait here.
            options = options.with_retry_mode(RetryMode::Hold);
        }
        let outlet = Outlet::new(options, Arc::clone(&feed) as Arc<dyn Feeder>);
        Arc::new(Self { settings, outlet, feed, faults: Faults::default() })
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.settings.options.order == Order::ByKey
    }

    /// True if retries wait here, so that they hold their key up.
    pub(crate) fn holds_retries(&self) -> bool {
        self.outlet.options().retry_mode == RetryMode::Hold
    }

    /// Takes out messages that were not handed out: they stay unsettled, for the member that has them next.
    pub(super) fn withhold(&self, leaving: impl Fn(&Partition) -> bool) {
        self.outlet.take_unstarted(|item| leaving(item.partition())).iter().for_each(Item::withhold);
    }

    /// Passes over all that waits, as if it had been settled. Returns how many.
    pub(super) fn discard(&self) -> usize {
        let gone = self.outlet.take_unstarted(|_| true);
        gone.iter().for_each(|item| item.partition().pass_over(item.offset));
        gone.len()
    }

    /// Takes a partition from this member: its deliveries are stale from now on. Their places come free, because nobody can settle
    /// them any more.
    pub(super) fn remove_partition(&self, partition: &Arc<Partition>) {
        self.outlet.freed(partition.kill());
        self.feed.remove_partition(partition);
    }

    /// Health of the consumer: ended, without its broker, or with partitions or messages that stand still.
    pub(crate) fn health(&self) -> Health {
        let health = self.outlet.health();
        if self.outlet.ended().is_some() {
            return health;
        }
        let place = self.outlet.options().scope.place();
        let uncopied = self.feed.partitions().iter().flat_map(|partition| partition.uncopied()).collect::<Vec<_>>();
        self.faults.texts().into_iter().chain(uncopied).fold(health, |health, text| {
            health.and(Health::not_up(HealthState::Degraded, format!("the consumer of {place}: {text}")))
        })
    }

    /// The partitions that this member has.
    pub(crate) fn ids(&self) -> Vec<PartitionId> {
        self.feed.partitions().iter().map(|one| (one.topic.to_string(), one.number)).collect()
    }

    /// Position in each partition of the main topic: the next offset, and the lowest open one.
    pub(crate) fn positions(&self) -> Vec<(i32, i64, i64)> {
        let partitions = self.feed.partitions();
        let main = partitions.iter().filter(|partition| partition.role == crate::topology::Role::Main);
        main.map(|partition| {
            let (next, open) = partition.position();
            (partition.number, next, open)
        })
        .collect()
    }

    /// Passes over all that waits for this consumer.
    pub(crate) async fn purge(&self, by: Instant) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.feed.orders.lock().purges.push(answer);
        self.feed.wake();
        match timeout_at(by, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(Error::new(ErrorKind::Timeout, "the consumer did not pass over what waits in time")),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("topic", &self.settings.topics.main).finish_non_exhaustive()
    }
}
