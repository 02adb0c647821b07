//! The consumer's task: registers, hands over what comes, writes settlements, and registers again when the channel is lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use messaging_core::{
    DeadLetterReason, Delivery, Error, ErrorKind, Event, Flow, Result, Tickets, TicketsOwner, Unsettled,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

use super::attach::{Arrival, Attached, FINISH_WITHIN, Incoming as Arrivals, attach, bind_again, qos, register};
use super::copies::{Copied, Copies, Job, copied};
use super::shared::Item;
use super::{Around, Finished, Plan, REBIND_EVERY, Request, Shared, What};
use crate::acks::Acks;
use crate::connection::Line;
use crate::convert::{Incoming, read};
use crate::error::{Call, closed, from_lapin, silent, stale};
use crate::settle::{Command, Epoch, Retries};

/// How long an acknowledgement may wait for others to go with it.
const ACK_WITHIN: Duration = Duration::from_millis(2);
/// How many deliveries or settlements are taken in one go.
const BATCH: usize = 128;
/// The longest pause between two attempts to register.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the broker may take to close a channel that is given up; its successor does not wait longer.
const GOODBYE: Duration = Duration::from_secs(1);
/// What is due within this is handed out: a bucket could not wait shorter.
const DUE_ENOUGH: Duration = Duration::from_millis(1);

pub(super) struct Worker {
    around: Around,
    plan: Plan,
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Request>,
    tickets: TicketsOwner<()>,
    /// Tells this member from others of the same source.
    member: String,
    /// Settlements that were written since the last flush.
    unflushed: u64,
    /// Of those, how many were on channels that are gone.
    lost: u64,
}

/// Why a channel is not served any more.
enum End {
    /// It is gone; or the broker cancelled the consumer, as when its queue is deleted.
    Lost { why: String, cancelled: bool },
    /// Nobody wants deliveries any more.
    Finish { by: Instant, done: Option<oneshot::Sender<Finished>> },
}

impl Worker {
    pub(super) fn new(
        around: Around,
        plan: Plan,
        shared: Arc<Shared>,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Self {
        let member = messaging_core::MessageId::generate().to_string();
        Self { around, plan, shared, requests, tickets: Tickets::owned(), member, unflushed: 0, lost: 0 }
    }

    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<()>>) {
        let attached = match self.attach_first().await {
            Ok(attached) => attached,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let mut service = self.begin(attached, false);
        if opened.send(Ok(())).is_err() {
            self.shared.set_dropped();
        }
        loop {
            match service.serve(&mut self).await {
                End::Finish { by, done } => {
                    let finished = service.finish(&mut self, by).await;
                    if let Some(done) = done {
                        let _ = done.send(finished);
                    }
                    return;
                }
                End::Lost { why, cancelled } => {
                    service.abandon(&mut self, &why).await;
                    match self.attach_again(why, cancelled).await {
                        Some(attached) => service = self.begin(attached, true),
                        None => return,
                    }
                }
            }
        }
    }

    /// Registers for the first time; again if the connection is lost meanwhile.
    async fn attach_first(&self) -> Result<Attached> {
        let by = Instant::now() + self.around.topology.config.request_timeout;
        loop {
            match attach(&self.around, &self.plan, &self.member, self.shared.flow()).await {
                Err(error) if error.kind() == ErrorKind::Disconnected && Instant::now() < by => {
                    sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }

    fn begin(&self, attached: Attached, is_back: bool) -> Service {
        let (commands, received) = mpsc::unbounded_channel();
        let retries = if self.plan.by_key || matches!(self.plan.what, What::Ephemeral { .. }) {
            Retries::Here
        } else if attached.reading.counts {
            Retries::AtBroker
        } else {
            Retries::ByCopies
        };
        let tickets = self.tickets.tickets().clone();
        let epoch = Arc::new(Epoch::new(self.shared.clone(), commands, tickets, retries));
        self.shared.begin(epoch, is_back);
        if is_back && matches!(self.plan.what, What::Ephemeral { .. }) {
            self.shared.happened(Event::Gap { missed: None });
        }
        Service::new(attached, received)
    }

    /// Registers again, however long it takes. None when nobody wants deliveries any more.
    async fn attach_again(&mut self, mut why: String, cancelled: bool) -> Option<Attached> {
        let mut pause = Duration::from_millis(20);
        if self.was_unsubscribed(cancelled).await {
            self.shared.set_ended();
            return None;
        }
        loop {
            if self.shared.is_dropped() {
                return None;
            }
            let (around, plan, member) = (self.around.clone(), self.plan.clone(), self.member.clone());
            let flow = self.shared.flow();
            let mut attaching = Box::pin(async move { attach(&around, &plan, &member, flow).await });
            loop {
                tokio::select! {
                    attached = &mut attaching => match attached {
                        Ok(attached) => return Some(attached),
                        Err(error) if error.kind() == ErrorKind::Closed => {
                            self.answer_without_channel(closed().text());
                            self.shared.set_closed();
                            return None;
                        }
                        Err(error) => {
                            why = error.text().to_owned();
                            self.shared.still_in_trouble(&why);
                            break;
                        }
                    },
                    request = self.requests.recv() => if self.answer(request, &why) { return None },
                    () = self.shared.changed.notified() => if self.shared.is_dropped() { return None },
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                request = self.requests.recv() => if self.answer(request, &why) { return None },
                () = self.shared.changed.notified() => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Whether the subscription was ended, by whomever: its queue is gone then, and must not be made again.
    async fn was_unsubscribed(&self, cancelled: bool) -> bool {
        if self.shared.is_ended() {
            return true;
        }
        let What::Source { source: source @ messaging_core::Source::Subscription(..), .. } = &self.plan.what else {
            return false;
        };
        if !cancelled {
            return false;
        }
        let mut session = self.around.topology.session();
        let found = session.queue(&self.around.topology.queue_names(source)[0]).await;
        session.close().await;
        matches!(found, Ok(None))
    }

    /// Answers a request while there is no channel. Returns whether it was the last.
    fn answer(&mut self, request: Option<Request>, why: &str) -> bool {
        match request {
            None => true,
            Some(Request::Flush { done, .. }) => {
                let _ = done.send(self.flushed());
                false
            }
            Some(Request::Finish { done, .. }) => {
                let error = Error::new(ErrorKind::Disconnected, format!("the consumer was away when it ended: {why}"));
                let unconfirmed = std::mem::take(&mut self.lost);
                let _ = done.send(Finished { unconfirmed, errors: vec![error], ..Finished::default() });
                true
            }
        }
    }

    fn answer_without_channel(&mut self, why: &str) {
        while let Ok(request) = self.requests.try_recv() {
            self.answer(Some(request), why);
        }
    }

    /// What a flush comes to once all that could be flushed is.
    fn flushed(&mut self) -> Result<()> {
        match std::mem::take(&mut self.lost) {
            0 => Ok(()),
            lost => Err(Error::new(
                ErrorKind::StaleDelivery,
                format!(
                    "the connection was lost after {lost} settlements were written and before the broker was known to have them: their messages may come again"
                ),
            )),
        }
    }
}

fn lost(why: impl Into<String>) -> End {
    End::Lost { why: why.into(), cancelled: false }
}

/// One channel in service.
struct Service {
    channel: Line,
    attached: Attached,
    commands: mpsc::UnboundedReceiver<Command>,
    acks: Acks,
    /// The highest tag that came.
    last_tag: u64,
    /// How many came and are not settled at the broker.
    unacknowledged: u64,
    copies: FuturesUnordered<Pin<Box<dyn Future<Output = Copied> + Send>>>,
    /// What this consumer holds until its time: handed out again, or given back.
    later: BinaryHeap<Reverse<Later>>,
    later_count: u64,
    inbox: Vec<Command>,
    items: Vec<Item>,
    returns: Vec<u64>,
    write_by: Option<Instant>,
    is_stopping: bool,
    is_paused: bool,
    released: u64,
    /// What came instead of a delivery: an error, or the end.
    ending: Option<Option<Arrival>>,
    /// Until when those live that do not live for ever, by tag.
    deadlines: HashMap<u64, SystemTime>,
}

/// What waits at this consumer.
struct Later {
    at: Instant,
    order: u64,
    what: Held,
}

enum Held {
    Again(Unsettled),
    Return(u64),
}

impl Service {
    fn new(attached: Attached, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        let is_paused = attached.tags.is_empty();
        Self {
            channel: attached.channel.clone(),
            attached,
            commands,
            acks: Acks::default(),
            last_tag: 0,
            unacknowledged: 0,
            copies: FuturesUnordered::new(),
            later: BinaryHeap::new(),
            later_count: 0,
            inbox: Vec::with_capacity(BATCH),
            items: Vec::with_capacity(BATCH),
            returns: Vec::new(),
            write_by: None,
            is_stopping: false,
            is_paused,
            released: 0,
            ending: None,
            deadlines: HashMap::new(),
        }
    }

    async fn serve(&mut self, worker: &mut Worker) -> End {
        let mut look = interval(REBIND_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut rebinding: Option<Pin<Box<dyn Future<Output = Result<bool>> + Send>>> = None;
        let line = self.channel.clone();
        let mut line_lost = std::pin::pin!(line.lost());
        let half = (worker.plan.prefetch / 2).clamp(1, BATCH);
        loop {
            let wake_at = self.later.peek().map(|Reverse(later)| later.at);
            let write_by = self.write_by;
            tokio::select! {
                biased;
                () = &mut line_lost => return lost("the connection was lost"),
                taken = self.commands.recv_many(&mut self.inbox, BATCH) => {
                    if taken > 0 {
                        self.obey(worker);
                    }
                }
                delivery = next_arrival(&mut self.ending, &mut self.attached.deliveries), if !self.is_stopping && !self.is_paused => match delivery {
                    Some(Ok(delivery)) => self.take_in(delivery, worker),
                    Some(Err(error)) => return lost(from_lapin(&error, Call::Consume).text().to_owned()),
                    None => return End::Lost { why: "the broker cancelled the consumer: its queue was deleted or moved".to_owned(), cancelled: true },
                },
                Some(done) = self.copies.next(), if !self.copies.is_empty() => self.copied(worker, done),
                () = sleep_until(write_by.unwrap_or_else(Instant::now)), if write_by.is_some() => {}
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => self.wake(worker),
                () = worker.shared.changed.notified() => {
                    if worker.shared.is_dropped() {
                        return End::Finish { by: Instant::now() + FINISH_WITHIN, done: None };
                    }
                    match worker.shared.flow() {
                        Flow::Stopped if !self.is_stopping => self.stop(worker).await,
                        Flow::Paused if !self.is_paused => if let Err(error) = self.pause(worker).await {
                            return lost(error.text());
                        },
                        Flow::Running if self.is_paused => if let Err(error) = self.resume(worker).await {
                            return lost(error.text());
                        },
                        _ => {}
                    }
                }
                request = worker.requests.recv() => match request {
                    Some(Request::Flush { by, done }) => {
                        let flushed = self.flush(worker, by).await;
                        let result = flushed.and_then(|()| worker.flushed());
                        let _ = done.send(result);
                    }
                    Some(Request::Finish { by, done }) => return End::Finish { by, done: Some(done) },
                    None => return End::Finish { by: Instant::now() + FINISH_WITHIN, done: None },
                },
                gap = next_of(&mut self.attached.gaps) => {
                    if gap {
                        worker.shared.happened(Event::Gap { missed: None });
                    }
                }
                rebound = async { match &mut rebinding { Some(under_way) => under_way.await, None => std::future::pending().await } } => {
                    rebinding = None;
                    self.rebound(worker, rebound);
                }
                _ = look.tick() => {
                    if !self.channel.status().connected() {
                        return lost("the channel was closed".to_owned());
                    }
                    if rebinding.is_none() && is_bound(&worker.plan.what) {
                        let (around, what) = (worker.around.clone(), worker.plan.what.clone());
                        rebinding = Some(Box::pin(bind_again(around, what, self.attached.binding.clone())));
                    }
                }
            }
            let due = self.write_by.is_some_and(|by| by <= Instant::now());
            if (due || self.acks.waiting() >= half || !self.returns.is_empty())
                && let Err(error) = self.write(worker).await
            {
                return lost(error.text().to_owned());
            }
        }
    }

    fn rebound(&self, worker: &Worker, rebound: Result<bool>) {
        match rebound {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("a topic's exchange was gone, and was made and bound again");
                if matches!(worker.plan.what, What::Ephemeral { .. }) {
                    worker.shared.happened(Event::Gap { missed: None });
                }
            }
            Err(error) => tracing::debug!(%error, "a subscription could not be bound again, for now"),
        }
    }

    /// Takes in one delivery and all that came with it.
    fn take_in(&mut self, first: lapin::message::Delivery, worker: &mut Worker) {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(delivery) = next {
            self.take_one(delivery, worker);
            count += 1;
            next = if count < BATCH { self.next_at_once() } else { None };
        }
        worker.shared.set_unacknowledged(self.unacknowledged);
        if !self.items.is_empty() {
            worker.shared.push(&mut self.items);
        }
    }

    /// The next delivery, if it is there. What is none is kept for the next look.
    fn next_at_once(&mut self) -> Option<lapin::message::Delivery> {
        match self.attached.deliveries.next().now_or_never()? {
            Some(Ok(delivery)) => Some(delivery),
            other => {
                self.ending = Some(other);
                None
            }
        }
    }

    fn take_one(&mut self, delivery: lapin::message::Delivery, worker: &Worker) {
        let lapin::message::Delivery {
            delivery_tag: tag, exchange, routing_key, redelivered, properties, data, ..
        } = delivery;
        self.came(tag);
        let reading = &self.attached.reading;
        let Incoming { message, attempt, redriven, due, expires } =
            read(Bytes::from(data), properties, &exchange, &routing_key, redelivered, reading);
        let unsettled = Unsettled { message, tag, attempt, redriven, position: None };
        if due.is_none() && expires.is_none() && unsettled.message.ttl().is_none() {
            self.items.push(Item { delivery: unsettled, expires: None });
            return;
        }
        let now = SystemTime::now();
        let rest = due.and_then(|due| due.duration_since(now).ok()).filter(|rest| *rest > DUE_ENOUGH);
        if let Some(rest) = rest {
            if matches!(worker.plan.what, What::Ephemeral { .. }) {
                // Its queue goes with this consumer: a bucket would be left with nowhere to lead to.
                self.deadlines.extend(expires.map(|until| (tag, until)));
                self.hold(rest, Held::Again(unsettled));
                return;
            }
            let outcome = self.copier(worker).forward(&unsettled, rest, expires);
            self.follow(Job { delivery: unsettled, ticket: None, again: false }, outcome);
            return;
        }
        let left = time_left(&unsettled, expires, now);
        if left.is_some_and(|left| left.is_zero()) {
            self.expire(worker, unsettled);
            return;
        }
        if let Some(left) = left {
            self.deadlines.insert(tag, now + left);
        }
        self.items.push(Item { delivery: unsettled, expires: left.map(|left| Instant::now() + left) });
    }

    fn came(&mut self, tag: u64) {
        self.last_tag = self.last_tag.max(tag);
        self.unacknowledged += 1;
    }

    fn copier<'a>(&'a self, worker: &'a Worker) -> Copies<'a> {
        Copies {
            writer: &worker.around.copies,
            topology: &worker.around.topology,
            what: &worker.plan.what,
            queues: &self.attached.queues,
        }
    }

    fn follow(&self, job: Job, outcome: messaging_core::Outcome<messaging_core::Receipt>) {
        self.copies.push(Box::pin(copied(job, outcome)));
    }

    fn expire(&mut self, worker: &Worker, delivery: Unsettled) {
        match self.copier(worker).dead_letter(&delivery, DeadLetterReason::new(DeadLetterReason::EXPIRED)) {
            Some(outcome) => self.follow(Job { delivery, ticket: None, again: false }, outcome),
            None => self.ack(delivery.tag),
        }
    }

    fn ack(&mut self, tag: u64) {
        if !self.deadlines.is_empty() {
            self.deadlines.remove(&tag);
        }
        self.acks.ack(tag);
        self.write_by.get_or_insert_with(|| Instant::now() + ACK_WITHIN);
    }

    /// Does what the settlements say.
    fn obey(&mut self, worker: &mut Worker) {
        for command in std::mem::take(&mut self.inbox) {
            match command {
                Command::Ack(tag) => self.ack(tag),
                Command::AckMany(tags) => tags.iter().for_each(|tag| self.ack(*tag)),
                Command::Return(tag) => self.returns.push(tag),
                Command::Again { mut delivery, after } => {
                    delivery.attempt = delivery.attempt.saturating_add(1);
                    self.hold(after, Held::Again(delivery));
                }
                Command::Retry { delivery, after, ticket } => {
                    let expires = self.deadlines.get(&delivery.tag).copied();
                    let outcome = self.copier(worker).retry(&delivery, after, expires);
                    self.follow(Job { delivery, ticket: Some(ticket), again: false }, outcome);
                }
                Command::DeadLetter { delivery, reason, ticket } => {
                    match self.copier(worker).dead_letter(&delivery, *reason) {
                        Some(outcome) => {
                            let again = worker.plan.by_key;
                            self.follow(Job { delivery, ticket: Some(ticket), again }, outcome);
                        }
                        None => {
                            self.returns.push(delivery.tag);
                            let why = "an ephemeral subscription has no dead letter";
                            worker.tickets.complete(ticket, Err(Error::new(ErrorKind::Unsupported, why)));
                        }
                    }
                }
                Command::Expired(delivery) => {
                    worker.shared.leave(delivery.tag);
                    self.expire(worker, delivery);
                }
            }
        }
    }

    fn hold(&mut self, after: Duration, what: Held) {
        self.later_count += 1;
        self.later.push(Reverse(Later { at: Instant::now() + after, order: self.later_count, what }));
    }

    /// What was held until now.
    fn wake(&mut self, worker: &Worker) {
        let now = Instant::now();
        while self.later.peek().is_some_and(|Reverse(later)| later.at <= now) {
            let Some(Reverse(later)) = self.later.pop() else { break };
            match later.what {
                Held::Again(delivery) if self.is_stopping => self.returns.push(delivery.tag),
                Held::Again(delivery) => {
                    let left = self.deadlines.get(&delivery.tag).map(|until| until.duration_since(SystemTime::now()));
                    match left {
                        Some(Err(_)) => {
                            worker.shared.leave(delivery.tag);
                            self.expire(worker, delivery);
                        }
                        Some(Ok(left)) => worker.shared.push_again(delivery, Some(now + left)),
                        None => worker.shared.push_again(delivery, None),
                    }
                }
                Held::Return(tag) => self.returns.push(tag),
            }
        }
    }

    /// The broker answered for a copy: the original goes, or comes again.
    fn copied(&mut self, worker: &Worker, (job, result): Copied) {
        let Job { mut delivery, ticket, again } = job;
        let tag = delivery.tag;
        let answer = match result {
            Ok(_) => {
                worker.shared.leave(tag);
                self.ack(tag);
                Ok(())
            }
            Err(error) => {
                let backoff = Delivery::drop_backoff(delivery.attempt);
                if again {
                    // Those of its key behind it go on waiting.
                    delivery.attempt = delivery.attempt.saturating_add(1);
                    self.hold(backoff, Held::Again(delivery));
                } else {
                    self.hold(backoff, Held::Return(tag));
                }
                Err(error)
            }
        };
        if let Some(ticket) = ticket {
            worker.tickets.complete(ticket, answer);
        }
    }

    /// Writes what was settled.
    async fn write(&mut self, worker: &mut Worker) -> Result<()> {
        self.write_by = None;
        let acks = self.acks.take();
        let mut returns = std::mem::take(&mut self.returns);
        returns.sort_unstable();
        for tag in &returns {
            self.acks.gone(*tag);
        }
        if acks.count == 0 && returns.is_empty() {
            return Ok(());
        }
        worker.unflushed += acks.count;
        self.unacknowledged = self.unacknowledged.saturating_sub(acks.count + returns.len() as u64);
        worker.shared.set_unacknowledged(self.unacknowledged);
        let channel = &self.channel;
        let ack = |tag, multiple| channel.basic_ack(tag, BasicAckOptions { multiple });
        let prefix = acks.prefix.map(|tag| ack(tag, true).left_future::<_>());
        let singles = acks.singles.iter().map(|tag| ack(*tag, false).right_future());
        let options = BasicNackOptions { multiple: false, requeue: true };
        let returned = returns.iter().map(|tag| channel.basic_nack(*tag, options));
        // Both are polled in order, and so are written in order.
        let all = futures_util::future::join(join_all(prefix.into_iter().chain(singles)), join_all(returned));
        let (acked, returned) = channel.unless_lost(all).await?;
        for result in acked.into_iter().chain(returned) {
            result.map_err(|error| from_lapin(&error, Call::Consume))?;
        }
        Ok(())
    }

    /// No more deliveries.
    async fn stop(&mut self, worker: &mut Worker) {
        self.is_stopping = true;
        // A consumer that could not be cancelled goes with its channel, which stays until what is out is settled.
        let _ = self.cancel(worker).await;
        self.released += self.give_up_unstarted(worker);
    }

    /// No deliveries for now: others get what this consumer did not hand out.
    ///
    /// # Errors
    /// The broker did not cancel the consumer, and goes on sending it what nobody takes: the channel must be given up.
    async fn pause(&mut self, worker: &mut Worker) -> Result<()> {
        self.is_paused = true;
        self.cancel(worker).await?;
        self.give_up_unstarted(worker);
        Ok(())
    }

    /// Deliveries again.
    async fn resume(&mut self, worker: &Worker) -> Result<()> {
        self.is_paused = false;
        let limit = worker.around.topology.config.request_timeout;
        let registering = register(&self.channel, &self.attached.queues, worker.plan.prefetch, &worker.member);
        match timeout(limit, registering).await {
            Ok(consumers) => {
                self.attached.take_over(consumers?);
                Ok(())
            }
            Err(_) => Err(silent("registering a consumer", limit)),
        }
    }

    /// Cancels the consumer.
    async fn cancel(&mut self, worker: &Worker) -> Result<()> {
        let limit = worker.around.topology.config.request_timeout;
        let channel = &self.channel;
        let tags = std::mem::take(&mut self.attached.tags);
        let cancels = tags.into_iter().map(|tag| channel.basic_cancel(tag, BasicCancelOptions::default()));
        match timeout(limit, channel.unless_lost(try_join_all(cancels))).await {
            Ok(cancelled) => cancelled?.map(drop).map_err(|error| from_lapin(&error, Call::Consume)),
            Err(_) => Err(silent("cancelling a consumer", limit)),
        }
    }

    /// Gives back what was not handed out. Returns how many deliveries that were.
    fn give_up_unstarted(&mut self, worker: &Worker) -> u64 {
        let mut released = 0;
        while let Some(Some(Ok(delivery))) = self.attached.deliveries.next().now_or_never() {
            self.came(delivery.delivery_tag);
            self.returns.push(delivery.delivery_tag);
            released += 1;
        }
        let unstarted = worker.shared.take_unstarted();
        released += unstarted.len() as u64;
        self.returns.extend(unstarted);
        released
    }

    /// Makes all settlements so far as durable as the broker allows: copies are confirmed, and the queues' state in the channel
    /// is flushed. A quorum queue's acknowledgements are not when the channel merely answers: of 15,000 up to 952 came back after
    /// a clean close (RabbitMQ 4.0.5); registering and cancelling a consumer flushes them.
    async fn flush(&mut self, worker: &mut Worker, by: Instant) -> Result<()> {
        let limit = by.saturating_duration_since(Instant::now());
        let line = self.channel.clone();
        match timeout_at(by, line.unless_lost(self.flush_all(worker))).await {
            Ok(result) => result?,
            Err(_) => Err(silent("the settlements", limit)),
        }
    }

    async fn flush_all(&mut self, worker: &mut Worker) -> Result<()> {
        while let Ok(command) = self.commands.try_recv() {
            self.inbox.push(command);
        }
        self.obey(worker);
        // At once: copies may wait for a connection that takes no messages.
        self.write(worker).await?;
        while let Some(done) = self.copies.next().await {
            self.copied(worker, done);
        }
        self.write(worker).await?;
        if worker.unflushed == 0 || matches!(worker.plan.what, What::Ephemeral { .. }) && self.is_stopping {
            worker.unflushed = 0;
            return Ok(());
        }
        qos(&self.channel, 1).await?;
        for queue in self.attached.queues.clone().iter() {
            self.register_and_cancel(queue, worker).await?;
        }
        worker.unflushed = 0;
        Ok(())
    }

    async fn register_and_cancel(&mut self, queue: &ShortString, worker: &mut Worker) -> Result<()> {
        let mut arguments = FieldTable::default();
        // Below every other consumer, so that it gets nothing while any of them has room.
        arguments.insert("x-priority".into(), AMQPValue::LongInt(-100));
        let consume = BasicConsumeOptions::default();
        let failed = |error: lapin::Error| from_lapin(&error, Call::Consume);
        let mut consumer = self
            .channel
            .basic_consume(queue.clone(), ShortString::default(), consume, arguments)
            .await
            .map_err(failed)?;
        self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.map_err(failed)?;
        while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
            // An ordinary delivery all the same.
            if self.is_stopping || self.is_paused {
                self.came(delivery.delivery_tag);
                self.returns.push(delivery.delivery_tag);
            } else {
                self.take_one(delivery, worker);
            }
        }
        worker.shared.set_unacknowledged(self.unacknowledged);
        if !self.items.is_empty() {
            worker.shared.push(&mut self.items);
        }
        Ok(())
    }

    /// Gives everything back, flushes, and closes the channel.
    async fn finish(&mut self, worker: &mut Worker, by: Instant) -> Finished {
        let mut finished = Finished::default();
        if !self.is_stopping && timeout_at(by, self.stop(worker)).await.is_err() {
            self.is_stopping = true;
        }
        let abandoned = worker.shared.handed();
        let mut flushed = self.flush(worker, by).await;
        // What is still open, in the application's hands or held here, goes back to the broker.
        worker.shared.end("the consumer was closed");
        worker.shared.set_unacknowledged(0);
        self.commands.close();
        // What was settled while the rest was flushed was told that it holds.
        self.last_settlements();
        if flushed.is_ok() && (self.acks.waiting() > 0 || !self.returns.is_empty()) {
            let soon = by.max(Instant::now() + Duration::from_millis(100));
            flushed = match timeout_at(soon, self.write(worker)).await {
                Ok(written) => written,
                Err(_) => Err(silent("the last settlements", Duration::from_millis(100))),
            };
        }
        if flushed.is_ok() && abandoned + self.later.len() as u64 > 0 {
            flushed = self.give_back(worker, by).await;
        }
        if let Err(error) = flushed {
            finished.unconfirmed = worker.unflushed + worker.lost + self.acks.waiting() as u64;
            finished.errors.push(error);
        } else if worker.lost > 0 {
            finished.unconfirmed = worker.lost;
        }
        finished.released = self.released;
        worker.tickets.fail_all(stale);
        let goodbye = self.channel.close(200, "done".into());
        let _ = timeout_at(by.max(Instant::now() + Duration::from_millis(100)), goodbye).await;
        finished
    }

    /// Takes in the settlements that need nothing but the channel.
    fn last_settlements(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Ack(tag) => self.ack(tag),
                Command::AckMany(tags) => tags.iter().for_each(|tag| self.ack(*tag)),
                Command::Return(tag) => self.returns.push(tag),
                // Their originals go back with the rest.
                Command::Again { .. } | Command::Retry { .. } | Command::DeadLetter { .. } | Command::Expired(_) => {}
            }
        }
    }

    /// Returns every delivery that came and was not settled.
    async fn give_back(&mut self, worker: &mut Worker, by: Instant) -> Result<()> {
        self.later.clear();
        // A tag that is gone would end the channel, and with bad luck the connection: see `Look::give_back`.
        let Some(last) = self.acks.highest_open(self.last_tag) else { return Ok(()) };
        let options = BasicNackOptions { multiple: true, requeue: true };
        let back = self.channel.basic_nack(last, options);
        let limit = worker.around.topology.config.request_timeout;
        match timeout_at(by.max(Instant::now() + Duration::from_millis(100)), back).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(from_lapin(&error, Call::Consume)),
            Err(_) => Err(silent("giving back deliveries", limit)),
        }
    }

    /// The channel is gone: what came on it comes again, by the broker.
    async fn abandon(&mut self, worker: &mut Worker, why: &str) {
        tracing::warn!(why, "a consumer lost its channel");
        worker.shared.end(why);
        worker.shared.set_unacknowledged(0);
        self.commands.close();
        let mut waiting = self.acks.waiting() as u64;
        while let Ok(command) = self.commands.try_recv() {
            waiting += match command {
                Command::Ack(_) => 1,
                Command::AckMany(tags) => tags.len() as u64,
                _ => 0,
            };
        }
        worker.lost += worker.unflushed + waiting;
        worker.unflushed = 0;
        // Of copies on their way nothing is known; their originals come again.
        let lost = || Error::new(ErrorKind::Disconnected, "the channel was lost before the settlement was done");
        worker.tickets.fail_all(lost);
        // The client closes no channel of which it believes that it has a consumer (lapin 4.12): one that the broker did not
        // cancel would get deliveries that nobody takes, for as long as the connection lives.
        if self.channel.status().connected() {
            let goodbye = self.channel.unless_lost(self.channel.close(200, "given up".into()));
            let _ = timeout(GOODBYE, goodbye).await;
        }
    }
}

/// How long a message may still live; none if it lives for ever.
///
/// The broker lets none expire before it delivers it, so that a delivery lives for a moment at least, whatever the clocks of
/// publisher and consumer say.
fn time_left(delivery: &Unsettled, expires: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    if let Some(expires) = expires {
        return Some(expires.duration_since(now).unwrap_or_default());
    }
    let ttl = delivery.message.ttl()?;
    // A time of making that is further back says nothing of when it was published: a foreign client's that set none, or an
    // application's own.
    match (delivery.message.timestamp() + ttl).duration_since(now) {
        Ok(left) => Some(left.clamp(ttl.min(Duration::from_secs(1)), ttl)),
        Err(_) => Some(ttl),
    }
}

fn is_bound(what: &What) -> bool {
    match what {
        What::Source { source, .. } => matches!(source, messaging_core::Source::Subscription(..)),
        What::Ephemeral { .. } => true,
    }
}

/// The next of what comes, what was kept first.
async fn next_arrival(kept: &mut Option<Option<Arrival>>, arrivals: &mut Arrivals) -> Option<Arrival> {
    match kept.take() {
        Some(kept) => kept,
        None => arrivals.next().await,
    }
}

async fn next_of(gaps: &mut Option<lapin::Consumer>) -> bool {
    match gaps {
        Some(gaps) => match gaps.next().await {
            Some(Ok(_)) => true,
            // The end of the channel is told by the deliveries.
            _ => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
