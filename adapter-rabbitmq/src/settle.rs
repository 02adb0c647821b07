//! Settlements: each takes effect at the call, which tells the consumer's task and returns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use messaging_core::spi::{Settler, Tickets, Unsettled};

use messaging_core::{Acked, Capabilities, DeadLetterReason, Outcome, Settlement};
use tokio::sync::mpsc;

use crate::consumer::Shared;
use crate::error::stale;

/// What the consumer's task is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// The broker may forget it.
    Ack(u64),
    /// The broker may forget these.
    AckMany(Box<[u64]>),
    /// The broker hands it out again.
    Return(u64),
    /// A copy waits for its time, and then the broker may forget it.
    Retry { delivery: Unsettled, after: Duration, ticket: u64 },
    /// It is handed out again by this consumer, which holds it meanwhile.
    Again { delivery: Unsettled, after: Duration },
    /// A copy goes to the dead letter, and then the broker may forget it.
    DeadLetter { delivery: Unsettled, reason: Box<DeadLetterReason>, ticket: u64 },
    /// Its time to live ran out while it waited to be handed out.
    Expired(Unsettled),
}

/// The settler of one channel: its deliveries can be settled for as long as it lives.
pub(crate) struct Epoch {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    tickets: Arc<Tickets<()>>,
    live: AtomicBool,
    /// How many deliveries are in the application's hands.
    handed: AtomicU64,
    retries: Retries,
}

/// How a retry is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retries {
    /// The broker hands the message out again, and counts; a copy waits if it is to wait.
    AtBroker,
    /// Always by a copy that carries the count: the broker's queue does not count.
    ByCopies,
    /// The consumer holds the message, and hands it out again itself.
    Here,
}

impl Epoch {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::UnboundedSender<Command>,
        tickets: Arc<Tickets<()>>,
        retries: Retries,
    ) -> Self {
        Self { shared, commands, tickets, live: AtomicBool::new(true), handed: AtomicU64::new(0), retries }
    }

    /// From now on all its deliveries are stale.
    pub(crate) fn end(&self) {
        self.live.store(false, Ordering::Release);
        self.handed.store(0, Ordering::Release);
    }

    pub(crate) fn handed(&self) -> u64 {
        self.handed.load(Ordering::Acquire)
    }

    pub(crate) fn hand_out(&self, count: u64) {
        self.handed.fetch_add(count, Ordering::AcqRel);
    }

    /// Tells the task, unless the channel is gone.
    pub(crate) fn tell(&self, command: Command) -> bool {
        self.live.load(Ordering::Acquire) && self.commands.send(command).is_ok()
    }

    /// `count` deliveries left the application's hands.
    fn taken_back(&self, count: u64) {
        let before =
            self.handed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |handed| Some(handed.saturating_sub(count)));
        let left = before.map_or(0, |before| before.saturating_sub(count));
        self.shared.settled(count, left);
    }

    fn pending(&self, command: impl FnOnce(u64) -> Command) -> Outcome {
        let ticket = self.tickets.open(messaging_core::spi::Permit::none());
        if !self.tell(command(ticket)) {
            self.tickets.complete(ticket, Err(stale()));
        }
        Outcome::pending(self.tickets.clone(), ticket)
    }

    fn at_once(&self, command: Command) -> Outcome {
        Outcome::ready(if self.tell(command) { Ok(()) } else { Err(stale()) })
    }
}

impl Settler for Epoch {
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome {
        if !self.live.load(Ordering::Acquire) {
            return Outcome::ready(Err(stale()));
        }
        let tag = delivery.tag;
        let outcome = match how {
            Settlement::Ack => {
                let outcome = self.at_once(Command::Ack(tag));
                self.shared.leave(tag);
                outcome
            }
            Settlement::Retry { after } if self.retries == Retries::Here => {
                self.at_once(Command::Again { delivery, after })
            }
            Settlement::Release if self.retries == Retries::Here => {
                self.at_once(Command::Again { delivery, after: Duration::ZERO })
            }
            Settlement::Retry { after } if !after.is_zero() || self.retries == Retries::ByCopies => {
                self.pending(|ticket| Command::Retry { delivery, after, ticket })
            }
            Settlement::Retry { .. } | Settlement::Release => self.at_once(Command::Return(tag)),
            Settlement::DeadLetter(reason) => self.pending(|ticket| Command::DeadLetter { delivery, reason, ticket }),
        };
        self.taken_back(1);
        outcome
    }

    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked> {
        let count = tags.len() as u64;
        if !self.tell(Command::AckMany(tags.into())) {
            return Outcome::ready(Ok(Acked { acked: 0, stale: count }));
        }
        if self.shared.has_gate() {
            tags.iter().for_each(|tag| self.shared.leave(*tag));
        }
        self.taken_back(count);
        Outcome::ready(Ok(Acked { acked: count, stale: 0 }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.shared.capabilities()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch").field("live", &self.live).field("handed", &self.handed).finish_non_exhaustive()
    }
}
