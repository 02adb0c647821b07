//! The polling thread of a consumer: the only one that talks to its client.

mod commits;
mod membership;
mod reading;
mod restart;
mod trouble;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use messaging_core::wire::to_millis;
use messaging_core::{Flow, Result};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::oneshot;

use self::reading::Reading;
use crate::config::GroupProtocol;
use crate::consumer::group::{Ear, Place};
use crate::consumer::intake::{Intake, Item, Orders};
use crate::consumer::open::Obituary;
use crate::consumer::partition::{Partition, Read};
use crate::consumer::{metadata, offsets};
use crate::raw::FetchQueue;

pub(super) type Client = BaseConsumer<Ear>;
/// Where a flush is answered.
type Flush = oneshot::Sender<Result<()>>;

/// The most offsets of one partition between the lowest open one and the last read.
const SPAN: usize = 200_000;
/// Before it is looked again whether a broker that was lost is back.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often it is looked whether the client knows a broker, while nothing else says that it has lost one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Before partitions are tried again that could not be taken up.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest wait in a poll.
const POLL: Duration = Duration::from_millis(50);
/// The longest wait while something is to be due or settled.
const SOON: Duration = Duration::from_millis(5);
/// How long the last commit of a member that leaves may take.
const LAST: Duration = Duration::from_secs(5);
/// The most messages taken in at once.
const BATCH: usize = 512;

/// What the thread knows of a partition it has.
pub(super) struct Held {
    pub(super) partition: Arc<Partition>,
    is_paused: bool,
    /// The client may have stopped reading it.
    is_doubtful: bool,
    /// Sorts messages of several partitions by their time, without ever changing the order within one.
    rank: u64,
    /// What was read of it and is not noted there yet: for a batch at a time, because settlers want the same lock.
    read: Vec<(i64, Read)>,
    /// Messages that may have killed a member before: each is noted before it goes.
    suspects: VecDeque<Item>,
}

/// Partitions that go to somebody else as soon as what is out of them is settled.
struct Leaving {
    places: Vec<Place>,
    deadline: Instant,
}

/// How the thread's work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Over,
    /// The broker does not know the protocol that was tried.
    WrongProtocol,
}

pub(super) struct Worker {
    /// Before the client, which it must not outlive.
    fetch: FetchQueue,
    client: Client,
    ear: Ear,
    intake: Arc<Intake>,
    protocol: GroupProtocol,
    is_refused: bool,
    held: HashMap<Place, Held>,
    reading: Reading,
    leaving: Option<Leaving>,
    /// Partitions that were assigned and whose offsets could not be read yet.
    joining: Vec<Place>,
    join_again: Option<Instant>,
    /// When partitions are looked at that the client may have stopped reading.
    look_at_doubtful: Option<Instant>,
    /// When the commit under way was sent.
    committing: Option<Instant>,
    committed: Instant,
    /// The partitions that it is for.
    sent: Vec<Place>,
    /// Flushes that no commit was sent for yet.
    flushes: Vec<Flush>,
    /// Flushes that the commit under way answers.
    flushing: Vec<Flush>,
    /// Settlements were lost with partitions that were taken away, and nobody was told yet.
    has_lost: bool,
    /// There is no room to read on.
    is_full: bool,
    /// The connection was lost, and not seen to be back.
    is_cut: bool,
    probed: Instant,
}

impl Worker {
    pub(super) fn new(
        fetch: FetchQueue,
        client: Client,
        ear: Ear,
        intake: Arc<Intake>,
        protocol: GroupProtocol,
    ) -> Self {
        let now = Instant::now();
        Self {
            fetch,
            client,
            ear,
            intake,
            protocol,
            is_refused: false,
            held: HashMap::new(),
            reading: Reading::default(),
            leaving: None,
            joining: Vec::new(),
            join_again: None,
            look_at_doubtful: None,
            committing: None,
            committed: now,
            sent: Vec::new(),
            flushes: Vec::new(),
            flushing: Vec::new(),
            has_lost: false,
            is_full: false,
            is_cut: false,
            probed: now,
        }
    }

    /// Lets others wake this thread while it waits for records: the application, and the client with what it has to say.
    pub(super) fn hang_bell(&mut self) {
        *self.intake.bell.lock() = Some(self.fetch.bell());
        self.client.set_nonempty_callback(self.fetch.ringer());
    }

    /// Takes partitions that were assigned by hand.
    pub(super) fn hold(&mut self, begins: Vec<(Place, i64)>) {
        for (place, offset) in begins {
            self.hold_one(place, offset, metadata::Metadata::new(metadata::Ending::Clean));
        }
    }

    fn hold_one(&mut self, place: Place, offset: i64, past: metadata::Metadata) {
        let lane = self.intake.settings.topics.lane(&place.0);
        let topic: Arc<str> = place.0.as_str().into();
        let partition = Arc::new(Partition::new(Arc::clone(&self.intake), topic, place.1, lane, offset, past));
        self.intake.partitions.lock().push(Arc::clone(&partition));
        let held = Held {
            partition,
            is_paused: false,
            is_doubtful: false,
            rank: 0,
            read: Vec::new(),
            suspects: VecDeque::new(),
        };
        self.held.insert(place, held);
    }

    /// Runs until the consumer is stopped and has nothing out any more, is told to leave, or cannot go on.
    pub(super) fn run(mut self) -> Ending {
        // It tells before the client is dropped, which may take long.
        let _obituary = Obituary(Arc::clone(&self.intake));
        while !self.is_over() {
            self.obey();
            let now = to_millis(SystemTime::now());
            let due = self.intake.release_due(now);
            self.let_go_of_leaving();
            self.commit_if_time();
            self.clear_suspects();
            if self.is_cut {
                self.look_for_the_broker();
            } else {
                self.look_at_the_client();
            }
            self.listen();
            self.hear();
            self.find_the_way_back();
            let has_room = self.has_room();
            let wait = match due {
                _ if self.is_busy() || self.held.values().any(|held| !held.suspects.is_empty()) => SOON,
                Some(due) => Duration::from_millis(due.saturating_sub(now)).clamp(Duration::from_millis(1), POLL),
                None => POLL,
            };
            if has_room {
                self.read(wait);
            } else {
                thread::park_timeout(wait);
            }
        }
        if self.is_refused {
            self.ear.close();
            drop(self.intake.bell.lock().take());
            return Ending::WrongProtocol;
        }
        self.leave();
        Ending::Over
    }

    fn is_over(&self) -> bool {
        let is_done = self.intake.flow() == Flow::Stopped && self.intake.unsettled() == 0;
        // Whoever waits for a flush waits for what is under way; the last commit answers it.
        is_done || self.is_refused || self.intake.orders.lock().leave
    }

    /// The group waits for this member to take partitions or to give them up.
    fn is_rebalancing(&self) -> bool {
        self.leaving.is_some() || !self.joining.is_empty()
    }

    fn is_busy(&self) -> bool {
        self.is_rebalancing() || !self.flushes.is_empty() || !self.flushing.is_empty()
    }

    fn obey(&mut self) {
        let orders = std::mem::take(&mut *self.intake.orders.lock());
        let Orders { flushes, purges, leave } = orders;
        self.intake.orders.lock().leave |= leave;
        if !flushes.is_empty() {
            self.flushes.extend(flushes);
            self.commit_changes();
        }
        for purged in purges {
            let _ = purged.send(self.skip_to_end());
        }
    }

    /// Passes over all that waits.
    fn skip_to_end(&mut self) -> Result<()> {
        self.intake.discard();
        let mut ends = Vec::new();
        for (place, held) in &mut self.held {
            held.suspects.drain(..).for_each(|item| held.partition.pass_over(item.offset));
            ends.push((place.clone(), offsets::watermarks(&self.client, place)?.1.max(held.partition.read_to())));
        }
        self.restart_at(&ends)
    }
}
