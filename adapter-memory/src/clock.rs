//! Time as nanoseconds since the server was made, in one word instead of two.

use std::time::Duration;

use tokio::time::Instant;

use crate::backlog::NEVER;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Now; follows a paused clock in tests.
    pub(crate) fn now(self) -> u64 {
        nanos(Instant::now().saturating_duration_since(self.epoch))
    }

    pub(crate) fn after(self, delay: Duration) -> u64 {
        self.now().saturating_add(nanos(delay))
    }

    /// The instant of a deadline; none for [`NEVER`] and what is too far away to be waited for.
    pub(crate) fn instant(self, at: u64) -> Option<Instant> {
        if at == NEVER { None } else { self.epoch.checked_add(Duration::from_nanos(at)) }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    // 584 years fit; what is longer never comes.
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER - 1)
}
