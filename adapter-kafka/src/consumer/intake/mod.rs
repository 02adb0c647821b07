//! Between the polling thread and the application: what was read and not handed out yet.

mod item;
mod later;
mod outlet;
mod ready;
mod state;
mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::{Duration, Instant};

use messaging_core::{
    Capabilities, ConsumeOptions, Error, ErrorKind, Event, Flow, Health, HealthState, Order, Result, RetryMode, Source,
    SubjectFilter, Tickets,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

pub(crate) use self::item::Item;
pub(super) use self::item::{Batch, Content};
use self::state::State;
pub(super) use self::waiting::Waiting;
use crate::connection::Connection;
use crate::consumer::faults::Faults;
use crate::consumer::partition::Partition;
use crate::raw::QueueWaker;
use crate::topology::Topics;

/// How long a lost connection keeps health degraded. The client tries a broker that stands still about every six seconds, so the
/// window must be longer.
const LOST_WINDOW: Duration = Duration::from_secs(8);
/// The most events kept for an application that does not ask for them.
const EVENTS: usize = 16;

/// Why a consumer ended, told to each who asks.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

impl End {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn error(&self) -> Error {
        Error::new(self.kind, self.text.clone())
    }
}

/// How far the polling thread is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// It took its first part of the partitions.
    pub(crate) has_joined: bool,
    /// What the last commit came to.
    pub(crate) committed: Option<std::result::Result<(), End>>,
    /// It left the group, and its client is gone.
    pub(crate) has_left: bool,
}

/// What is asked of the polling thread.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) flushes: Vec<oneshot::Sender<Result<()>>>,
    /// Everything that waits is to be passed over.
    pub(super) purges: Vec<oneshot::Sender<Result<()>>>,
    pub(super) leave: bool,
    /// Deadline of the last commit.
    pub(super) leave_by: Option<Instant>,
}

/// What a consumer is made with.
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

/// The place where a consumer's deliveries wait, shared by its polling thread, its receiver and its settlers.
pub(crate) struct Intake {
    pub(crate) settings: Settings,
    state: Mutex<State>,
    /// Deliveries with the application, and copies under way: what the prefetch bounds.
    unsettled: AtomicUsize,
    settled: AtomicU64,
    /// Settlements of partitions that this member does not have any more, and that the broker did not confirm.
    unconfirmed: AtomicU64,
    /// Faults of single partitions.
    pub(crate) faults: Faults,
    /// Whoever receives waits for room within the prefetch.
    starved: AtomicBool,
    /// The polling thread waits for room to read on.
    pub(super) is_full: AtomicBool,
    tickets: Arc<Tickets<()>>,
    /// When a broker that it reads from was lost, the last time.
    pub(crate) lost: Mutex<Option<Instant>>,
    /// The flow is stopped for good.
    is_stopped: AtomicBool,
    idle: Notify,
    pub(super) orders: Mutex<Orders>,
    pub(super) queue_waker: Mutex<Option<QueueWaker>>,
    pub(super) thread: OnceLock<Thread>,
    pub(crate) progress: watch::Sender<Progress>,
    /// The positions of the partitions that this member has.
    pub(super) partitions: Mutex<Vec<Arc<Partition>>>,
}

impl Intake {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(settings.options.retry_mode)),
            settings,
            unsettled: AtomicUsize::new(0),
            settled: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            faults: Faults::default(),
            starved: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            tickets: Tickets::new(),
            lost: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            idle: Notify::new(),
            orders: Mutex::default(),
            queue_waker: Mutex::default(),
            thread: OnceLock::new(),
            progress: watch::Sender::new(Progress::default()),
            partitions: Mutex::default(),
        })
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.settings.options.order == Order::ByKey
    }

    /// Whether retries wait here, so that they hold their key up.
    pub(crate) fn holds_retries(&self) -> bool {
        self.settings.options.retry_mode == RetryMode::Hold || self.settings.source.is_none()
    }

    /// The copies that are under way.
    pub(crate) fn tickets(&self) -> &Arc<Tickets<()>> {
        &self.tickets
    }

    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.load(Ordering::SeqCst)
    }

    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::SeqCst)
    }

    /// Settlements that the broker may not know: they may come again.
    pub(crate) fn unconfirmed(&self) -> u64 {
        let here: u64 = self.partitions.lock().iter().map(|partition| partition.unconfirmed()).sum();
        self.unconfirmed.load(Ordering::SeqCst) + here
    }

    /// Notes settlements of partitions that are gone, and that the broker did not confirm.
    pub(super) fn note_unconfirmed(&self, count: u64) {
        self.unconfirmed.fetch_add(count, Ordering::SeqCst);
    }

    pub(crate) fn flow(&self) -> Flow {
        self.state.lock().flow
    }

    /// Takes in what was read, in order.
    pub(super) fn admit(&self, items: VecDeque<Item>) {
        let bytes: usize = items.iter().map(Item::size).sum();
        let mut state = self.state.lock();
        if self.is_ordered() {
            items.into_iter().for_each(|item| state.admit(item, true));
        } else {
            state.bytes += bytes;
            state.ready.push_batch(items);
        }
        let waker = state.waker.take();
        drop(state);
        // Whoever is woken wants the lock.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes in what is handed out before all else that waits.
    pub(super) fn admit_first(&self, items: impl Iterator<Item = Item>) {
        let mut state = self.state.lock();
        items.for_each(|item| state.admit_first(item, self.is_ordered()));
        state.wake();
    }

    /// Whether nothing else holds up the key of an item.
    pub(super) fn is_free(&self, item: &Item) -> bool {
        !self.is_ordered() || item.key().is_none_or(|key| !self.state.lock().lanes.contains_key(&*key))
    }

    /// Takes in what was read before its time.
    pub(super) fn delay(&self, due: u64, item: Item) {
        self.state.lock().delayed.insert(due, item);
    }

    /// Lets go of what is due by now; returns when the next is.
    pub(super) fn release_due(&self, now: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let mut released = false;
        while let Some(item) = state.held.pop(now).or_else(|| state.delayed.pop(now)) {
            state.admit(item, self.is_ordered());
            released = true;
        }
        if released {
            state.wake();
        }
        [state.held.next(), state.delayed.next()].into_iter().flatten().min()
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.state.lock().waiting()
    }

    /// Passes over all that waits, as if it had been settled. Returns how many.
    pub(super) fn discard(&self) -> usize {
        let gone = self.take_out(|_| true);
        gone.iter().for_each(|item| item.partition().pass_over(item.offset));
        gone.len()
    }

    /// Drops what waits of some partitions, or of all: it stays unsettled, for whoever has them next. Returns how many.
    pub(super) fn withhold(&self, leaving: impl Fn(&Partition) -> bool) -> usize {
        self.take_out(leaving).len()
    }

    fn take_out(&self, leaving: impl Fn(&Partition) -> bool) -> Vec<Item> {
        let mut state = self.state.lock();
        let mut gone = state.ready.take_out(|item| leaving(item.partition()));
        let bytes: usize = gone.iter().map(Item::size).sum();
        state.bytes = state.bytes.saturating_sub(bytes);
        gone.extend(state.take_out_of_lanes(&leaving));
        gone.extend(state.held.take_out(&leaving));
        gone.extend(state.delayed.take_out(&leaving));
        // Those that held their key up make room for the next of it.
        for item in &gone {
            if let Some(key) = item.withhold() {
                state.next_of(&key);
            }
        }
        state.wake();
        drop(state);
        gone
    }

    /// Takes a delivery back that is handed out again from here: at once, or when it is due.
    ///
    /// Once the consumer is stopped or the partition goes, it stays unsettled, for the next member. That is looked at under the
    /// lock: who stops or takes away says so first and then takes out what is here, under this lock too.
    pub(crate) fn take_back(&self, item: Item, due: Option<u64>) {
        let mut state = self.state.lock();
        if state.flow == Flow::Stopped || !item.partition().is_wanted() {
            if let Some(key) = item.withhold() {
                state.next_of(&key);
                state.wake();
            }
            return;
        }
        // It still holds its key up, where keys are ordered: it is the next of it.
        match due {
            Some(due) => state.held.insert(due, item),
            None => {
                state.bytes += item.size();
                state.ready.push(item);
                state.wake();
            }
        }
    }

    /// A delivery that held its key up is settled: the next of the key may go.
    pub(crate) fn release_keys(&self, keys: impl IntoIterator<Item = Box<str>>) {
        let mut state = self.state.lock();
        for key in keys {
            state.next_of(&key);
        }
        state.wake();
    }

    /// Room within the prefetch came free.
    pub(crate) fn freed(&self, count: usize, settled: bool) {
        if count == 0 {
            return;
        }
        if settled {
            self.settled.fetch_add(count as u64, Ordering::SeqCst);
        }
        let left = self.unsettled.fetch_sub(count, Ordering::SeqCst) - count;
        // Looked at before it is taken: nearly always nobody waits, and a look is cheaper.
        if self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst) {
            let waker = self.state.lock().waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        // Only who stopped it waits for the last; a single worker comes to nothing with every message.
        if left == 0 && self.is_stopped.load(Ordering::SeqCst) {
            self.idle.notify_waiters();
            self.wake();
        }
    }

    /// Waits until nothing is unsettled, after it was stopped.
    pub(crate) async fn idle(&self) {
        loop {
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.unsettled() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Wakes the polling thread, wherever it waits.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        if let Some(waker) = &*self.queue_waker.lock() {
            waker.wake();
        }
    }

    pub(crate) fn tell(&self, event: Event) {
        let mut state = self.state.lock();
        let is_known = state.events.back() == Some(&event) && !matches!(event, Event::Gap { .. });
        if !is_known && state.events.len() < EVENTS {
            state.events.push_back(event);
        }
        if let Some(waker) = state.event_waker.take() {
            drop(state);
            waker.wake();
        }
    }

    /// Ends the consumer with an error; the first one stays.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        state.flow = Flow::Stopped;
        self.is_stopped.store(true, Ordering::SeqCst);
        state.wake();
        if let Some(waker) = state.event_waker.take() {
            waker.wake();
        }
        drop(state);
        self.wake();
    }

    pub(crate) fn ended(&self) -> Option<End> {
        self.state.lock().end.clone()
    }

    /// How well this consumer is: ended, without its broker, or with partitions or messages that stand still.
    pub(crate) fn health(&self) -> Health {
        let name = match &self.settings.source {
            Some(source) => format!("the consumer of {source}"),
            None => format!("an ephemeral subscription of topic {:?}", self.settings.topics.main),
        };
        if let Some(end) = self.ended() {
            return match end.kind {
                ErrorKind::Closed => Health::up(),
                _ => Health::not_up(HealthState::Degraded, format!("{name} has ended: {}", end.text)),
            };
        }
        let lost = self.lost.lock().map(|at| at.elapsed()).filter(|ago| *ago < LOST_WINDOW);
        let lost = lost.map(|ago| format!("{name} lost a broker that it reads from, {} s ago", ago.as_secs()));
        let uncopied = self.partitions.lock().iter().flat_map(|partition| partition.uncopied()).collect::<Vec<_>>();
        let reasons = lost
            .into_iter()
            .chain(self.faults.texts().into_iter().chain(uncopied).map(|text| format!("{name}: {text}")));
        reasons.fold(Health::up(), |health, text| health.and(Health::not_up(HealthState::Degraded, text)))
    }

    /// Changes the flow; returns how many that were not started went back.
    pub(crate) fn set_flow(&self, flow: Flow) -> usize {
        let mut state = self.state.lock();
        if state.flow == Flow::Stopped {
            return 0;
        }
        state.flow = flow;
        self.is_stopped.store(flow == Flow::Stopped, Ordering::SeqCst);
        state.wake();
        drop(state);
        let released = if flow == Flow::Stopped { self.withhold(|_| true) } else { 0 };
        self.wake();
        released
    }

    pub(crate) fn poll_event(&self, cx: &Context<'_>) -> Poll<Event> {
        let mut state = self.state.lock();
        match state.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                state.event_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn stop_waiting(&self) {
        self.state.lock().waker = None;
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("topic", &self.settings.topics.main).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
