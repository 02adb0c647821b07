//! One channel in service: what comes from it goes to whoever receives, and what is settled goes back on it, until it is lost or
//! nobody wants deliveries any more.

mod ending;
mod flush;
mod intake;
mod later;
mod settlements;

use std::collections::HashMap;
use std::pin::pin;
use std::time::SystemTime;

use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::BasicCancelOptions;
use messaging_core::{Event, Flow, Result, Source};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use self::intake::next_arrival;
use self::later::Waiting;
use super::attach::{Arrival, Attached, FINISH_WITHIN, bind_again, register};
use super::copies::Copied;
use super::shared::Item;
use super::worker::Worker;
use super::{Consumed, Finished, REBIND_INTERVAL, Request};
use crate::acks::Acks;
use crate::connection::Line;
use crate::error::{Call, from_lapin, silent};
use crate::settle::Command;

/// How many deliveries or settlements are taken in one go.
const BATCH: usize = 128;

/// Why a channel is not served any more.
pub(super) enum End {
    /// It is gone; or the broker cancelled the consumer, as when its queue is deleted.
    Lost { why: String, cancelled: bool },
    /// Nobody wants deliveries any more.
    Finish { by: Instant, done: Option<oneshot::Sender<Finished>> },
}

fn lost(why: impl Into<String>) -> End {
    End::Lost { why: why.into(), cancelled: false }
}

/// One channel in service.
pub(super) struct Service {
    channel: Line,
    attached: Attached,
    commands: mpsc::UnboundedReceiver<Command>,
    acks: Acks,
    /// The highest tag that came.
    last_tag: u64,
    /// How many came and are not settled at the broker.
    unacknowledged: u64,
    copies: FuturesUnordered<BoxFuture<'static, Copied>>,
    /// A consumer that a flush registered and did not see cancelled yet, and what it gets.
    probe: Option<BoxFuture<'static, Result<Vec<Delivery>>>>,
    /// What this consumer holds until its time: handed out again, or given back.
    later: Waiting,
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

impl Service {
    pub(super) fn new(attached: Attached, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        let is_paused = attached.tags.is_empty();
        Self {
            channel: attached.channel.clone(),
            attached,
            commands,
            acks: Acks::default(),
            last_tag: 0,
            unacknowledged: 0,
            copies: FuturesUnordered::new(),
            probe: None,
            later: Waiting::default(),
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

    pub(super) async fn serve(&mut self, worker: &mut Worker) -> End {
        let mut look = interval(REBIND_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut rebinding: Option<BoxFuture<'static, Result<bool>>> = None;
        let line = self.channel.clone();
        let mut line_lost = pin!(line.lost());
        // Set once for a batch of acknowledgements: setting one each time round takes the lock of all timers, and wakes whoever
        // waits for them. It may go off early, when the batch it was set for is written already.
        let mut write_timer = pin!(sleep_until(Instant::now()));
        let mut is_timer_set = false;
        let half = (worker.plan.prefetch / 2).clamp(1, BATCH);
        loop {
            let wake_at = self.later.next_at();
            if let Some(by) = self.write_by.filter(|_| !is_timer_set) {
                write_timer.as_mut().reset(by);
                is_timer_set = true;
            }
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
                () = &mut write_timer, if is_timer_set => is_timer_set = false,
                () = until(wake_at) => self.wake(worker),
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
                probed = under_way(&mut self.probe) => if let Err(error) = self.probed(worker, probed) {
                    return lost(error.text());
                },
                gap = next_of(&mut self.attached.gaps) => {
                    if gap {
                        worker.shared.happened(Event::Gap { missed: None });
                    }
                }
                rebound = under_way(&mut rebinding) => {
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
                if matches!(worker.plan.what, Consumed::Ephemeral { .. }) {
                    worker.shared.happened(Event::Gap { missed: None });
                }
            }
            Err(error) => tracing::debug!(%error, "a subscription could not be bound again, for now"),
        }
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
        if self.goes_with_its_consumer(worker) {
            return Ok(());
        }
        self.cancel(worker).await?;
        self.give_up_unstarted(worker);
        Ok(())
    }

    /// Deliveries again.
    async fn resume(&mut self, worker: &Worker) -> Result<()> {
        self.is_paused = false;
        if self.goes_with_its_consumer(worker) {
            return Ok(());
        }
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

    /// Whether the queue would be deleted with its consumer: what comes in a pause then waits there and, up to the prefetch, here.
    /// Nobody else would get it anyway.
    fn goes_with_its_consumer(&self, worker: &Worker) -> bool {
        matches!(worker.plan.what, Consumed::Ephemeral { .. }) && !self.attached.tags.is_empty()
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
}

fn is_bound(what: &Consumed) -> bool {
    match what {
        Consumed::Source { source, .. } => matches!(source, Source::Subscription(..)),
        Consumed::Ephemeral { .. } => true,
    }
}

/// Waits until then, if ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for what is under way, if anything is.
async fn under_way<T>(what: &mut Option<BoxFuture<'static, T>>) -> T {
    match what {
        Some(what) => what.await,
        None => std::future::pending().await,
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
