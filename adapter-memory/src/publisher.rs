//! Publishing to the memory broker.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use messaging_core::{
    Answers, Error, ErrorKind, ErrorOutcome, InFlight, Message, NoSubscriber, Outcome, PublishOptions, Publisher,
    Receipt, ReplyAddress, Result, Room, Scope, Tickets,
};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::backlog::{Admission, Backlog, Parked, full, gone};
use crate::config::WhenFull;
use crate::server::{Link, PublishFault, Server};
use crate::topic::{Appended, Topic};

/// Where messages go.
#[derive(Debug)]
pub(crate) enum Target {
    Queue(Arc<Backlog>),
    Topic(Arc<Topic>),
    Reply(ReplyAddress),
    /// With topology `assume` nobody looked whether it is there: each send does.
    Assumed(Assumed),
}

/// A destination that was not there when the publisher was opened.
#[derive(Debug)]
pub(crate) struct Assumed {
    pub(crate) physical: String,
    pub(crate) place: String,
    pub(crate) is_queue: bool,
}

pub(crate) struct MemoryPublisher {
    scope: Scope,
    server: Arc<Server>,
    closed: Arc<AtomicBool>,
    target: Target,
    in_flight: InFlight,
    options: PublishOptions,
    sends: Arc<Sends>,
}

impl MemoryPublisher {
    pub(crate) fn new(
        scope: Scope,
        server: Arc<Server>,
        closed: Arc<AtomicBool>,
        target: Target,
        options: PublishOptions,
    ) -> Self {
        let in_flight = InFlight::new(options.in_flight, options.in_flight_bytes);
        let sends = Arc::new(Sends::default());
        server.add_sender(&sends);
        Self { scope, server, closed, target, in_flight, options, sends }
    }

    pub(crate) fn sends(&self) -> &Arc<Sends> {
        &self.sends
    }

    fn store(&self, message: Message, room: Room) -> Outcome<Receipt> {
        match &self.target {
            Target::Queue(queue) => self.to_queue(queue, message, room),
            Target::Topic(topic) => self.to_topic(topic, message, room),
            Target::Reply(address) => {
                Outcome::ready(self.server.reply(address.as_str(), message).map(|()| Receipt::default()))
            }
            Target::Assumed(assumed) => self.to_assumed(assumed, message, room),
        }
    }

    fn to_queue(&self, queue: &Arc<Backlog>, message: Message, room: Room) -> Outcome<Receipt> {
        if let Some(dedup) = &queue.dedup
            && dedup.is_duplicate(message.id(), queue.clock.now())
        {
            return Outcome::ready(Ok(Receipt::default()));
        }
        match queue.publish(message) {
            Admission::Stored(receipt) => Outcome::ready(Ok(receipt)),
            Admission::Full(message) if queue.options.when_full == WhenFull::Refuse => {
                if let Some(dedup) = &queue.dedup {
                    dedup.forget(message.id());
                }
                Outcome::ready(Err(full(&queue.options)))
            }
            Admission::Full(message) => self.park(Place::Queue(Arc::clone(queue)), message, room),
            Admission::Gone => Outcome::ready(Err(gone(queue.source.as_ref()))),
        }
    }

    fn to_topic(&self, topic: &Arc<Topic>, message: Message, room: Room) -> Outcome<Receipt> {
        if self.options.no_subscriber == NoSubscriber::Refuse && !topic.has_subscription() {
            return Outcome::ready(Err(unroutable(topic)));
        }
        if let Some(dedup) = &topic.dedup
            && dedup.is_duplicate(message.id(), self.server.clock.now())
        {
            return Outcome::ready(Ok(Receipt::default()));
        }
        match topic.publish(message) {
            Appended::At(receipt) => Outcome::ready(Ok(receipt)),
            Appended::Full(message) if topic.options.when_full == WhenFull::Refuse => {
                if let Some(dedup) = &topic.dedup {
                    dedup.forget(message.id());
                }
                Outcome::ready(Err(full(&topic.options)))
            }
            Appended::Full(message) => self.park(Place::Topic(Arc::clone(topic)), message, room),
        }
    }

    fn to_assumed(&self, assumed: &Assumed, message: Message, room: Room) -> Outcome<Receipt> {
        let Assumed { physical, place, is_queue } = assumed;
        if *is_queue && let Some(queue) = self.server.queue(physical) {
            return self.to_queue(&queue, message, room);
        }
        if !is_queue && let Some(topic) = self.server.topic(physical) {
            return self.to_topic(&topic, message, room);
        }
        Outcome::ready(Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "{place} does not exist as {physical:?}, and topology = assume makes nothing: create it, or use topology = create"
            ),
        )))
    }

    /// Lets a message wait for room.
    fn park(&self, place: Place, message: Message, room: Room) -> Outcome<Receipt> {
        let ticket = self.sends.open(room, Instant::now() + self.options.timeout, Some(place.clone()));
        let parked = Parked { message, sends: Arc::clone(&self.sends.tickets), ticket };
        match &place {
            Place::Queue(queue) => queue.park(parked),
            Place::Topic(topic) => topic.log.park(parked),
        }
        Outcome::pending(Arc::clone(&self.sends) as Arc<dyn Answers<Receipt>>, ticket)
    }

    /// What happens to a send while a fault is on.
    #[cold]
    fn disturbed(&self, message: Message, room: Room) -> Outcome<Receipt> {
        match self.server.link() {
            Link::Down => {
                let error = Error::new(ErrorKind::Disconnected, "the memory server is stopped")
                    .with_outcome(ErrorOutcome::NotSent);
                return Outcome::ready(Err(error));
            }
            Link::BlackHole => {
                let ticket = self.sends.open(room, Instant::now() + self.options.timeout, None);
                return Outcome::pending(Arc::clone(&self.sends) as Arc<dyn Answers<Receipt>>, ticket);
            }
            Link::Up => {}
        }
        match self.server.take_publish_fault() {
            None => self.store(message, room),
            Some(PublishFault::Refused) => {
                Outcome::ready(Err(Error::new(ErrorKind::Disconnected, "the publish was refused by an injected fault")
                    .with_outcome(ErrorOutcome::NotSent)))
            }
            Some(PublishFault::AnswerLost) => {
                drop(self.store(message, room));
                Outcome::ready(Err(Error::new(ErrorKind::Disconnected, "the answer was lost by an injected fault")))
            }
        }
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker was closed: open it again to publish")
}

#[cold]
fn unroutable(topic: &Topic) -> Error {
    Error::new(
        ErrorKind::Unroutable,
        format!(
            "topic {:?} has no subscription: subscribe first, or publish with no_subscriber = accept",
            topic.name.as_str()
        ),
    )
}

#[async_trait]
impl Publisher for MemoryPublisher {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    fn send(&self, message: Message, room: Room) -> Outcome<Receipt> {
        if self.closed.load(Ordering::Relaxed) {
            return Outcome::ready(Err(closed()));
        }
        if self.server.is_disturbed() {
            return self.disturbed(message, room);
        }
        self.store(message, room)
    }

    fn send_many(&self, messages: Vec<Message>, mut room: Room) -> Vec<Outcome<Receipt>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut rest = messages.into_iter();
        if !self.closed.load(Ordering::Relaxed) && !self.server.is_disturbed() {
            // As many as there is room for under one lock; the others, and those of special destinations, one by one.
            match &self.target {
                Target::Queue(queue) if queue.dedup.is_none() => {
                    let stored = queue.publish_many(&mut rest);
                    outcomes.extend((0..stored).map(|_| Outcome::ready(Ok(Receipt::default()))));
                }
                Target::Topic(topic) if topic.dedup.is_none() && self.options.no_subscriber == NoSubscriber::Accept => {
                    outcomes.extend(
                        topic.log.append_many(&mut rest).into_iter().map(|receipt| Outcome::ready(Ok(receipt))),
                    );
                }
                _ => {}
            }
        }
        outcomes.extend(rest.map(|message| {
            let part = room.split(message.size());
            self.send(message, part)
        }));
        outcomes
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        // Whoever holds all the room waited for all that was in flight before.
        match tokio::time::timeout_at(by, self.in_flight.room(usize::MAX)).await {
            Ok(room) => room.map(drop),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "messages still wait for room at the destination")),
        }
    }
}

impl fmt::Debug for MemoryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPublisher").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Where a message waits for room.
#[derive(Clone, Debug)]
enum Place {
    Queue(Arc<Backlog>),
    Topic(Arc<Topic>),
}

/// The sends of one publisher that were not answered at once: those that wait for room, and those that fell into a black
/// hole. Each has a time limit, met by whoever awaits the outcome.
pub(crate) struct Sends {
    tickets: Arc<Tickets<Receipt>>,
    slow: Mutex<HashMap<u64, Slow>>,
}

struct Slow {
    timer: Pin<Box<Sleep>>,
    /// None: it fell into the black hole.
    place: Option<Place>,
}

impl Default for Sends {
    fn default() -> Self {
        Self { tickets: Tickets::new(), slow: Mutex::default() }
    }
}

impl Sends {
    fn open(&self, room: Room, by: Instant, place: Option<Place>) -> u64 {
        let ticket = self.tickets.open(room);
        self.slow.lock().insert(ticket, Slow { timer: Box::pin(tokio::time::sleep_until(by)), place });
        ticket
    }

    /// What fell into the black hole never arrives.
    pub(crate) fn lose_held(&self) {
        self.fail_where(
            |slow| slow.place.is_none(),
            || Error::new(ErrorKind::Disconnected, "the connection was lost before the broker answered"),
        );
    }

    /// Ends all that waits, when the broker is closed.
    pub(crate) fn close(&self) {
        self.fail_where(|_| true, closed);
    }

    fn fail_where(&self, matches: impl Fn(&Slow) -> bool, error: impl Fn() -> Error) {
        let taken: Vec<(u64, Slow)> = self.slow.lock().extract_if(|_, slow| matches(slow)).collect();
        for (ticket, slow) in taken {
            if self.give_up(ticket, slow.place.as_ref()) {
                self.tickets.complete(ticket, Err(error()));
            }
        }
    }

    /// Takes a message out of its place; false if it was stored meanwhile.
    fn give_up(&self, ticket: u64, place: Option<&Place>) -> bool {
        match place {
            None => true,
            Some(Place::Queue(queue)) => queue.unpark(ticket, &self.tickets),
            Some(Place::Topic(topic)) => topic.log.unpark(ticket, &self.tickets),
        }
    }

    fn out_of_time(place: Option<&Place>) -> Error {
        match place {
            None => Error::new(ErrorKind::Timeout, "the broker did not answer within the publish time limit"),
            Some(_) => Error::new(
                ErrorKind::Timeout,
                "the destination stayed full for the whole publish time limit: consume from it, or raise its capacity",
            )
            .with_outcome(ErrorOutcome::NotSent),
        }
    }
}

impl Answers<Receipt> for Sends {
    fn poll_answer(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<Receipt>> {
        if let Poll::Ready(result) = self.tickets.poll_answer(ticket, cx) {
            self.slow.lock().remove(&ticket);
            return Poll::Ready(result);
        }
        let mut slow = self.slow.lock();
        let is_late = slow.get_mut(&ticket).is_some_and(|slow| slow.timer.as_mut().poll(cx).is_ready());
        let late = if is_late { slow.remove(&ticket) } else { None };
        drop(slow);
        if let Some(Slow { place, .. }) = late
            && self.give_up(ticket, place.as_ref())
        {
            self.tickets.complete(ticket, Err(Self::out_of_time(place.as_ref())));
        }
        if is_late { self.tickets.poll_answer(ticket, cx) } else { Poll::Pending }
    }

    fn forget(&self, ticket: u64) {
        self.tickets.forget(ticket);
    }
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}
