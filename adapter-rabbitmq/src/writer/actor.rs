//! The writer's task: opens its channel, writes, answers, and opens it again when it is lost.

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

use super::address::{Address, Unaddressed, address};
use super::confirms::Waiting;
use super::opening::{Preparation, Prepared, open_channel};
use super::pipeline::{News, Pipeline};
use super::writes::publish;
use super::{BATCH, Parcel, Purpose, Surroundings, WriterState};
use crate::connection::Line;
use crate::error::{closed, silent};

/// How long a lost channel may take to say what became of the publishes that were open.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// The longest pause between two attempts to open a channel.
const PAUSE_MAX: Duration = Duration::from_secs(1);

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
    pipeline: Pipeline<PublisherConfirm>,
    news: News,
    /// Answers that are kept back because a queue is too young.
    ripening: Vec<(Instant, u64)>,
    /// A queue was missing: it is declared again before the next write.
    declare_again: bool,
    /// The broker takes nothing, though the connection is there.
    is_stuck: bool,
    tick: Interval,
    inbox: Vec<Parcel>,
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
            pipeline: Pipeline::default(),
            news: News::default(),
            ripening: Vec::new(),
            declare_again: false,
            is_stuck: false,
            tick,
            inbox: Vec::with_capacity(BATCH),
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
                    self.out_of_trouble();
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

    fn out_of_trouble(&self) {
        *self.state.trouble.lock() = None;
    }

    /// Opens a channel that confirms; meanwhile takes in what is sent and answers what runs out of time. None when the task is
    /// to end.
    async fn open(&mut self, is_first: bool) -> Option<Result<Arc<Line>>> {
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
    async fn serve(&mut self, channel: &Arc<Line>) -> End {
        let mut lost = std::pin::pin!(channel.lost());
        let mut preparation = None;
        loop {
            while preparation.is_none() && !self.kept.is_empty() && self.pipeline.may_write() {
                preparation = self.write(channel);
            }
            // While there is something to write, more of it may wait where it is: it makes the next batch.
            let may_take = !self.is_orphan && self.kept.is_empty() && !self.pipeline.is_writing();
            let (pipeline, news) = (&mut self.pipeline, &mut self.news);
            tokio::select! {
                biased;
                () = self.state.end.cancelled() => return End::Done,
                () = &mut lost => return End::Lost("the connection was lost".to_owned()),
                // Before what may always be ready under load: time runs out then too.
                _ = self.tick.tick() => {
                    self.take_in_all();
                    self.look_at_the_clock();
                    if !channel.status().connected() {
                        return End::Lost("the channel was closed".to_owned());
                    }
                    if self.pipeline.is_silent(self.in_flight) {
                        return End::Lost("the broker confirms nothing".to_owned());
                    }
                }
                taken = self.received.recv_many(&mut self.inbox, BATCH), if may_take => self.take_in(taken),
                () = poll_fn(|cx| pipeline.poll(cx, news)), if !pipeline.is_empty() => {
                    if let Some(why) = self.give_answers() {
                        return End::Lost(why);
                    }
                }
                (what, result) = prepared(&mut preparation) => self.prepared(what, result),
            }
            if self.is_orphan && self.kept.is_empty() && self.pipeline.is_empty() && self.ripening.is_empty() {
                return End::Done;
            }
        }
    }

    /// What waits for its turn runs out of time too.
    fn take_in_all(&mut self) {
        while let Ok(parcel) = self.received.try_recv() {
            self.kept.push_back(parcel);
        }
    }

    /// Tells the senders. Returns why the channel is lost, if an answer says so.
    fn give_answers(&mut self) -> Option<String> {
        let mut lost = self.news.broken.take();
        let mut answers = Vec::with_capacity(self.news.answers.len());
        for (waiting, result) in self.news.answers.drain(..) {
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
                    if error.kind() != ErrorKind::Full {
                        lost.get_or_insert_with(|| "the channel was closed".to_owned());
                    }
                }
            }
            answers.push((waiting.ticket, result));
        }
        self.tickets.complete_many(answers);
        lost
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        self.expire_kept(now);
        let (tickets, limit) = (&self.tickets, self.timeout);
        // The frames stand in the client's queue, and may have left or leave yet.
        self.pipeline.expire(now, |ticket| tickets.complete(ticket, Err(silent("a publish", limit))));
        self.ripening.retain(|(until, ticket)| {
            let ripe = *until <= now;
            if ripe {
                tickets.complete(*ticket, Ok(Receipt::default()));
            }
            !ripe
        });
        let was_stuck = mem::replace(&mut self.is_stuck, self.pipeline.is_stuck(now));
        if self.is_stuck {
            self.in_trouble("the connection takes no messages".to_owned());
        } else if was_stuck {
            self.out_of_trouble();
        }
    }

    fn expire_kept(&mut self, now: Instant) {
        while let Some(parcel) = self.kept.pop_front_if(|parcel| parcel.until <= now) {
            let why = self.state.trouble.lock().as_ref().map(|(_, why)| format!(": {why}")).unwrap_or_default();
            let error = Error::new(ErrorKind::Timeout, format!("it could not be sent within {:?}{why}", self.timeout));
            self.refuse(parcel.ticket, error);
        }
    }

    /// Tells a sender that its message never left.
    fn refuse(&self, ticket: u64, error: Error) {
        self.tickets.complete(ticket, Err(error.with_outcome(ErrorOutcome::NotSent)));
    }

    /// Begins to write what is kept, as much as goes at once. Returns what has to be made before the rest.
    fn write(&mut self, channel: &Arc<Line>) -> Option<Preparation> {
        if mem::take(&mut self.declare_again)
            && let Purpose::Destination(target) = &self.purpose
        {
            return Some(Preparation::destination(self.around.topology.clone(), target.destination.clone()));
        }
        self.expire_kept(Instant::now());
        for _ in 0..BATCH {
            let parcel = self.kept.pop_front()?;
            match address(&parcel, &self.purpose, &self.around.delays) {
                Ok(address) => self.begin(channel.clone(), parcel, address),
                Err(Unaddressed::Bucket(due, delay)) => {
                    let ticket = parcel.ticket;
                    self.kept.push_front(parcel);
                    return Some(Preparation::bucket(ticket, self.around.delays.clone(), due, delay));
                }
                Err(Unaddressed::Nowhere(error)) => self.refuse(parcel.ticket, error),
            }
        }
        None
    }

    fn begin(&mut self, channel: Arc<Line>, parcel: Parcel, to: Address) {
        let waiting = Waiting {
            ticket: parcel.ticket,
            until: parcel.until,
            id: to.mandatory.then(|| parcel.message.id().clone()),
            young_until: to.young_until,
            expired: false,
        };
        self.pipeline.begin(waiting, publish(channel, parcel, to));
    }

    /// Something was made, or could not be.
    fn prepared(&mut self, what: Prepared, result: Result<()>) {
        match (what, result) {
            (_, Ok(())) => self.out_of_trouble(),
            // Nothing was sent: it is tried again until the parcels' time is up.
            (what, Err(error)) if error.kind() == ErrorKind::Disconnected => {
                self.declare_again |= what == Prepared::Destination;
                self.in_trouble(error.text().to_owned());
            }
            (Prepared::Bucket(ticket), Err(error)) => {
                if self.kept.pop_front_if(|parcel| parcel.ticket == ticket).is_some() {
                    self.refuse(ticket, error);
                }
            }
            (Prepared::Destination, Err(error)) => {
                tracing::warn!(%error, "a destination that was missing could not be declared again");
            }
        }
    }

    /// After the channel was lost: who was answered gets the answer, what never left is kept, and of the others it is not
    /// known.
    async fn last_words(&mut self) {
        // What is the matter now is another thing, and is over with the next channel.
        self.is_stuck = false;
        let (pipeline, news) = (&mut self.pipeline, &mut self.news);
        let all = async {
            while !pipeline.is_empty() {
                poll_fn(|cx| pipeline.poll(cx, news)).await;
            }
        };
        let _ = timeout_at(Instant::now() + LAST_WORDS, all).await;
        self.give_answers();
        let lost = || Error::new(ErrorKind::Disconnected, "the connection was lost before the broker confirmed");
        let left: Vec<u64> = self.pipeline.give_up().map(|waiting| waiting.ticket).collect();
        for ticket in left {
            self.tickets.complete(ticket, Err(lost()));
        }
        for parcel in self.news.unsent.drain(..).rev() {
            self.kept.push_front(parcel);
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
        self.state.closed.store(true, Ordering::Release);
        self.received.close();
        self.take_in_all();
        for parcel in self.kept.drain(..) {
            self.tickets.complete(parcel.ticket, Err(closed()));
        }
        for (_, ticket) in self.ripening.drain(..) {
            self.tickets.complete(ticket, Err(closed().with_outcome(ErrorOutcome::Unknown)));
        }
    }
}

/// Waits for what is being made, if something is.
async fn prepared(preparation: &mut Option<Preparation>) -> (Prepared, Result<()>) {
    let Some(Preparation { what, work }) = preparation else { return std::future::pending().await };
    let done = (*what, work.as_mut().await);
    *preparation = None;
    done
}
