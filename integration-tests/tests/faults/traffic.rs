//! Publishers and consumers of this process, as an application would have them.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use integration_tests::{Error, Result, until};
use messaging::{
    Broker, ConsumeOptions, Consumer, Delivery, ErrorKind, PublishOptions, Publisher, RetryMode, Source,
    SubscribeOptions,
};
use messaging_conformance::history::Mark;
use tokio::{sync::watch, task::JoinHandle};

use crate::{address::Address, harness::Verdict, run::Run};

/// Longer than anything takes that is not stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How a publisher loads the broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many are in flight at most.
    pub(crate) window: usize,
    /// It waits while so many confirmed ones are not received.
    pub(crate) backlog: usize,
    /// It ends after so many; for ever otherwise.
    pub(crate) messages: usize,
    /// Over so many keys; none with 0.
    pub(crate) keys: u64,
    /// What the broker may take to answer for one.
    pub(crate) timeout: Duration,
    /// At most so many a second.
    pub(crate) rate: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            window: 500,
            backlog: 20_000,
            messages: usize::MAX,
            keys: 0,
            timeout: Duration::from_secs(10),
            rate: u32::MAX,
        }
    }
}

/// A publisher at work.
pub(crate) struct Publishing {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Publishing {
    /// Opens a publisher and lets it work.
    pub(crate) async fn start(
        run: &Arc<Run>,
        broker: &Arc<dyn Broker>,
        to: &Address,
        load: Load,
    ) -> Result<Self, messaging::Error> {
        let options = PublishOptions::default().with_timeout(load.timeout).with_in_flight(load.window.max(1_000) * 2);
        let publisher = broker.publisher(&to.destination()?, options).await?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(publish(Arc::clone(run), publisher, load, stopped));
        Ok(Self { stop, task })
    }

    /// Stops it, and returns when each message it sent has its outcome.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        self.ended().await
    }

    /// Waits until it has sent what it was to send.
    pub(crate) async fn ended(self) -> Result<()> {
        let late = |_| Error::failed("a publisher does not end: some outcomes never come");
        let ended = tokio::time::timeout(PATIENCE * 2, self.task).await.map_err(late)?;
        ended.map_err(|error| Error::caused("a publisher's task ended badly", error))
    }
}

async fn publish(run: Arc<Run>, publisher: Arc<dyn Publisher>, load: Load, mut stop: watch::Receiver<bool>) {
    let mut answers = FuturesUnordered::new();
    let (mut sent, begun) = (0_usize, Instant::now());
    let mut pause = Duration::ZERO;
    let in_flight = publisher.core().in_flight();
    while sent < load.messages && !*stop.borrow() {
        // A broker that answers at once would keep this task from ever pausing, and with it the runtime's timers.
        tokio::task::consume_budget().await;
        let early = due(sent, load.rate).saturating_sub(begun.elapsed());
        let crowded = if run.missing() >= load.backlog { Duration::from_millis(5) } else { Duration::ZERO };
        let wait = pause.max(crowded).max(early);
        tokio::select! {
            biased;
            _ = stop.changed() => break,
            Some(confirmed) = answers.next() => {
                // A broker that refuses at once would be asked thousands of times: the pause grows, as in an application.
                pause = if confirmed { Duration::ZERO } else { (pause * 2).clamp(MOMENT, MOMENT * 100) };
            }
            () = tokio::time::sleep(wait), if !wait.is_zero() => pause = Duration::ZERO,
            place = in_flight.acquire(64), if wait.is_zero() && answers.len() < load.window => {
                // A handle that is closed takes no more.
                let Ok(place) = place else { break };
                let key = (load.keys > 0).then(|| format!("key-{}", sent as u64 % load.keys));
                let (mark, message) = run.intend(key.as_deref());
                let outcome = publisher.send(message, place);
                let run = Arc::clone(&run);
                answers.push(async move { run.outcome(mark, &outcome.await) });
                sent += 1;
            }
        }
    }
    while answers.next().await.is_some() {}
}

const MOMENT: Duration = Duration::from_millis(1);

fn due(sent: usize, rate: u32) -> Duration {
    if rate == u32::MAX { Duration::ZERO } else { Duration::from_secs_f64(sent as f64 / f64::from(rate)) }
}

/// How a consumer treats what it gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) prefetch: usize,
    /// Each message of this number is held for a while, so that others are settled before it.
    pub(crate) hold_each: usize,
    pub(crate) hold: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self { prefetch: 500, hold_each: 20, hold: Duration::from_millis(100) }
    }
}

/// A consumer at work.
pub(crate) struct Consuming {
    stop: watch::Sender<bool>,
    task: JoinHandle<Option<messaging::Error>>,
}

impl Consuming {
    /// Opens a consumer and lets it work.
    pub(crate) async fn start(
        run: &Arc<Run>,
        broker: &Arc<dyn Broker>,
        from: &Address,
        manner: Manner,
    ) -> Result<Self, messaging::Error> {
        let consumer = consumer(&**broker, from, manner.prefetch).await?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(consume(Arc::clone(run), consumer, manner, stopped));
        Ok(Self { stop, task })
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops it in order: what it holds is settled and flushed.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.end().await? {
            None => Ok(()),
            Some(error) => Err(Error::caused("a consumer ended by itself or could not end in order", error)),
        }
    }

    /// Stops it, and returns what ended it before, if something did.
    pub(crate) async fn end(self) -> Result<Option<messaging::Error>> {
        self.stop.send_replace(true);
        let late = |_| Error::failed("a consumer does not end");
        let ended = tokio::time::timeout(PATIENCE, self.task).await.map_err(late)?;
        ended.map_err(|error| Error::caused("a consumer's task ended badly", error))
    }
}

/// A consumer of a queue or a member of a durable subscription.
pub(crate) async fn consumer(broker: &dyn Broker, from: &Address, prefetch: usize) -> messaging::Result<Consumer> {
    let mode = if from.ordered { RetryMode::Hold } else { RetryMode::Requeue };
    let options = ConsumeOptions::default().with_prefetch(prefetch).with_order(from.order()).with_retry_mode(mode);
    match from.source()? {
        Source::Queue(queue) => broker.consume(&queue, options).await,
        Source::Subscription(topic, name) => {
            broker.subscribe(&topic, SubscribeOptions::durable(name).with_consume(options)).await
        }
    }
}

async fn consume(
    run: Arc<Run>,
    mut consumer: Consumer,
    manner: Manner,
    mut stop: watch::Receiver<bool>,
) -> Option<messaging::Error> {
    let mut held = VecDeque::<(Instant, Mark, Delivery)>::new();
    let mut count = 0_usize;
    loop {
        let due = held.front().map(|(since, ..)| (*since + manner.hold).saturating_duration_since(Instant::now()));
        let received = tokio::select! {
            biased;
            _ = stop.changed() => break,
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {
                if let Some((_, mark, delivery)) = held.pop_front() {
                    run.acking([mark]);
                    drop(delivery.ack());
                }
                continue;
            }
            received = consumer.next_many(256) => received,
        };
        let deliveries = match received {
            Ok(deliveries) if deliveries.is_empty() => break,
            Ok(deliveries) => deliveries,
            Err(error) => return Some(error),
        };
        let mut done = Vec::with_capacity(deliveries.len());
        let mut marks = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let mark = run.receipt(&delivery, 0);
            count += 1;
            if manner.hold_each > 0 && count.is_multiple_of(manner.hold_each) && held.len() < manner.prefetch / 2 {
                held.push_back((Instant::now(), mark, delivery));
            } else {
                done.push(delivery);
                marks.push(mark);
            }
        }
        run.acking(marks);
        // Takes effect at the call; what came of it shows in what is received again.
        drop(Delivery::ack_all(done));
    }
    run.acking(held.iter().map(|(_, mark, _)| *mark));
    drop(Delivery::ack_all(held.into_iter().map(|(.., delivery)| delivery)));
    let report = consumer.drain(Duration::from_secs(10)).await;
    // Settlements that a fault took along are told now; what they concern has come again.
    report.errors.into_iter().find(|error| error.kind() != ErrorKind::StaleDelivery)
}

/// Waits until so many are confirmed.
pub(crate) async fn confirmed(run: &Run, count: usize) -> Result<()> {
    // Kept waiting for progress, not for a time: a slow broker is none that loses.
    progress(run, "confirmed", || (run.confirmed(), run.confirmed() >= count)).await
}

/// Waits until all that was confirmed is received.
pub(crate) async fn received(run: &Run) -> Result<()> {
    progress(run, "received", || (usize::MAX - run.missing(), run.missing() == 0)).await
}

/// Waits until a count is reached, as long as it grows from time to time.
async fn progress(run: &Run, what: &str, look: impl Fn() -> (usize, bool)) -> Result<()> {
    let mut best = (0, Instant::now());
    let stuck = Duration::from_secs(60);
    loop {
        let (count, there) = look();
        if there {
            return Ok(());
        }
        if count > best.0 {
            best = (count, Instant::now());
        }
        if best.1.elapsed() > stuck {
            let (confirmed, missing) = (run.confirmed(), run.missing());
            let so_far = format!("{confirmed} confirmed, {missing} of them not received");
            return Err(Error::failed(format!("nothing more is {what} for {stuck:?}: {so_far}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until what was published after the last fault gets through and is received.
pub(crate) async fn back(run: &Run, publishing: bool, consuming: bool) -> Verdict {
    until("publishing and consuming after the fault", PATIENCE, || async {
        let (published, consumed) = (run.publishes_again(), run.consumes_again());
        if (published || !publishing) && (consumed || !consuming) {
            return Ok(());
        }
        Err(Error::failed(format!("publishing again: {published}, consuming again: {consumed}")))
    })
    .await?;
    Ok(())
}

/// Looks for what comes back though it was settled: whatever a fresh consumer gets counts as received again.
pub(crate) async fn nothing_comes_back(run: &Arc<Run>, at: &Address) -> Verdict {
    let broker = at.open().await?;
    let mut consumer = consumer(&*broker, at, 500).await?;
    // One more message, so that it is known that this consumer gets what there is.
    Publishing::start(run, &broker, at, Load { messages: 1, ..Load::default() }).await?.ended().await?;
    // What waits comes within milliseconds of it.
    let quiet = Duration::from_millis(1500);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match tokio::time::timeout(quiet, consumer.next_many(256)).await {
            Ok(more) => {
                let more = more?;
                let marks: Vec<_> = more.iter().map(|delivery| run.receipt(delivery, u32::MAX)).collect();
                run.acking(marks);
                drop(Delivery::ack_all(more));
            }
            Err(_) if run.missing() == 0 => break,
            Err(_) => {}
        }
    }
    drop(consumer);
    let _ = broker.close(tokio::time::Instant::now() + Duration::from_secs(10)).await;
    Ok(())
}
