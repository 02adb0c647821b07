//! The writer: one task that owns a publishing channel, from the first open to the last close.
//!
//! One task a channel, because the client registers a tag and enqueues its frame under two locks: two writers swap each
//! other's confirms (lapin 4.12: 2,748 of 40,000 with four). It joins the writes of up to [`WRITE_BATCH`] messages, and keeps what
//! did not leave while the connection is away, until its time limit.

mod actor;
mod confirms;
mod opening;
mod pipeline;
mod ready_slots;
mod route;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapter_kit::Trouble;
use futures_util::future::BoxFuture;
use lapin::types::ShortString;
use messaging_core::spi::{Permit, Tickets};
use messaging_core::wire::Facts;
use messaging_core::{BrokerName, Error, ErrorKind, Health, HealthState, Message, Outcome, Receipt, Result, Source};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::actor::Actor;
use crate::connection::{Line, Link};
use crate::delay::{Delays, Due};
use crate::error::{closed, silent};
use crate::layout::Target;
use crate::topology::Topology;

/// Most publishes that are written in one go.
const WRITE_BATCH: usize = 64;

/// Recipient of a publish.
#[derive(Debug)]
pub(super) enum Recipient {
    /// The writer's own destination.
    Own,
    /// Another destination.
    Other(Arc<Target>),
    /// A place of its own.
    Copy(Box<CopyTo>),
}

/// Place of a copy, and the facts that it carries besides the message.
#[derive(Debug)]
pub(crate) struct CopyTo {
    pub(crate) place: CopyPlace,
    pub(crate) facts: Facts,
    /// Whether it is an error if no queue takes it.
    pub(crate) mandatory: bool,
    /// The source whose dead letter this is; it is declared again if its queue is gone.
    pub(crate) dead_letter_of: Option<Source>,
}

/// Place of a copy.
#[derive(Debug)]
pub(crate) enum CopyPlace {
    /// A queue, at once.
    Queue(ShortString),
    /// A queue or exchange, after a delay.
    Later(Due, Duration),
}

/// One message on its way to the broker.
#[derive(Debug)]
struct PendingPublish {
    message: Message,
    recipient: Recipient,
    ticket: u64,
    /// Time limit of the sender.
    until: Instant,
}

impl PendingPublish {
    /// Whether the writer has other recipients too.
    fn is_shared(&self) -> bool {
        !matches!(self.recipient, Recipient::Own)
    }

    /// The source whose dead letter this is.
    fn dead_letter_of(&self) -> Option<Box<Source>> {
        match &self.recipient {
            Recipient::Copy(copy) => copy.dead_letter_of.clone().map(Box::new),
            Recipient::Own | Recipient::Other(_) => None,
        }
    }
}

/// A handle to the task that owns a publishing channel; the task ends with its last handle.
#[derive(Clone)]
pub(crate) struct Writer {
    publishes: mpsc::UnboundedSender<PendingPublish>,
    tickets: Arc<Tickets<Receipt>>,
    timeout: Duration,
    state: Arc<WriterState>,
}

/// State of a writer that its handles share with its task.
#[derive(Debug)]
pub(crate) struct WriterState {
    what: String,
    closed: AtomicBool,
    /// Whether the first channel is open, or why it could not be opened.
    opened: watch::Sender<Option<Result<(), (ErrorKind, String)>>>,
    trouble: Trouble,
    end: CancellationToken,
}

impl WriterState {
    /// Health of the writer.
    pub(crate) fn health(&self) -> Health {
        self.trouble.health()
    }

    /// Ends the task: publishes that are left fail.
    pub(crate) fn end(&self) {
        self.closed.store(true, Ordering::Release);
        self.end.cancel();
    }
}

/// Called with each channel that a writer opens, before the first publish on it.
#[derive(Clone)]
pub(crate) struct OnOpen(pub(crate) Arc<dyn Fn(Line) -> BoxFuture<'static, Result<()>> + Send + Sync>);

impl fmt::Debug for OnOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnOpen").finish_non_exhaustive()
    }
}

/// Purpose of a writer.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Publishes to one destination.
    Destination(Target),
    /// Copies of deliveries, and replies.
    Copies,
    /// Requests, on a channel that is set up to receive their replies.
    Requests(OnOpen),
}

/// Parts of the broker handle that a writer needs.
#[derive(Clone, Debug)]
pub(crate) struct WriterContext {
    pub(crate) link: Arc<Link>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) delays: Arc<Delays>,
    pub(crate) tasks: TaskTracker,
    pub(crate) broker: BrokerName,
}

impl Writer {
    /// Starts the task.
    pub(crate) fn start(context: WriterContext, purpose: Purpose, in_flight: usize, timeout: Duration) -> Self {
        let what = match &purpose {
            Purpose::Destination(target) => target.destination.to_string(),
            Purpose::Copies => "replies, retries and dead letters".to_owned(),
            Purpose::Requests(_) => "the queues that are asked for replies".to_owned(),
        };
        let state = Arc::new(WriterState {
            what: what.clone(),
            closed: AtomicBool::new(false),
            opened: watch::Sender::new(None),
            trouble: Trouble::new(context.broker.clone(), format!("publishing to {what}"), HealthState::Degraded),
            end: CancellationToken::new(),
        });
        // Bounded by the room that every sender holds, and for copies by the prefetch of the consumers.
        let (publishes, received) = mpsc::unbounded_channel();
        let tasks = context.tasks.clone();
        let actor = Actor::new(context, purpose, in_flight, timeout, received, state.clone());
        let tickets = actor.tickets().clone();
        tasks.spawn(actor.run());
        Self { publishes, tickets, timeout, state }
    }

    /// Hands a message to the task.
    pub(crate) fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        self.hand_over(message, Recipient::Own, permit)
    }

    /// Hands a message for another destination than the writer's own to the task.
    pub(crate) fn send_to(&self, target: Arc<Target>, message: Message, permit: Permit) -> Outcome<Receipt> {
        self.hand_over(message, Recipient::Other(target), permit)
    }

    /// Hands a copy to the task.
    pub(crate) fn copy(&self, message: Message, to: CopyTo) -> Outcome<Receipt> {
        self.hand_over(message, Recipient::Copy(Box::new(to)), Permit::none())
    }

    fn hand_over(&self, message: Message, recipient: Recipient, permit: Permit) -> Outcome<Receipt> {
        if self.state.closed.load(Ordering::Acquire) {
            return Outcome::ready(Err(closed()));
        }
        let ticket = self.tickets.open(permit);
        let publish = PendingPublish { message, recipient, ticket, until: Instant::now() + self.timeout };
        if self.publishes.send(publish).is_err() {
            self.tickets.complete(ticket, Err(closed()));
        }
        Outcome::pending(self.tickets.clone(), ticket)
    }

    /// The pending outcomes of what was handed over.
    pub(crate) fn tickets(&self) -> &Arc<Tickets<Receipt>> {
        &self.tickets
    }

    /// Waits until the broker has answered for all that was sent before the call.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](messaging_core::ErrorKind::Timeout) past `by`.
    pub(crate) async fn flush(&self, by: Instant) -> Result<()> {
        let limit = by.saturating_duration_since(Instant::now());
        timeout_at(by, self.tickets.flushed()).await.map_err(|_| silent("publishing", limit))
    }

    /// Waits until the first channel is open.
    ///
    /// # Errors
    /// Why it is not; that the connection is away for a while is none.
    pub(crate) async fn opened(&self, within: Duration) -> Result<()> {
        let mut opened = self.state.opened.subscribe();
        match timeout(within, opened.wait_for(Option::is_some)).await {
            Ok(Ok(known)) => match &*known {
                Some(Err((kind, text))) => Err(Error::new(*kind, text.clone())),
                _ => Ok(()),
            },
            _ => Err(silent("opening a publishing channel", within)),
        }
    }

    pub(crate) fn state(&self) -> &Arc<WriterState> {
        &self.state
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("what", &self.state.what).finish_non_exhaustive()
    }
}
