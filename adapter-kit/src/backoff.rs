//! Pauses between attempts to come back.

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The longest pause between two attempts.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The shortest pause before the second attempt, without its jitter.
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);

/// Pauses between attempts to come back to a broker: 20 ms, doubling, plus a random part of up to as much, and never more than a
/// second. There is no last attempt.
///
/// The random part spreads consumers that lost the same broker at the same instant. The pauses are only computed here: the caller
/// sleeps, on its own timer, and may be woken earlier.
pub struct Backoff {
    pauses: ExponentialBackoff,
}

impl Backoff {
    /// Begins with the shortest pause.
    #[must_use]
    pub fn new() -> Self {
        Self { pauses: pauses() }
    }

    /// The next pause.
    pub fn next_pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(RECONNECT_PAUSE_MAX).min(RECONNECT_PAUSE_MAX)
    }

    /// Begins again with the shortest pause, after an attempt that succeeded.
    pub fn reset(&mut self) {
        self.pauses = pauses();
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(RECONNECT_PAUSE_MIN)
        .with_max_delay(RECONNECT_PAUSE_MAX / 2)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backoff").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_never_end() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = std::iter::repeat_with(|| backoff.next_pause()).take(1_000).collect();
        assert!(pauses[0] >= RECONNECT_PAUSE_MIN && pauses[0] <= 2 * RECONNECT_PAUSE_MIN);
        assert!(pauses.iter().all(|pause| *pause >= RECONNECT_PAUSE_MIN && *pause <= RECONNECT_PAUSE_MAX));
        assert!(pauses[10..].iter().all(|pause| *pause >= RECONNECT_PAUSE_MAX / 2));
        backoff.reset();
        assert!(backoff.next_pause() <= 2 * RECONNECT_PAUSE_MIN);
    }

    #[test]
    fn a_thousand_that_lost_one_broker_come_back_spread_out() {
        let fifth = || {
            let mut backoff = Backoff::new();
            for _ in 0..4 {
                let _ = backoff.next_pause();
            }
            backoff.next_pause()
        };
        let distinct: HashSet<_> = std::iter::repeat_with(fifth).take(1_000).collect();
        assert!(distinct.len() > 900, "{}", distinct.len());
    }
}
