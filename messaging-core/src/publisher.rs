//! Publishing: the trait an adapter implements and the conveniences over it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use async_trait::async_trait;
use tokio::task::coop;
use tokio::time::Instant;

use crate::delivery::Position;
use crate::error::{Error, ErrorKind, Result};
use crate::in_flight::{InFlight, Permit};
use crate::message::Message;
use crate::outcome::{Outcome, Tickets};
use crate::scope::Scope;

/// Treatment of a message by a topic without any subscription. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoSubscriber {
    /// It is accepted and forgotten.
    #[default]
    Accept,
    /// The publish fails with [`ErrorKind::Unroutable`]. Needs
    /// [`Feature::RequireSubscriber`](crate::Feature::RequireSubscriber).
    Refuse,
}

/// Options of a publisher. Set them by `with_…`, so that a new one changes no caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// The most messages in flight on this handle, 1 to 1,000,000; 1,000 by default.
    pub in_flight: usize,
    /// The most bytes in flight on this handle; 16 MiB by default. A larger message goes alone.
    pub in_flight_bytes: usize,
    /// Time limit for the broker's answer to one message; 30 s by default. Past it the outcome is unknown.
    pub timeout: Duration,
    /// Treatment of a message by a topic without any subscription.
    pub no_subscriber: NoSubscriber,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            in_flight: 1_000,
            in_flight_bytes: 16 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            no_subscriber: NoSubscriber::Accept,
        }
    }
}

impl PublishOptions {
    /// Sets the most messages in flight.
    #[must_use]
    pub fn with_in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages;
        self
    }

    /// Sets the most bytes in flight.
    #[must_use]
    pub fn with_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.in_flight_bytes = bytes;
        self
    }

    /// Sets the time limit for the broker's answer to one message.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the treatment of a message by a topic without any subscription.
    #[must_use]
    pub fn with_no_subscriber(mut self, no_subscriber: NoSubscriber) -> Self {
        self.no_subscriber = no_subscriber;
        self
    }
}

/// The answer of the broker that took responsibility for a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Position of the message in the broker's log, on brokers that have one and report it.
    pub position: Option<Position>,
}

/// The parts that every publisher has: its scope, the bound on what is in flight, and where one is used, the slab of its
/// unanswered messages. Cheap to clone; clones share all of it.
#[derive(Clone, Debug)]
pub struct PublisherCore {
    scope: Scope,
    in_flight: InFlight,
    tickets: Option<Arc<Tickets<Receipt>>>,
}

impl PublisherCore {
    /// A core with the bounds of some options, for a publisher that answers without tickets.
    #[must_use]
    pub fn new(scope: Scope, options: &PublishOptions) -> Self {
        Self { scope, in_flight: InFlight::new(options.in_flight, options.in_flight_bytes), tickets: None }
    }

    /// Sets the tickets that a flush waits for. Several publishers may share them.
    #[must_use]
    pub fn with_tickets(mut self, tickets: Arc<Tickets<Receipt>>) -> Self {
        self.tickets = Some(tickets);
        self
    }

    /// Broker and destination, for the context of errors.
    #[inline]
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The bound on what is in flight; a caller of [`Publisher::send`] takes the permit from here.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Waits until the broker has answered for all that was sent before the call: by the tickets, or without them until all
    /// every permit came back.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] past `by`.
    pub async fn flush(&self, by: Instant) -> Result<()> {
        let answered = async {
            match &self.tickets {
                Some(tickets) => {
                    tickets.flushed().await;
                    Ok(())
                }
                None => self.in_flight.acquire(usize::MAX).await.map(drop),
            }
        };
        tokio::time::timeout_at(by, answered).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the broker did not answer for all messages in time"))
        })
    }
}

/// A handle that publishes to one destination. Shared freely: `Arc<dyn Publisher>`.
///
/// Applications call the conveniences of [`PublisherExt`]; adapters implement this.
///
/// # Requirements on implementors
/// * An outcome is `Ok` only when the broker has taken responsibility: confirmed, stored, replicated as asked for.
/// * The order on a handle is the order of the `send` calls, within a batch too.
/// * `send` never blocks; it holds on to `permit` until the broker has answered (see [`Tickets`](crate::spi::Tickets)).
/// * Every outcome is there within [`PublishOptions::timeout`]. An error says whether the message was not sent or its fate
///   is unknown.
/// * A message that is known not to have left, because the connection is away, is kept and sent once it is back, until its
///   time limit: "not sent" is the answer only then, or when the publisher is closed.
/// * Dropping an outcome neither unsends the message nor frees its permit.
#[async_trait]
pub trait Publisher: Send + Sync + fmt::Debug {
    /// Scope and bounds of this publisher.
    fn core(&self) -> &PublisherCore;

    /// Hands one message over.
    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt>;

    /// Hands many messages over, in order; one outcome each, in the same order. `permit` is that of all together. By default
    /// each is sent with its part of the permit.
    fn send_many(&self, messages: Vec<Message>, mut permit: Permit) -> Vec<Outcome<Receipt>> {
        let send = |message: Message| {
            let part = permit.split(message.size());
            self.send(message, part)
        };
        messages.into_iter().map(send).collect()
    }

    /// Hands one message over without a place in flight, if the broker answers within the call; gives it back untouched
    /// otherwise, to be sent in the usual way.
    ///
    /// For brokers in the same process, which never have more in flight than the calls under way. Nobody who waits for a
    /// place may be overtaken: see [`InFlight::is_contended`]. A broker behind a line leaves this as it is.
    ///
    /// # Errors
    /// The message, if it was not handed over.
    fn send_now(&self, message: Message) -> std::result::Result<Result<Receipt>, Message> {
        Err(message)
    }

    /// As [`send_now`](Self::send_now) for many: takes messages from the front as long as the broker accepts each within
    /// the call, and appends a receipt for each. What is left is to be sent in the usual way.
    fn send_many_now(&self, messages: &mut IntoIter<Message>, receipts: &mut Vec<Result<Receipt>>) {
        let _ = (messages, receipts);
    }

    /// Waits until the broker has answered for all that was sent before the call.
    ///
    /// Returning `Ok` does not say that all succeeded: each outcome does.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] past `by`.
    async fn flush(&self, by: Instant) -> Result<()> {
        self.core().flush(by).await
    }
}

/// Calls of applications on any [`Publisher`].
pub trait PublisherExt: Publisher {
    /// Publishes one message: waits for a permit, hands it over and waits until the broker has taken responsibility.
    ///
    /// Cancelling the future before the message was handed over sends nothing; afterwards it neither unsends the message
    /// nor frees its permit. Many calls may run at once on one handle.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], [`ErrorKind::Unsupported`] or [`ErrorKind::InvalidMessage`] before anything is sent;
    /// [`ErrorKind::Closed`] after the broker was closed; otherwise what the broker said, with
    /// [`outcome`](Error::outcome) telling whether the message may have arrived.
    fn publish(&self, message: impl Into<Message> + Send) -> impl Future<Output = Result<Receipt>> + Send {
        let message = message.into();
        async move {
            // Yields from time to time, also when every publish is answered at once, so that consumers have their turn.
            coop::consume_budget().await;
            let result = match self.send_now(message) {
                Ok(result) => result,
                Err(message) => match self.core().in_flight().acquire(message.size()).await {
                    Ok(permit) => self.send(message, permit).await,
                    Err(closed) => Err(closed),
                },
            };
            result.map_err(|error| self.core().scope().explain(error))
        }
    }

    /// Publishes many messages in order, in as few round trips as the broker allows; one result for each, in order.
    ///
    /// Never all or nothing: a message that fails leaves the others alone. A batch larger than the in-flight bound goes in
    /// parts.
    fn publish_batch(&self, messages: Vec<Message>) -> impl Future<Output = Vec<Result<Receipt>>> + Send {
        async move {
            let mut results = Vec::with_capacity(messages.len());
            let mut rest = messages.into_iter();
            loop {
                coop::consume_budget().await;
                let before = rest.len();
                self.send_many_now(&mut rest, &mut results);
                if rest.len() == 0 {
                    return results;
                }
                if rest.len() == before {
                    break;
                }
            }
            let mut rest: Vec<Message> = rest.collect();
            let mut waiting = Vec::new();
            while !rest.is_empty() {
                coop::consume_budget().await;
                let (count, permit) = match self.core().in_flight().acquire_many(rest.iter().map(Message::size)).await {
                    Ok(permit) => permit,
                    Err(_) => {
                        waiting.extend(rest.iter().map(|_| Outcome::ready(Err(Error::closed("the publisher")))));
                        break;
                    }
                };
                let later = rest.split_off(count);
                waiting.extend(self.send_many(rest, permit));
                rest = later;
            }
            for outcome in waiting {
                results.push(outcome.await.map_err(|error| self.core().scope().explain(error)));
            }
            results
        }
    }
}

impl<P: Publisher + ?Sized> PublisherExt for P {}
