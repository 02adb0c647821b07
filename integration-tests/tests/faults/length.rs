//! How long the runs are: short by default, long where a broker's endurance counts.

use std::env;
use std::time::Duration;

/// The variable that asks for long runs.
const VARIABLE: &str = "MESSAGING_FAULTS";

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// About ten seconds and 20,000 messages.
    Short,
    /// Minutes, and as many messages as the scenario says.
    Long,
}

impl Length {
    /// Long with `MESSAGING_FAULTS=long`.
    pub(crate) fn chosen() -> Self {
        if env::var(VARIABLE).is_ok_and(|value| value == "long") { Self::Long } else { Self::Short }
    }

    /// The one or the other.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }

    /// How many messages are confirmed at least, where a scenario asks for no number of its own.
    pub(crate) fn messages(self) -> usize {
        self.pick(20_000, 100_000)
    }

    /// How long a fault goes on that comes again and again.
    pub(crate) fn turmoil(self) -> Duration {
        Duration::from_secs(self.pick(10, 60))
    }
}
