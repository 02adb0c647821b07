//! Time on the wall and on the processors.
//!
//! The processor time of the whole process, clients' threads included, says more than the wall where others use the machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Processor time of the last turn in nanoseconds: turns return one duration, and this is the other.
static PROCESSOR: AtomicU64 = AtomicU64::new(0);

/// Runs from the moment it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    at: Instant,
    processor: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { processor: processor_time(), at: Instant::now() }
    }

    /// The time on the wall; that of the processors is left for [`last_processor_time`].
    pub(crate) fn stop(self) -> Duration {
        Self::start().since(self)
    }

    /// The time from `begun` to this, which was started later.
    pub(crate) fn since(self, begun: Self) -> Duration {
        let processor = self.processor.saturating_sub(begun.processor).as_nanos();
        PROCESSOR.store(u64::try_from(processor).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.at.duration_since(begun.at)
    }
}

/// Processor time of the last turn in nanoseconds, if it was measured; forgotten with this.
pub(crate) fn last_processor_time() -> Option<u64> {
    Some(PROCESSOR.swap(0, Ordering::Relaxed)).filter(|nanos| *nanos > 0)
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
