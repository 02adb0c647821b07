//! Closing a broker in order.

use std::fmt;

use async_trait::async_trait;
use messaging_core::{DrainReport, Error};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// The steps of closing a broker, in the order in which [`Closing::close_in_order`] takes them. Each ends by `by`, which is the
/// deadline of whoever called `close`.
#[async_trait]
pub trait Close: Send + Sync {
    /// Refuses what is opened from now on: see [`Opened::close`](crate::Opened::close).
    fn refuse_new(&self);

    /// Drains all consumers at once. Their handlers still publish, retry and dead-letter meanwhile; a receive that waits returns
    /// [`ErrorKind::Closed`](messaging_core::ErrorKind::Closed).
    async fn drain_consumers(&self, by: Instant) -> DrainReport;

    /// Refuses new messages, and waits until those in flight are answered.
    async fn flush_publishers(&self, by: Instant) -> Vec<Error>;

    /// Waits until copies are answered: retries, dead letters, replies.
    async fn flush_copies(&self, by: Instant) -> Vec<Error>;

    /// Ends connections and tasks. Called also when the deadline has passed: it then waits no longer than a moment.
    async fn end_connections(&self, by: Instant);
}

/// Closes a broker once, and tells every caller the same.
#[derive(Default)]
pub struct Closing {
    report: Mutex<Option<DrainReport>>,
}

impl Closing {
    /// A broker that is open.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Closes in this order: no new handles; consumers drain; publishers flush; copies flush; connections end. At the deadline a step
    /// is cut off, and the next ones are taken all the same.
    ///
    /// A second caller waits for the first, until its own deadline, and gets the same report. If the first is cancelled, the second
    /// goes on from there.
    pub async fn close_in_order(&self, broker: &dyn Close, by: Instant) -> DrainReport {
        broker.refuse_new();
        let Ok(mut known) = timeout_at(by, self.report.lock()).await else {
            let late =
                Error::new(messaging_core::ErrorKind::Timeout, "the broker is still being closed by another caller");
            return DrainReport { errors: vec![late], ..DrainReport::default() };
        };
        if let Some(report) = &*known {
            return copy(report);
        }
        let mut report = broker.drain_consumers(by).await;
        report.errors.extend(broker.flush_publishers(by).await);
        report.errors.extend(broker.flush_copies(by).await);
        broker.end_connections(by).await;
        let told = copy(&report);
        *known = Some(report);
        told
    }
}

/// The same report again. Its errors keep kind, outcome, text and context; their causes stay with the first.
fn copy(report: &DrainReport) -> DrainReport {
    let again = |error: &Error| {
        let copy = Error::new(error.kind(), error.text().to_owned()).with_outcome(error.outcome());
        error.context().fold(copy, |copy, (key, value)| copy.with_context(key, value))
    };
    DrainReport {
        settled: report.settled,
        released: report.released,
        abandoned: report.abandoned,
        unconfirmed: report.unconfirmed,
        errors: report.errors.iter().map(again).collect(),
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use messaging_core::ErrorKind;

    use super::*;
    use crate::due_queue::instant_after;

    #[derive(Default)]
    struct Steps(parking_lot::Mutex<Vec<(&'static str, Option<Instant>)>>);

    impl Steps {
        fn note(&self, step: &'static str, by: Option<Instant>) {
            self.0.lock().push((step, by));
        }
    }

    #[async_trait]
    impl Close for Steps {
        fn refuse_new(&self) {
            self.note("refuse", None);
        }

        async fn drain_consumers(&self, by: Instant) -> DrainReport {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.note("consumers", Some(by));
            DrainReport { settled: 3, released: 2, ..DrainReport::default() }
        }

        async fn flush_publishers(&self, by: Instant) -> Vec<Error> {
            self.note("publishers", Some(by));
            vec![Error::new(ErrorKind::Timeout, "late").with_context("broker", "main")]
        }

        async fn flush_copies(&self, by: Instant) -> Vec<Error> {
            self.note("copies", Some(by));
            Vec::new()
        }

        async fn end_connections(&self, by: Instant) {
            self.note("connections", Some(by));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn steps_are_taken_once_in_order_with_the_callers_deadline() {
        let (closing, steps) = (Closing::new(), Steps::default());
        let by = instant_after(Duration::from_secs(30));
        let (first, second) = tokio::join!(closing.close_in_order(&steps, by), closing.close_in_order(&steps, by));
        let third = closing.close_in_order(&steps, by).await;
        for report in [first, second, third] {
            assert_eq!((report.settled, report.released), (3, 2));
            assert_eq!(report.errors[0].to_string(), "timeout: late (broker main)");
        }
        let steps: Vec<_> = steps.0.into_inner().into_iter().filter(|(step, _)| *step != "refuse").collect();
        let expected = ["consumers", "publishers", "copies", "connections"].map(|step| (step, Some(by)));
        assert_eq!(steps, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_caller_goes_on_when_the_first_was_cancelled() {
        let (closing, steps) = (Closing::new(), Steps::default());
        let soon = instant_after(Duration::from_millis(100));
        let by = instant_after(Duration::from_secs(30));
        assert!(timeout_at(soon, closing.close_in_order(&steps, by)).await.is_err());
        assert_eq!(closing.close_in_order(&steps, by).await.settled, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_caller_waits_no_longer_than_its_own_deadline() {
        let (closing, steps) = (Closing::new(), Steps::default());
        let (soon, by) = (instant_after(Duration::from_millis(100)), instant_after(Duration::from_secs(30)));
        let (_, second) = tokio::join!(closing.close_in_order(&steps, by), closing.close_in_order(&steps, soon));
        assert_eq!(second.errors[0].kind(), ErrorKind::Timeout);
    }
}
