//! A confirmed copy first, and the settlement of the original afterwards.

use std::time::Duration;

use messaging_core::{Delivery, Result};

/// Time that a broker may take to confirm a copy: a delayed retry, a dead letter, a reply.
///
/// Long enough for a broker that elects a new leader or restarts; past it the copy counts as refused, with an unknown outcome.
pub const COPY_TIMEOUT: Duration = Duration::from_secs(30);

/// Fate of the original once its copy was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCopy {
    /// The copy is confirmed: the original is settled, and its key is free.
    Settle,
    /// The copy was refused or not confirmed: the original becomes available again, as after a drop.
    Again {
        /// Number of the next attempt.
        attempt: u32,
        /// Pause before it: [`Delivery::drop_backoff`] of the attempt that failed.
        after: Duration,
    },
}

/// Decides what becomes of an original whose delivery was the attempt `attempt`, from the answer to its copy. The message is never
/// lost: in doubt there are two.
#[must_use]
pub fn copied<T>(result: &Result<T>, attempt: u32) -> AfterCopy {
    match result {
        Ok(_) => AfterCopy::Settle,
        Err(_) => AfterCopy::Again { attempt: attempt.saturating_add(1), after: Delivery::drop_backoff(attempt) },
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::{Error, ErrorKind};

    use super::*;

    #[test]
    fn only_a_confirmed_copy_settles_its_original() {
        assert_eq!(copied(&Ok(()), 3), AfterCopy::Settle);
        for kind in [ErrorKind::Timeout, ErrorKind::Full, ErrorKind::Closed, ErrorKind::Unroutable] {
            let refused: Result<()> = Err(Error::new(kind, "refused"));
            let again = AfterCopy::Again { attempt: 4, after: Duration::from_millis(200) };
            assert_eq!(copied(&refused, 3), again);
        }
        let refused: Result<()> = Err(Error::new(ErrorKind::Timeout, "late"));
        assert!(matches!(copied(&refused, u32::MAX), AfterCopy::Again { attempt: u32::MAX, .. }));
    }
}
