//! Shutting down: stop, drain, give back, close; and the report of it.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use messaging_core::{Broker, BrokerName, Consumer, DrainReport, Error, ErrorKind, Flow};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::ledger::{Ledger, Tally, count};
use super::publishing::Publishers;
use super::running_listener::RunningListener;
use super::stop::{Stage, Stop};
use super::worker::Remains;

/// How long a handler that is told to end may take to reach its next await, and brokers to close, past the deadline.
const GRACE: Duration = Duration::from_secs(1);

/// Numbers of one listener's deliveries by the way in which a shutdown ended them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Drain {
    /// Started ones that were settled, in whatever way, before the deadline.
    pub settled: u64,
    /// Unstarted ones that were given back.
    pub released: u64,
    /// Started ones that had not finished at the deadline: given back, to be delivered again. Not dead-lettered.
    pub abandoned: u64,
}

impl Drain {
    fn of(report: &DrainReport) -> Self {
        Self { settled: report.settled, released: report.released, abandoned: report.abandoned }
    }

    fn and(self, other: Self) -> Self {
        let Self { settled, released, abandoned } = other;
        Self {
            settled: self.settled + settled,
            released: self.released + released,
            abandoned: self.abandoned + abandoned,
        }
    }
}

/// Result of a shutdown.
#[derive(Debug)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// All listeners together.
    pub total: Drain,
    /// Each listener, by its id.
    pub listeners: Vec<(String, Drain)>,
    /// Settlements of which the brokers did not say that they know: they may come again.
    pub unconfirmed: u64,
    /// Where every delivery ended since the start; nothing is in flight any more. What was abandoned counts as retried.
    pub ledger: Ledger,
    /// How long it took.
    pub took: Duration,
    /// Errors of listeners, publishers and brokers on the way.
    pub errors: Vec<Error>,
}

impl ShutdownReport {
    /// True if every started delivery was finished and every settlement confirmed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total.abandoned == 0 && self.unconfirmed == 0 && self.errors.is_empty()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Drain { settled, released, abandoned } = self.total;
        writeln!(
            f,
            "shut down in {:.1?}: {settled} finished, {released} given back unstarted, {abandoned} abandoned and given back",
            self.took
        )?;
        if self.unconfirmed > 0 {
            writeln!(
                f,
                "  {} settlements were not confirmed by their brokers: these messages may come again",
                self.unconfirmed
            )?;
        }
        for error in &self.errors {
            writeln!(f, "  {error}")?;
        }
        fmt::Display::fmt(&self.ledger, f)
    }
}

/// Stops, drains and closes everything. Takes at most `timeout` and twice [`GRACE`].
pub(crate) async fn shutdown(
    listeners: Vec<RunningListener>,
    brokers: &BTreeMap<BrokerName, Arc<dyn Broker>>,
    publishers: &Publishers,
    stop: &Stop,
    timeout: Duration,
) -> ShutdownReport {
    let begun = Instant::now();
    let drained = drain_all(listeners, stop, begun + timeout).await;
    let last = Instant::now() + GRACE;
    let mut errors: Vec<Error> = publishers.flush(last).await.err().into_iter().collect();
    let mut reports = Vec::with_capacity(drained.len());
    let mut tallies = Vec::with_capacity(drained.len());
    let mut unconfirmed = 0;
    for Drained { id, mut report, tally } in drained {
        errors.extend(std::mem::take(&mut report.errors).into_iter().map(|error| error.with_context("listener", &id)));
        unconfirmed += report.unconfirmed;
        reports.push((id.clone(), Drain::of(&report)));
        tallies.push((id, tally));
    }
    for broker in brokers.values() {
        // Its consumers have been drained: what it counts was counted above, or belongs to consumers outside the app.
        let mut report = broker.close(last).await;
        errors.append(&mut report.errors);
        unconfirmed += report.unconfirmed;
    }
    let total = reports.iter().fold(Drain::default(), |sum, (_, drain)| sum.and(*drain));
    ShutdownReport {
        total,
        listeners: reports,
        unconfirmed,
        ledger: Ledger::new(tallies),
        took: begun.elapsed(),
        errors,
    }
}

/// Result of draining one listener.
struct Drained {
    id: String,
    report: DrainReport,
    tally: Tally,
}

async fn drain_all(listeners: Vec<RunningListener>, stop: &Stop, by: Instant) -> Vec<Drained> {
    let before: Vec<Tally> = listeners.iter().map(|listener| listener.counters.tally()).collect();
    // All stop before any is waited for.
    for listener in &listeners {
        listener.control.set_flow(Flow::Stopped);
    }
    stop.set(Stage::Draining);
    let drains = listeners.into_iter().zip(before).map(|(listener, before)| listener.drain(before, stop, by));
    let mut drains = pin!(join_all(drains));
    tokio::select! {
        biased;
        drained = &mut drains => return drained,
        () = sleep_until(by) => stop.set(Stage::Abandoning),
    }
    drains.await
}

impl RunningListener {
    async fn drain(self, before: Tally, stop: &Stop, by: Instant) -> Drained {
        let Self { policy, counters, control: _, shared, tasks } = self;
        let (mut remains, error) = join(tasks, stop).await;
        let consumer = shared.and_then(|shared| shared.take());
        let consumer = consumer.or_else(|| remains.iter_mut().find_map(|one| one.consumer.take()));
        let mut report = match consumer {
            Some(mut consumer) => drain(&mut consumer, stop, by).await,
            None => DrainReport::default(),
        };
        report.errors.extend(error);
        // The broker has taken them back by now: letting go of them changes nothing any more.
        remains.into_iter().for_each(|one| drop(one.abandoned));
        let after = counters.tally();
        // The listener's own counts: it knows what was on its way when the shutdown began, the broker only since the drain.
        report.settled = after.settled() - before.settled();
        report.abandoned = after.in_flight;
        let outside = counters.outside();
        count(&outside.received, report.released);
        count(&outside.released, report.released);
        count(&outside.retried, report.abandoned);
        let abandoned = report.abandoned;
        if abandoned > 0 {
            tracing::warn!(
                listener = &*policy.id,
                abandoned,
                "the shutdown did not wait for all handlers; their messages come again"
            );
        }
        Drained { id: policy.id.to_string(), report, tally: counters.tally() }
    }
}

/// Waits for workers. One whose handler blocks its thread is left behind when the others have been told to abandon theirs.
async fn join(tasks: Vec<JoinHandle<Remains>>, stop: &Stop) -> (Vec<Remains>, Option<Error>) {
    let mut remains = Vec::with_capacity(tasks.len());
    let mut error = None;
    let mut patience = pin!(async {
        stop.abandoned().await;
        sleep(GRACE).await;
    });
    let mut late = false;
    for mut task in tasks {
        if !late {
            tokio::select! {
                biased;
                ended = &mut task => {
                    match ended {
                        Ok(remain) => remains.push(remain),
                        Err(panic) => error = Some(died(panic)),
                    }
                    continue;
                }
                () = &mut patience => late = true,
            }
        }
        if task.is_finished() {
            remains.extend(task.await.ok());
        } else {
            task.abort();
        }
    }
    (remains, error)
}

#[cold]
fn died(panic: tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "a worker died: something panicked outside of a handler, such as the clone of a layer",
    )
    .with_source(panic)
}

/// Has the broker take back what is not settled by the deadline, or at once when the shutdown is hurried.
async fn drain(consumer: &mut Consumer, stop: &Stop, by: Instant) -> DrainReport {
    let within = by.saturating_duration_since(Instant::now());
    if stop.stage() < Stage::Abandoning {
        tokio::select! {
            biased;
            report = consumer.drain(within) => return report,
            () = stop.abandoned() => {}
        }
    }
    consumer.drain(Duration::ZERO).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_prints_what_may_come_again() {
        let mut report = ShutdownReport {
            total: Drain { settled: 5, released: 2, abandoned: 1 },
            listeners: Vec::new(),
            unconfirmed: 3,
            ledger: Ledger::default(),
            took: Duration::from_millis(1_500),
            errors: vec![Error::new(ErrorKind::Timeout, "no answer")],
        };
        let ledger = Ledger::default();
        assert_eq!(
            report.to_string(),
            format!(
                "shut down in 1.5s: 5 finished, 2 given back unstarted, 1 abandoned and given back\n  \
                 3 settlements were not confirmed by their brokers: these messages may come again\n  \
                 timeout: no answer\n{ledger}"
            )
        );
        assert!(!report.is_complete());
        report.unconfirmed = 0;
        assert!(!report.to_string().contains("not confirmed"), "{report}");
    }
}
