//! The writer's task: opens its channel, writes, answers, and opens it again when it is lost.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use messaging_core::{
    Destination, Error, ErrorKind, ErrorOutcome, Inbox, Message, Receipt, Result, Tickets, TicketsOwner,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::confirms::{Confirms, Waiting};
use super::{BATCH, CopyPlace, Envelope, Parcel, Purpose, Surroundings, WriterState};
use crate::connection::Line;
use crate::convert::{Extra, write, write_copy};
use crate::delay::Due;
use crate::error::{Call, closed, from_lapin, silent};
use crate::layout::{Route, Target};
use crate::requester::receive_replies;
use crate::topology::Found;

/// The most publishes that wait on one channel: a confirm of many looks at each of them in the client.
const CONFIRMS_MAX: usize = 5_000;
/// How long a lost channel may take to say what became of the publishes that were open.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// The longest pause between two attempts to open a channel.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// After a topic's exchange had to be made anew, its subscriptions get so long to bind themselves again: see
/// [`REBIND_EVERY`](crate::consumer::REBIND_EVERY).
const REBIND_TIME: Duration = Duration::from_secs(3);

pub(super) struct Actor {
    around: Surroundings,
    purpose: Purpose,
    in_flight: usize,
    timeout: Duration,
    received: mpsc::UnboundedReceiver<Parcel>,
    /// No handle is left.
    is_orphan: bool,
    state: Arc<WriterState>,
    tickets: TicketsOwner<Receipt>,
    /// What did not leave yet, in order.
    kept: VecDeque<Parcel>,
    confirms: Confirms,
    /// Answers that are kept back because a queue is too young.
    ripening: Vec<(Instant, u64)>,
    /// A queue was missing: it is declared again before the next write.
    declare_again: bool,
    tick: Interval,
    inbox: Vec<Parcel>,
    answers: Vec<(Waiting, Result<Receipt>)>,
}

/// A parcel with its address on it.
struct Addressed {
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
    mandatory: bool,
    young_until: Option<Instant>,
}

/// Why a channel is not served any more.
enum End {
    Lost(String),
    Done,
}

impl Actor {
    pub(super) fn new(
        around: Surroundings,
        purpose: Purpose,
        in_flight: usize,
        timeout: Duration,
        received: mpsc::UnboundedReceiver<Parcel>,
        state: Arc<WriterState>,
    ) -> Self {
        let every = (timeout / 10).clamp(Duration::from_millis(10), Duration::from_millis(100));
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            around,
            purpose,
            in_flight,
            timeout,
            received,
            is_orphan: false,
            state,
            tickets: Tickets::owned(),
            kept: VecDeque::new(),
            confirms: Confirms::default(),
            ripening: Vec::new(),
            declare_again: false,
            tick,
            inbox: Vec::with_capacity(BATCH),
            answers: Vec::new(),
        }
    }

    pub(super) fn tickets(&self) -> &Arc<Tickets<Receipt>> {
        self.tickets.tickets()
    }

    pub(super) async fn run(mut self) {
        let mut pause = Duration::from_millis(20);
        let mut is_first = true;
        while !self.is_done() {
            match self.open(is_first).await {
                Some(Ok(channel)) => {
                    is_first = false;
                    pause = Duration::from_millis(20);
                    *self.state.trouble.lock() = None;
                    self.state.opened.send_replace(Some(Ok(())));
                    let end = self.serve(&channel).await;
                    if let End::Lost(why) = end {
                        self.in_trouble(why);
                    }
                    self.last_words().await;
                    self.forget_young();
                    let _ = timeout(LAST_WORDS, channel.close(200, "done".into())).await;
                }
                Some(Err(error)) => {
                    self.in_trouble(error.text().to_owned());
                    if is_first && !error.is_retryable() {
                        self.state.opened.send_replace(Some(Err((error.kind(), error.text().to_owned()))));
                    }
                    if error.kind() == ErrorKind::Closed {
                        break;
                    }
                    self.wait(sleep(pause)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                None => break,
            }
        }
        self.finish();
    }

    fn is_done(&self) -> bool {
        self.state.end.is_cancelled() || (self.is_orphan && self.kept.is_empty())
    }

    fn in_trouble(&self, why: String) {
        let mut trouble = self.state.trouble.lock();
        let since = trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *trouble = Some((since, why));
    }

    /// Opens a channel that confirms; meanwhile takes in what is sent and answers what runs out of time. None when the task is
    /// to end.
    async fn open(&mut self, is_first: bool) -> Option<Result<Line>> {
        let around = self.around.clone();
        let (again, inbox) = match &self.purpose {
            // The publisher made sure of its destination when it was opened.
            Purpose::Destination(target) => ((!is_first).then(|| target.destination.clone()), None),
            Purpose::Copies => (None, None),
            Purpose::Requests(inbox) => (None, Some(inbox.clone())),
        };
        self.wait(open_channel(around, again, inbox)).await
    }

    /// Waits for something while there is no channel.
    async fn wait<T>(&mut self, until: impl Future<Output = T>) -> Option<T> {
        let mut until = std::pin::pin!(until);
        loop {
            tokio::select! {
                done = &mut until => return Some(done),
                () = self.state.end.cancelled() => return None,
                taken = self.received.recv_many(&mut self.inbox, BATCH), if !self.is_orphan => self.take_in(taken),
                _ = self.tick.tick() => self.look_at_the_clock(),
            }
            if self.is_done() {
                return None;
            }
        }
    }

    fn take_in(&mut self, taken: usize) {
        self.is_orphan = taken == 0;
        self.kept.extend(self.inbox.drain(..));
    }

    /// Writes and answers until the channel is lost or there is nothing more to do.
    async fn serve(&mut self, channel: &Line) -> End {
        let mut lost = std::pin::pin!(channel.lost());
        loop {
            if !self.kept.is_empty() && self.confirms.len() < CONFIRMS_MAX {
                if let Err(why) = self.write(channel).await {
                    return End::Lost(why);
                }
            } else {
                let may_take = !self.is_orphan && self.kept.is_empty();
                let (confirms, answers) = (&mut self.confirms, &mut self.answers);
                tokio::select! {
                    biased;
                    () = self.state.end.cancelled() => return End::Done,
                    () = &mut lost => return End::Lost("the connection was lost".to_owned()),
                    taken = self.received.recv_many(&mut self.inbox, BATCH), if may_take => self.take_in(taken),
                    () = poll_fn(|cx| confirms.poll_answers(cx, answers)), if !confirms.is_empty() => {}
                    _ = self.tick.tick() => {
                        self.look_at_the_clock();
                        if !channel.status().connected() {
                            return End::Lost("the channel was closed".to_owned());
                        }
                        if self.confirms.expired() > self.in_flight.max(1_000) {
                            return End::Lost("the broker confirms nothing".to_owned());
                        }
                    }
                }
            }
            if self.give_answers() {
                return End::Lost("the channel was closed".to_owned());
            }
            if self.is_orphan && self.kept.is_empty() && self.confirms.is_empty() && self.ripening.is_empty() {
                return End::Done;
            }
        }
    }

    /// Tells the senders. Returns whether an answer says that the channel is lost.
    fn give_answers(&mut self) -> bool {
        let mut lost = false;
        let mut answers = Vec::with_capacity(self.answers.len());
        for (waiting, result) in self.answers.drain(..) {
            match &result {
                Ok(_) => {
                    if let Some(young_until) = waiting.young_until.filter(|until| *until > Instant::now()) {
                        self.ripening.push((young_until, waiting.ticket));
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unroutable => {
                    self.declare_again = true;
                    self.around.delays.forget();
                }
                Err(error) => {
                    if error.kind() == ErrorKind::NotFound {
                        // An exchange is gone; a bucket's perhaps.
                        self.around.delays.forget();
                    }
                    lost |= error.kind() != ErrorKind::Full;
                }
            }
            answers.push((waiting.ticket, result));
        }
        self.tickets.complete_many(answers);
        lost
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        let limit = self.timeout;
        while let Some(parcel) = self.kept.pop_front_if(|parcel| parcel.until <= now) {
            let why = self.state.trouble.lock().as_ref().map(|(_, why)| format!(": {why}")).unwrap_or_default();
            let error = Error::new(ErrorKind::Timeout, format!("it could not be sent within {limit:?}{why}"));
            self.tickets.complete(parcel.ticket, Err(error.with_outcome(ErrorOutcome::NotSent)));
        }
        let tickets = &self.tickets;
        self.confirms.expire(now, |ticket| tickets.complete(ticket, Err(silent("a publish", limit))));
        self.ripening.retain(|(until, ticket)| {
            let ripe = *until <= now;
            if ripe {
                tickets.complete(*ticket, Ok(Receipt::default()));
            }
            !ripe
        });
    }

    /// Writes what is kept, as much as goes at once. An error says why the channel cannot be used any more.
    async fn write(&mut self, channel: &Line) -> std::result::Result<(), String> {
        if mem::take(&mut self.declare_again)
            && let Purpose::Destination(target) = &self.purpose
            && let Err(error) = self.around.topology.destination(&target.destination).await
        {
            tracing::warn!(%error, "a destination that was missing could not be declared again");
        }
        let count = self.kept.len().min(BATCH);
        let mut parcels = Vec::with_capacity(count);
        let mut writes = Vec::with_capacity(count);
        for parcel in self.kept.drain(..count).collect::<Vec<_>>() {
            match self.address(&parcel).await {
                Ok(addressed) => {
                    parcels.push(parcel);
                    writes.push(addressed);
                }
                Err(error) => self.tickets.complete(parcel.ticket, Err(error.with_outcome(ErrorOutcome::NotSent))),
            }
        }
        let Some(until) = parcels.iter().map(|parcel| parcel.until).min() else { return Ok(()) };
        let mut entries = Vec::with_capacity(parcels.len());
        let publishes = parcels.iter().zip(writes).map(|(parcel, to)| {
            entries.push(Waiting {
                ticket: parcel.ticket,
                until: parcel.until,
                id: to.mandatory.then(|| parcel.message.id().clone()),
                young_until: to.young_until,
                expired: false,
            });
            let options = BasicPublishOptions { mandatory: to.mandatory, immediate: false };
            channel.basic_publish(to.exchange, to.routing_key, options, parcel.message.payload(), to.properties)
        });
        let unknown = match timeout_at(until, channel.unless_lost(written_in_order(publishes))).await {
            Ok(Ok(written)) => return self.written(parcels, entries, written),
            Ok(Err(lost)) => lost,
            Err(_) => silent("a publish", self.timeout),
        };
        // The frames stand in the client's queue, and may have left or leave yet.
        for parcel in parcels {
            let error = Error::new(unknown.kind(), unknown.text().to_owned());
            self.tickets.complete(parcel.ticket, Err(error));
        }
        Err("the connection takes no messages".to_owned())
    }

    fn written(
        &mut self,
        parcels: Vec<Parcel>,
        entries: Vec<Waiting>,
        written: Vec<lapin::Result<lapin::PublisherConfirm>>,
    ) -> std::result::Result<(), String> {
        let mut broken = None;
        let mut unsent = VecDeque::new();
        for ((parcel, waiting), result) in parcels.into_iter().zip(entries).zip(written) {
            match result {
                Ok(confirm) => self.confirms.push(waiting, confirm),
                Err(error) => {
                    let error = from_lapin(&error, Call::Publish);
                    broken.get_or_insert_with(|| error.text().to_owned());
                    if error.outcome() == ErrorOutcome::NotSent && error.kind() == ErrorKind::Disconnected {
                        unsent.push_back(parcel);
                    } else {
                        self.tickets.complete(parcel.ticket, Err(error));
                    }
                }
            }
        }
        if !unsent.is_empty() {
            unsent.append(&mut self.kept);
            self.kept = unsent;
        }
        broken.map_or(Ok(()), Err)
    }

    /// Says where a parcel goes, and writes what stands on it.
    async fn address(&self, parcel: &Parcel) -> Result<Addressed> {
        let message = &parcel.message;
        match (&parcel.envelope, &self.purpose) {
            (Envelope::Fresh, Purpose::Destination(target)) => self.address_fresh(message, target).await,
            (Envelope::To(target), _) => self.address_fresh(message, target).await,
            (Envelope::Fresh, _) => {
                Err(Error::new(ErrorKind::Internal, "a writer without a destination was given a message"))
            }
            (Envelope::Copy(to), _) => match &to.place {
                CopyPlace::Queue(queue) => Ok(Addressed {
                    exchange: ShortString::default(),
                    routing_key: queue.clone(),
                    properties: write_copy(message, &to.extra),
                    mandatory: to.mandatory,
                    young_until: None,
                }),
                CopyPlace::Later(due, delay) => {
                    let key = match due {
                        Due::Queue(queue) => queue.clone(),
                        Due::Exchange(_) => ShortString::default(),
                    };
                    self.address_later(message, due, *delay, to.extra.clone(), key).await
                }
            },
        }
    }

    async fn address_fresh(&self, message: &Message, target: &Target) -> Result<Addressed> {
        let Some(delay) = message.delay().filter(|delay| !delay.is_zero()) else {
            let in_key = matches!(target.route, Route::Subject | Route::LanesAndSubject(_));
            return Ok(Addressed {
                exchange: target.exchange.clone(),
                routing_key: target.routing_key(message),
                properties: write(message, !in_key),
                mandatory: target.mandatory,
                young_until: None,
            });
        };
        let key = target.routing_key(message);
        let due = if target.exchange.as_str().is_empty() {
            Due::Queue(key.clone())
        } else {
            Due::Exchange(target.exchange.clone())
        };
        let expires = message.ttl().map(|ttl| SystemTime::now() + ttl);
        self.address_later(message, &due, delay, Extra { expires, ..Extra::default() }, key).await
    }

    async fn address_later(
        &self,
        message: &Message,
        due: &Due,
        delay: Duration,
        mut extra: Extra,
        key: ShortString,
    ) -> Result<Addressed> {
        let bucket = self.around.delays.bucket(due, delay).await?;
        extra.due = (!bucket.is_last).then(|| SystemTime::now() + delay);
        Ok(Addressed {
            mandatory: bucket.routing_key.is_some(),
            exchange: bucket.exchange,
            routing_key: bucket.routing_key.unwrap_or(key),
            properties: write_copy(message, &extra),
            young_until: bucket.young_until,
        })
    }

    /// After the channel was lost: who was answered gets the answer, of the others it is not known.
    async fn last_words(&mut self) {
        let by = Instant::now() + LAST_WORDS;
        while !self.confirms.take_all(&mut self.answers) && Instant::now() < by {
            sleep(Duration::from_millis(5)).await;
        }
        self.give_answers();
        let lost = || Error::new(ErrorKind::Disconnected, "the connection was lost before the broker confirmed");
        let left: Vec<u64> = self.confirms.give_up().map(|waiting| waiting.ticket).collect();
        for ticket in left {
            self.tickets.complete(ticket, Err(lost()));
        }
    }

    /// What was confirmed by a queue too young to be trusted may be gone with it.
    fn forget_young(&mut self) {
        for (_, ticket) in self.ripening.drain(..) {
            let why = "the connection was lost before the queue was old enough to be trusted with the message";
            self.tickets.complete(ticket, Err(Error::new(ErrorKind::Disconnected, why)));
        }
    }

    fn finish(mut self) {
        self.state.closed.store(true, std::sync::atomic::Ordering::Release);
        self.received.close();
        while let Ok(parcel) = self.received.try_recv() {
            self.kept.push_back(parcel);
        }
        for parcel in self.kept.drain(..) {
            self.tickets.complete(parcel.ticket, Err(closed()));
        }
        for (_, ticket) in self.ripening.drain(..) {
            self.tickets.complete(ticket, Err(closed().with_outcome(ErrorOutcome::Unknown)));
        }
    }
}

/// Writes all, in order, and waits until the last has left.
///
/// The first look at a publish hands its frames to the client; so all are looked at once and then awaited one by one.
/// `join_all` would have each of them wake and look up its place in a queue.
async fn written_in_order<F: Future>(publishes: impl Iterator<Item = F>) -> Vec<F::Output> {
    enum Publish<F: Future> {
        UnderWay(Pin<Box<F>>),
        Done(F::Output),
    }
    let mut begun = Vec::with_capacity(publishes.size_hint().0);
    for publish in publishes {
        let mut publish = Box::pin(publish);
        begun.push(match publish.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Publish::Done(done),
            Poll::Pending => Publish::UnderWay(publish),
        });
    }
    let mut written = Vec::with_capacity(begun.len());
    for publish in begun {
        written.push(match publish {
            Publish::Done(done) => done,
            Publish::UnderWay(publish) => publish.await,
        });
    }
    written
}

async fn open_channel(around: Surroundings, again: Option<Destination>, inbox: Option<Arc<Inbox>>) -> Result<Line> {
    let limit = around.topology.config.request_timeout;
    let channel = around.link.channel(Instant::now() + limit).await?;
    match timeout(limit, channel.confirm_select(ConfirmSelectOptions::default())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(from_lapin(&error, Call::Other)),
        Err(_) => return Err(silent("opening a publishing channel", limit)),
    }
    if let Some(inbox) = inbox {
        let receiving = channel.unless_lost(receive_replies(&channel, &inbox, &around.tasks));
        timeout(limit, receiving).await.map_err(|_| silent("opening a channel for replies", limit))???;
    }
    if let Some(destination) = again
        && around.topology.destination(&destination).await? == Found::Made
    {
        around.delays.forget();
        sleep(REBIND_TIME).await;
    }
    Ok(channel)
}
