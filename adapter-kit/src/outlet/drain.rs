//! Draining: stop, wait until nothing is out, give back the rest, flush.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use messaging_core::{DrainReport, Error, ErrorKind, Flow};
use tokio::time::{Instant, timeout_at};

use super::{Finished, Held, Outlet};

/// Time past the deadline in which the feeder can still say what it did not finish.
const FINISH_GRACE: Duration = Duration::from_millis(100);

impl<H: Held> Outlet<H> {
    /// Stops the consumer, waits until nothing is out or `by` has passed, makes stale what is still out, and has the feeder give back
    /// the rest and flush. Ends by `by` and a tenth of a second also when the broker is dead.
    ///
    /// The report counts what happened since the call. A drain that begins while another is under way waits for it; after a drain
    /// that has completed the report is empty: each fact is reported once. Cancelling the future leaves the consumer stopped, and
    /// another drain goes on from there.
    pub async fn drain(&self, by: Instant) -> DrainReport {
        let inner = &self.0;
        let settled_before = self.settled_so_far();
        self.set_flow(Flow::Stopped);
        let Ok(mut is_drained) = timeout_at(by + FINISH_GRACE, inner.drained.lock()).await else {
            let late = Error::new(ErrorKind::Timeout, "another drain of this consumer did not end in time");
            return DrainReport { errors: vec![late], ..DrainReport::default() };
        };
        let mut report = DrainReport::default();
        if *is_drained {
            return report;
        }
        if timeout_at(by, self.idle()).await.is_err() {
            // Stale first, and counted then: nothing is both settled and abandoned.
            inner.feeder.disown();
            report.abandoned = self.unsettled() as u64;
        }
        let settled = self.settled_so_far() - settled_before;
        let finished = timeout_at(by + FINISH_GRACE, inner.feeder.finish(by)).await.unwrap_or_else(|_| Finished {
            unconfirmed: settled,
            errors: vec![Error::new(ErrorKind::Timeout, "the consumer did not end in time")],
            ..Finished::default()
        });
        // The feeder may not have come to it; the broker has these messages all the same.
        drop(self.take_unstarted(|_| true));
        report.settled = self.settled_so_far() - settled_before;
        report.released = inner.released.swap(0, Ordering::SeqCst) + finished.released;
        report.unconfirmed = finished.unconfirmed;
        report.errors = finished.errors;
        *is_drained = true;
        report
    }

    /// Waits until nothing is out, after the consumer was stopped.
    async fn idle(&self) {
        loop {
            let mut idle = pin!(self.0.idle.notified());
            idle.as_mut().enable();
            if self.unsettled() == 0 {
                return;
            }
            idle.await;
        }
    }
}
