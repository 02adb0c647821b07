//! The writer's task: opens its channel, writes, answers, and opens the channel again when it is lost.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::PublisherConfirm;
use messaging_core::spi::{Tickets, TicketsOwner};
use messaging_core::{Error, ErrorKind, ErrorOutcome, Receipt, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::confirms::Unconfirmed;
use super::opening::{Missing, Preparation, Prepared, open_channel};
use super::pipeline::{News, Pipeline};
use super::route::{NoRoute, Route, properties, route};
use super::writes::write_frames;
use super::{PendingPublish, Purpose, WRITE_BATCH, WriterContext, WriterState};
use crate::connection::Line;
use crate::error::{closed, silent};

/// Time that a lost channel may take to answer for the publishes that were open on it.
const COLLECT_TIMEOUT: Duration = Duration::from_millis(250);
/// First and longest pause between two attempts to open a channel.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(20);
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Actor {
    context: WriterContext,
    purpose: Purpose,
    in_flight: usize,
    timeout: Duration,
    received: mpsc::UnboundedReceiver<PendingPublish>,
    /// No handle is left.
    is_orphan: bool,
    state: Arc<WriterState>,
    tickets: TicketsOwner<Receipt>,
    /// Publishes that have not left yet, in order.
    unsent: VecDeque<PendingPublish>,
    pipeline: Pipeline<PublisherConfirm>,
    news: News,
    /// Confirms that are held back because a queue is too young.
    held_confirms: Vec<(Instant, u64)>,
    /// A queue was missing: this has to be declared again before the next write.
    declare_again: Option<Missing>,
    /// The broker takes nothing, though the connection is there.
    is_stuck: bool,
    tick: Interval,
    inbox: Vec<PendingPublish>,
}

/// Reason for which a channel is not served any more.
enum End {
    Lost(String),
    Done,
}

impl Actor {
    pub(super) fn new(
        context: WriterContext,
        purpose: Purpose,
        in_flight: usize,
        timeout: Duration,
        received: mpsc::UnboundedReceiver<PendingPublish>,
        state: Arc<WriterState>,
    ) -> Self {
        let every = (timeout / 10).clamp(Duration::from_millis(10), Duration::from_millis(100));
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            context,
            purpose,
            in_flight,
            timeout,
            received,
            is_orphan: false,
            state,
            tickets: Tickets::owned(),
            unsent: VecDeque::new(),
            pipeline: Pipeline::default(),
            news: News::default(),
            held_confirms: Vec::new(),
            declare_again: None,
            is_stuck: false,
            tick,
            inbox: Vec::with_capacity(WRITE_BATCH),
        }
    }

    pub(super) fn tickets(&self) -> &Arc<Tickets<Receipt>> {
        self.tickets.tickets()
    }

    pub(super) async fn run(mut self) {
        let mut pause = REOPEN_PAUSE_MIN;
        let mut is_first = true;
        while !self.is_done() {
            match self.open(is_first).await {
                Some(Ok(channel)) => {
                    is_first = false;
                    pause = REOPEN_PAUSE_MIN;
                    self.state.trouble.clear();
                    self.state.opened.send_replace(Some(Ok(())));
                    let end = self.serve(&channel).await;
                    if let End::Lost(why) = end {
                        self.state.trouble.set(why);
                    }
                    self.collect_after_loss().await;
                    self.fail_held_confirms();
                    let _ = timeout(COLLECT_TIMEOUT, channel.close(200, "done".into())).await;
                }
                Some(Err(error)) => {
                    self.state.trouble.set(error.text());
                    if is_first && !error.is_retryable() {
                        self.state.opened.send_replace(Some(Err((error.kind(), error.text().to_owned()))));
                    }
                    if error.kind() == ErrorKind::Closed {
                        break;
                    }
                    self.wait(sleep(pause)).await;
                    pause = (pause * 2).min(REOPEN_PAUSE_MAX);
                }
                None => break,
            }
        }
        self.finish();
    }

    fn is_done(&self) -> bool {
        self.state.end.is_cancelled() || (self.is_orphan && self.unsent.is_empty())
    }

    /// Opens a channel that confirms; meanwhile takes in new publishes and fails those whose time is up. None when the task is to
    /// end.
    async fn open(&mut self, is_first: bool) -> Option<Result<Arc<Line>>> {
        let context = self.context.clone();
        let (again, on_open) = match &self.purpose {
            // The publisher made sure of its destination when it was opened.
            Purpose::Destination(target) => ((!is_first).then(|| target.destination.clone()), None),
            Purpose::Copies => (None, None),
            Purpose::Requests(on_open) => (None, Some(on_open.clone())),
        };
        self.wait(open_channel(context, again, on_open)).await
    }

    /// Waits for something while there is no channel.
    async fn wait<T>(&mut self, until: impl Future<Output = T>) -> Option<T> {
        let mut until = std::pin::pin!(until);
        loop {
            tokio::select! {
                done = &mut until => return Some(done),
                () = self.state.end.cancelled() => return None,
                taken = self.received.recv_many(&mut self.inbox, WRITE_BATCH), if !self.is_orphan => self.take_in(taken),
                _ = self.tick.tick() => self.expire(),
            }
            if self.is_done() {
                return None;
            }
        }
    }

    fn take_in(&mut self, taken: usize) {
        self.is_orphan = taken == 0;
        self.unsent.extend(self.inbox.drain(..));
    }

    /// Writes and answers until the channel is lost or there is nothing more to do.
    async fn serve(&mut self, channel: &Arc<Line>) -> End {
        let mut lost = std::pin::pin!(channel.lost());
        let mut preparation = None;
        loop {
            while preparation.is_none() && !self.unsent.is_empty() && self.pipeline.may_write() {
                preparation = self.write(channel);
            }
            // While there is something to write, more of it may wait where it is: it makes the next batch.
            let may_take = !self.is_orphan && self.unsent.is_empty() && !self.pipeline.is_writing();
            let (pipeline, news) = (&mut self.pipeline, &mut self.news);
            tokio::select! {
                biased;
                () = self.state.end.cancelled() => return End::Done,
                () = &mut lost => return End::Lost("the connection was lost".to_owned()),
                // Before branches that may always be ready under load: time runs out then too.
                _ = self.tick.tick() => {
                    self.take_in_all();
                    self.expire();
                    if !channel.status().connected() {
                        return End::Lost("the channel was closed".to_owned());
                    }
                    if self.pipeline.is_silent(self.in_flight) {
                        return End::Lost("the broker confirms nothing".to_owned());
                    }
                }
                taken = self.received.recv_many(&mut self.inbox, WRITE_BATCH), if may_take => self.take_in(taken),
                () = poll_fn(|cx| pipeline.poll(cx, news)), if !pipeline.is_empty() => {
                    if let Some(why) = self.give_answers() {
                        return End::Lost(why);
                    }
                }
                (what, result) = prepared(&mut preparation) => self.prepared(what, result),
            }
            if self.is_orphan && self.unsent.is_empty() && self.pipeline.is_empty() && self.held_confirms.is_empty() {
                return End::Done;
            }
        }
    }

    /// Publishes that wait for their turn run out of time too.
    fn take_in_all(&mut self) {
        while let Ok(publish) = self.received.try_recv() {
            self.unsent.push_back(publish);
        }
    }

    /// Answers the senders. Returns why the channel is lost, if an answer says so.
    fn give_answers(&mut self) -> Option<String> {
        let mut lost = self.news.broken.take();
        let mut answers = Vec::with_capacity(self.news.answers.len());
        for (unconfirmed, result) in self.news.answers.drain(..) {
            match &result {
                Ok(_) => {
                    if let Some(trusted_from) = unconfirmed.trusted_from.filter(|until| *until > Instant::now()) {
                        self.held_confirms.push((trusted_from, unconfirmed.ticket));
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unroutable => {
                    let of_copy = unconfirmed.dead_letter_of.map(|source| Missing::DeadLetter(*source));
                    self.declare_again = Some(of_copy.unwrap_or(Missing::Destination));
                    self.context.delays.forget();
                }
                Err(error) => {
                    if error.kind() == ErrorKind::NotFound {
                        // An exchange is gone; a delay queue's perhaps.
                        self.context.delays.forget();
                    }
                    if error.kind() != ErrorKind::Full {
                        lost.get_or_insert_with(|| "the channel was closed".to_owned());
                    }
                }
            }
            answers.push((unconfirmed.ticket, result));
        }
        self.tickets.complete_many(answers);
        lost
    }

    /// Fails the publishes whose time is up, and gives the confirms that were held long enough.
    fn expire(&mut self) {
        let now = Instant::now();
        self.expire_unsent(now);
        let (tickets, limit) = (&self.tickets, self.timeout);
        // Their frames stand in the client's queue, and may have left or leave yet.
        self.pipeline.expire(now, |ticket| tickets.complete(ticket, Err(silent("a publish", limit))));
        self.held_confirms.retain(|(until, ticket)| {
            let is_old_enough = *until <= now;
            if is_old_enough {
                tickets.complete(*ticket, Ok(Receipt::default()));
            }
            !is_old_enough
        });
        let was_stuck = mem::replace(&mut self.is_stuck, self.pipeline.is_stuck(now));
        if self.is_stuck {
            self.state.trouble.set("the connection takes no messages");
        } else if was_stuck {
            self.state.trouble.clear();
        }
    }

    fn expire_unsent(&mut self, now: Instant) {
        while let Some(publish) = self.unsent.pop_front_if(|publish| publish.until <= now) {
            let why = self.state.trouble.why().map(|why| format!(": {why}")).unwrap_or_default();
            let error = Error::new(ErrorKind::Timeout, format!("it could not be sent within {:?}{why}", self.timeout));
            self.refuse(publish.ticket, error);
        }
    }

    /// Fails a publish that has not left.
    fn refuse(&self, ticket: u64, error: Error) {
        self.tickets.complete(ticket, Err(error.with_outcome(ErrorOutcome::NotSent)));
    }

    /// Begins to write what has not left, as much as goes at once. Returns what has to be declared before the rest.
    fn write(&mut self, channel: &Arc<Line>) -> Option<Preparation> {
        if let Some(missing) = self.declare_again.take()
            && let Some(preparation) = Preparation::declare(&self.context.topology, &self.purpose, missing)
        {
            return Some(preparation);
        }
        self.expire_unsent(Instant::now());
        for _ in 0..WRITE_BATCH {
            let publish = self.unsent.pop_front()?;
            match route(&publish, &self.purpose, &self.context.delays) {
                Ok(route) => self.begin(channel.clone(), publish, route),
                Err(NoRoute::Bucket(due, delay)) => {
                    let ticket = publish.ticket;
                    self.unsent.push_front(publish);
                    return Some(Preparation::bucket(ticket, self.context.delays.clone(), due, delay));
                }
                Err(NoRoute::Refused(error)) => self.refuse(publish.ticket, error),
            }
        }
        None
    }

    fn begin(&mut self, channel: Arc<Line>, publish: PendingPublish, route: Route) {
        let properties = match properties(&publish, &route, channel.frame_max()) {
            Ok(properties) => properties,
            Err(error) => return self.refuse(publish.ticket, error),
        };
        let unconfirmed = Unconfirmed {
            ticket: publish.ticket,
            until: publish.until,
            id: route.mandatory.then(|| publish.message.id().clone()),
            routing_key: publish.is_shared().then(|| route.routing_key.clone()),
            dead_letter_of: publish.dead_letter_of(),
            trusted_from: route.trusted_from,
            expired: false,
        };
        self.pipeline.begin(unconfirmed, write_frames(channel, publish, route, properties));
    }

    /// Something was declared, or could not be.
    fn prepared(&mut self, what: Prepared, result: Result<()>) {
        match (what, result) {
            (_, Ok(())) => {
                self.state.trouble.clear();
            }
            // Nothing was sent: it is tried again until the publishes' time is up.
            (what, Err(error)) if error.kind() == ErrorKind::Disconnected => {
                if let Prepared::Missing(missing) = what {
                    self.declare_again = Some(missing);
                }
                self.state.trouble.set(error.text());
            }
            (Prepared::Bucket(ticket), Err(error)) => {
                if self.unsent.pop_front_if(|publish| publish.ticket == ticket).is_some() {
                    self.refuse(ticket, error);
                }
            }
            (Prepared::Missing(missing), Err(error)) => {
                tracing::warn!(%error, ?missing, "a queue that is missing could not be declared again");
            }
        }
    }

    /// After the channel is lost: completes what was confirmed, keeps what was not sent, fails the rest as unknown.
    async fn collect_after_loss(&mut self) {
        // Trouble from now on is another one, and is over with the next channel.
        self.is_stuck = false;
        let (pipeline, news) = (&mut self.pipeline, &mut self.news);
        let all = async {
            while !pipeline.is_empty() {
                poll_fn(|cx| pipeline.poll(cx, news)).await;
            }
        };
        let _ = timeout_at(Instant::now() + COLLECT_TIMEOUT, all).await;
        self.give_answers();
        let lost = || Error::new(ErrorKind::Disconnected, "the connection was lost before the broker confirmed");
        let left: Vec<u64> = self.pipeline.give_up().map(|unconfirmed| unconfirmed.ticket).collect();
        for ticket in left {
            self.tickets.complete(ticket, Err(lost()));
        }
        for publish in self.news.unsent.drain(..).rev() {
            self.unsent.push_front(publish);
        }
    }

    /// Messages that a queue too young to be trusted confirmed may be gone with it.
    fn fail_held_confirms(&mut self) {
        for (_, ticket) in self.held_confirms.drain(..) {
            let why = "the connection was lost before the queue was old enough to be trusted with the message";
            self.tickets.complete(ticket, Err(Error::new(ErrorKind::Disconnected, why)));
        }
    }

    fn finish(mut self) {
        self.state.closed.store(true, Ordering::Release);
        self.received.close();
        self.take_in_all();
        for publish in self.unsent.drain(..) {
            self.tickets.complete(publish.ticket, Err(closed()));
        }
        for (_, ticket) in self.held_confirms.drain(..) {
            self.tickets.complete(ticket, Err(closed().with_outcome(ErrorOutcome::Unknown)));
        }
    }
}

/// Waits for what is being declared, if something is.
async fn prepared(preparation: &mut Option<Preparation>) -> (Prepared, Result<()>) {
    let Some(Preparation { what, work }) = preparation else { return std::future::pending().await };
    let result = work.as_mut().await;
    let what = what.clone();
    *preparation = None;
    (what, result)
}
