//! Publishing to the memory broker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec::IntoIter;

use async_trait::async_trait;
use messaging_core::spi::{Answers, Permit, PublisherCore, Tickets};
use messaging_core::{
    Error, ErrorKind, ErrorOutcome, Message, NoSubscriber, Outcome, PublishOptions, Publisher, Receipt, ReplyAddress,
    Result,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backlog::{Admission, Backlog, Parked, full, gone};
use crate::config::WhenFull;
use crate::server::{Link, PublishFault, Server};
use crate::topic::{Appended, Topic};

/// At most so many messages of a batch are stored under one lock, so that consumers have their turn.
const TOGETHER_MAX: usize = 1_024;

/// A time limit longer than the clock can tell is one year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
    core: PublisherCore,
    server: Arc<Server>,
    closed: Arc<AtomicBool>,
    target: Target,
    options: PublishOptions,
    sends: Arc<Sends>,
}

impl MemoryPublisher {
    pub(crate) fn new(
        core: PublisherCore,
        server: Arc<Server>,
        closed: Arc<AtomicBool>,
        target: Target,
        options: PublishOptions,
    ) -> Self {
        let sends = Sends::new();
        server.add_sender(&sends);
        Self { core, server, closed, target, options, sends }
    }

    pub(crate) fn sends(&self) -> &Arc<Sends> {
        &self.sends
    }

    /// Whether sends are answered within the call: nothing disturbs the line, and nobody is overtaken.
    #[inline]
    fn can_answer_now(&self) -> bool {
        !self.closed.load(Ordering::Relaxed) && !self.server.is_disturbed() && !self.core.in_flight().is_contended()
    }

    /// Whether a topic takes every message as it comes.
    #[inline]
    fn takes_any(&self, topic: &Topic) -> bool {
        topic.dedup.is_none() && self.options.no_subscriber == NoSubscriber::Accept
    }

    fn store(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        match &self.target {
            Target::Queue(queue) => self.to_queue(queue, message, permit),
            Target::Topic(topic) => self.to_topic(topic, message, permit),
            Target::Reply(address) => {
                Outcome::ready(self.server.reply(address.as_str(), message).map(|()| Receipt::default()))
            }
            Target::Assumed(assumed) => self.to_assumed(assumed, message, permit),
        }
    }

    fn to_queue(&self, queue: &Arc<Backlog>, message: Message, permit: Permit) -> Outcome<Receipt> {
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
            Admission::Full(message) => self.park(Place::Queue(Arc::clone(queue)), message, permit),
            Admission::Gone => Outcome::ready(Err(gone(queue.source.as_ref()))),
        }
    }

    fn to_topic(&self, topic: &Arc<Topic>, message: Message, permit: Permit) -> Outcome<Receipt> {
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
            Appended::Full(message) => self.park(Place::Topic(Arc::clone(topic)), message, permit),
        }
    }

    fn to_assumed(&self, assumed: &Assumed, message: Message, permit: Permit) -> Outcome<Receipt> {
        let Assumed { physical, place, is_queue } = assumed;
        if *is_queue && let Some(queue) = self.server.queue(physical) {
            return self.to_queue(&queue, message, permit);
        }
        if !is_queue && let Some(topic) = self.server.topic(physical) {
            return self.to_topic(&topic, message, permit);
        }
        Outcome::ready(Err(Error::missing(place, physical)))
    }

    /// Lets a message wait for room.
    fn park(&self, place: Place, message: Message, permit: Permit) -> Outcome<Receipt> {
        let by = self.time_limit();
        let ticket = self.sends.open(permit, by, Some(place.clone()));
        let parked = Parked { message, sends: Arc::clone(&self.sends), ticket, by };
        match &place {
            Place::Queue(queue) => queue.park(parked),
            Place::Topic(topic) => topic.log.park(parked),
        }
        // Closed meanwhile, and perhaps before it stood there.
        if self.closed.load(Ordering::Acquire) && place.unpark(ticket, &self.sends) {
            self.sends.tickets.complete(ticket, Err(closed()));
        }
        Outcome::pending(Arc::clone(&self.sends) as Arc<dyn Answers<Receipt>>, ticket)
    }

    fn time_limit(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.options.timeout).unwrap_or_else(|| now + LONGEST)
    }

    /// What happens to a send while a fault is on.
    #[cold]
    fn disturbed(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        match self.server.link() {
            Link::Down => {
                let error = Error::new(ErrorKind::Disconnected, "the memory server is stopped")
                    .with_outcome(ErrorOutcome::NotSent);
                return Outcome::ready(Err(error));
            }
            Link::BlackHole => {
                let ticket = self.sends.open(permit, self.time_limit(), None);
                if self.closed.load(Ordering::Acquire) {
                    self.sends.close();
                }
                return Outcome::pending(Arc::clone(&self.sends) as Arc<dyn Answers<Receipt>>, ticket);
            }
            Link::Up => {}
        }
        match self.server.take_publish_fault() {
            None => self.store(message, permit),
            Some(PublishFault::Refused) => {
                Outcome::ready(Err(Error::new(ErrorKind::Disconnected, "the publish was refused by an injected fault")
                    .with_outcome(ErrorOutcome::NotSent)))
            }
            Some(PublishFault::AnswerLost) => {
                drop(self.store(message, permit));
                Outcome::ready(Err(Error::new(ErrorKind::Disconnected, "the answer was lost by an injected fault")))
            }
        }
    }
}

#[cold]
fn closed() -> Error {
    Error::closed("the broker")
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
    fn core(&self) -> &PublisherCore {
        &self.core
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        if self.closed.load(Ordering::Relaxed) {
            return Outcome::ready(Err(closed()));
        }
        if self.server.is_disturbed() {
            return self.disturbed(message, permit);
        }
        self.store(message, permit)
    }

    fn send_now(&self, message: Message) -> std::result::Result<Result<Receipt>, Message> {
        if !self.can_answer_now() {
            return Err(message);
        }
        match &self.target {
            Target::Queue(queue) if queue.dedup.is_none() => match queue.publish(message) {
                Admission::Stored(receipt) => Ok(Ok(receipt)),
                Admission::Full(message) => Err(message),
                Admission::Gone => Ok(Err(gone(queue.source.as_ref()))),
            },
            Target::Topic(topic) if self.takes_any(topic) => match topic.publish(message) {
                Appended::At(receipt) => Ok(Ok(receipt)),
                Appended::Full(message) => Err(message),
            },
            _ => Err(message),
        }
    }

    fn send_many_now(&self, messages: &mut IntoIter<Message>, receipts: &mut Vec<Result<Receipt>>) {
        if !self.can_answer_now() {
            return;
        }
        match &self.target {
            Target::Queue(queue) if queue.dedup.is_none() => {
                let stored = queue.publish_many(messages, TOGETHER_MAX);
                receipts.extend((0..stored).map(|_| Ok(Receipt::default())));
            }
            Target::Topic(topic) if self.takes_any(topic) => topic.log.append_many(messages, TOGETHER_MAX, receipts),
            _ => {}
        }
    }
}

impl fmt::Debug for MemoryPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPublisher").field("scope", self.core.scope()).finish_non_exhaustive()
    }
}

/// Where a message waits for room.
#[derive(Clone, Debug)]
enum Place {
    Queue(Arc<Backlog>),
    Topic(Arc<Topic>),
}

impl Place {
    /// Takes a message out; false if it was stored meanwhile.
    fn unpark(&self, ticket: u64, sends: &Sends) -> bool {
        match self {
            Self::Queue(queue) => queue.unpark(ticket, sends),
            Self::Topic(topic) => topic.unpark(ticket, sends),
        }
    }
}

/// The sends of one publisher that were not answered at once: those that wait for room, and those that fell into a black
/// hole. Each has a time limit, met by a task that lives only while there are some: whoever published may have stopped
/// waiting, and still the place in flight has to come free.
pub(crate) struct Sends {
    me: Weak<Self>,
    tickets: Arc<Tickets<Receipt>>,
    slow: Mutex<Slow>,
}

#[derive(Default)]
struct Slow {
    /// By time limit and ticket, where the message waits; none: it fell into the black hole.
    sends: BTreeMap<(Instant, u64), Option<Place>>,
    timer: Option<AbortHandle>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

impl Sends {
    fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: me.clone(), tickets: Tickets::new(), slow: Mutex::default() })
    }

    /// Opens a ticket that is failed at `by` if it was not answered.
    fn open(&self, permit: Permit, by: Instant, place: Option<Place>) -> u64 {
        let ticket = self.tickets.open(permit);
        let mut slow = self.slow.lock();
        slow.sends.insert((by, ticket), place);
        if slow.timer.as_ref().is_none_or(AbortHandle::is_finished)
            && let Ok(runtime) = Handle::try_current()
        {
            slow.timer = Some(runtime.spawn(time_out(Weak::clone(&self.me), by)).abort_handle());
        }
        ticket
    }

    /// A message that waited for room was stored.
    pub(crate) fn stored(&self, ticket: u64, by: Instant, receipt: Receipt) {
        let place = self.slow.lock().sends.remove(&(by, ticket));
        drop(place);
        self.tickets.complete(ticket, Ok(receipt));
    }

    /// What fell into the black hole never arrives.
    pub(crate) fn lose_held(&self) {
        let lost = self.slow.lock().sends.extract_if(.., |_, place| place.is_none()).collect();
        self.fail(lost, |_| Error::new(ErrorKind::Disconnected, "the connection was lost before the broker answered"));
    }

    /// Ends all that waits, when the broker is closed.
    pub(crate) fn close(&self) {
        let taken = std::mem::take(&mut self.slow.lock().sends);
        self.fail(taken, |place| match place {
            Some(_) => closed(),
            // It was on its way: nobody knows how far it came.
            None => closed().with_outcome(ErrorOutcome::Unknown),
        });
    }

    /// Fails what is out of time; returns when the next will be, if there is one.
    fn time_out(&self, now: Instant) -> Option<Instant> {
        let mut slow = self.slow.lock();
        let late = slow.sends.extract_if(..=(now, u64::MAX), |_, _| true).collect();
        let next = slow.sends.first_key_value().map(|((by, _), _)| *by);
        if next.is_none() {
            slow.timer = None;
        }
        drop(slow);
        self.fail(late, out_of_time);
        next
    }

    fn fail(&self, taken: BTreeMap<(Instant, u64), Option<Place>>, error: impl Fn(Option<&Place>) -> Error) {
        for ((_, ticket), place) in taken {
            // What was stored meanwhile is answered by whoever stored it.
            if place.as_ref().is_none_or(|place| place.unpark(ticket, self)) {
                self.tickets.complete(ticket, Err(error(place.as_ref())));
            }
        }
    }
}

async fn time_out(sends: Weak<Sends>, mut next: Instant) {
    loop {
        tokio::time::sleep_until(next).await;
        let Some(later) = sends.upgrade().and_then(|sends| sends.time_out(Instant::now())) else { return };
        next = later;
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

impl Answers<Receipt> for Sends {
    fn poll_answer(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<Receipt>> {
        self.tickets.poll_answer(ticket, cx)
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
