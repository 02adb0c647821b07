//! Consumers: a polling thread that owns the client, a place where deliveries wait, and the handle an application polls.

mod events;
mod faults;
mod intake;
mod metadata;
mod offsets;
mod open;
mod partition;
mod window;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use messaging_core::{Control, Deliveries, Delivery, DrainReport, Error, ErrorKind, ErrorOutcome, Event, Flow, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::events::PartitionId;
pub(crate) use self::intake::{End, Intake, Item, Settings};
pub(crate) use self::metadata::{Ending, Metadata};
pub(crate) use self::offsets::{commit_now, committed, fix_start, list, places, watermarks};
pub(crate) use self::open::{Opening, open};
pub(crate) use self::partition::Partition;
use crate::topology::Role;

/// The handle behind an application's consumer.
pub(crate) struct KafkaDeliveries {
    intake: Arc<Intake>,
    /// Where messages are between being taken and becoming deliveries; empty between two polls.
    taken: Vec<Item>,
}

impl KafkaDeliveries {
    pub(crate) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, taken: Vec::new() }
    }

    /// Where a consumer of this client is in each partition of its main topic: the next offset, and the lowest open one.
    pub(crate) fn positions(intake: &Intake) -> Vec<(i32, i64, i64)> {
        let partitions = intake.partitions.lock();
        let main = partitions.iter().filter(|partition| partition.role == Role::Main);
        main.map(|partition| {
            let (next, open) = partition.position();
            (partition.number, next, open)
        })
        .collect()
    }
}

#[async_trait]
impl Deliveries for KafkaDeliveries {
    fn poll_next_many(&mut self, cx: &mut Context<'_>, max: usize, out: &mut Vec<Delivery>) -> Poll<Result<usize>> {
        self.intake.poll_next(cx, max, &mut self.taken, out)
    }

    fn stop_waiting(&mut self) {
        self.intake.stop_waiting();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.intake.poll_event(cx)
    }

    fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.intake) as Arc<dyn Control>
    }

    async fn drain(&mut self, by: Instant) -> DrainReport {
        self.intake.drain(by).await
    }
}

impl Drop for KafkaDeliveries {
    fn drop(&mut self) {
        // What is out goes to others, though handlers still have it; the thread sees to the rest.
        self.intake.set_flow(Flow::Stopped);
        self.intake.disown();
        self.intake.leave();
    }
}

impl fmt::Debug for KafkaDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.intake, f)
    }
}

#[async_trait]
impl Control for Intake {
    fn set_flow(&self, flow: Flow) {
        Self::set_flow(self, flow);
    }

    async fn flush(&self, by: Instant) -> Result<()> {
        let late = || {
            Error::new(ErrorKind::Timeout, "the broker did not say in time that it has the settlements")
                .with_outcome(ErrorOutcome::Unknown)
        };
        // Copies come first: what they stand for is settled when they are confirmed.
        timeout_at(by, self.tickets().flushed()).await.map_err(|_| late())?;
        let answered = {
            let (answer, answered) = oneshot::channel();
            let mut orders = self.orders.lock();
            if let Some(last) = &self.progress.borrow().committed {
                return last.clone().map_err(|end| end.error());
            }
            orders.flushes.push(answer);
            answered
        };
        self.wake();
        match timeout_at(by, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => match &self.progress.borrow().committed {
                Some(last) => last.clone().map_err(|end| end.error()),
                None => Err(Error::new(ErrorKind::Internal, "the consumer's thread has died")),
            },
            Err(_) => Err(late()),
        }
    }
}

impl Intake {
    /// Tells the polling thread to go, whatever is out.
    pub(crate) fn leave(&self) {
        self.orders.lock().leave = true;
        self.wake();
    }

    /// Whatever is out is stale from now on, also before the polling thread comes to leave.
    fn disown(&self) {
        self.partitions.lock().iter().for_each(|partition| partition.disown());
    }

    /// The partitions that this member has.
    pub(crate) fn places(&self) -> Vec<PartitionId> {
        self.partitions.lock().iter().map(|one| (one.topic.to_string(), one.number)).collect()
    }

    /// Passes over all that waits for this consumer.
    pub(crate) async fn purge(&self, by: Instant) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.orders.lock().purges.push(answer);
        self.wake();
        match timeout_at(by, answered).await {
            Ok(Ok(result)) => result,
            _ => Err(Error::new(ErrorKind::Timeout, "the consumer did not pass over what waits in time")),
        }
    }

    /// Stops, waits until nothing is out, commits and leaves; takes back what is out at `by`.
    pub(crate) async fn drain(&self, by: Instant) -> DrainReport {
        let before = self.settled();
        let mut report = DrainReport { released: Self::set_flow(self, Flow::Stopped) as u64, ..DrainReport::default() };
        let mut progress = self.progress.subscribe();
        let idle = timeout_at(by, self.idle()).await;
        report.settled = self.settled() - before;
        if idle.is_err() {
            self.disown();
            report.abandoned = self.unsettled() as u64;
            report.settled = self.settled() - before;
        }
        self.orders.lock().leave_by = Some(by.into_std());
        self.leave();
        let _ = timeout_at(by, progress.wait_for(|progress| progress.has_left)).await;
        match &progress.borrow().committed {
            Some(Ok(())) => {}
            Some(Err(end)) => report.errors.push(end.error()),
            // At its deadline a drain that had something to abandon leaves the rest to the thread.
            None if report.abandoned > 0 => {}
            None => {
                report.errors.push(Error::new(ErrorKind::Timeout, "the broker did not take the last commit in time"));
            }
        }
        report.unconfirmed = self.unconfirmed();
        report
    }
}
