//! Policies of a listener for failures: retries, dead letters, and the side that settles.

use std::time::Duration;

use messaging_core::{Attempts, Need, Requirements};

/// Number of attempts for a failing message, and the waits between them.
///
/// The wait before attempt `n + 1` is `initial × multiplier^(n − 1)`, at most `max`; with jitter it is chosen at random
/// between half of that and all of it, so that messages which failed together do not come back together.
///
/// The default is 5 attempts, 200 ms doubling to 30 s, with jitter.
///
/// ```
/// use std::time::Duration;
/// use messaging::Retry;
///
/// let patient = Retry::default().attempts(10).initial(Duration::from_secs(1)).max(Duration::from_secs(300));
/// let once = Retry::none();
/// # let _ = (patient, once);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub(crate) attempts: u32,
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
    pub(crate) multiplier: f64,
    pub(crate) jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            initial: Duration::from_millis(200),
            max: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: true,
        }
    }
}

impl Retry {
    /// One attempt: the first failure sends the message to the dead letter.
    #[must_use]
    pub fn none() -> Self {
        Self::default().attempts(1)
    }

    /// Retries without any wait, for brokers that have no delayed retry.
    #[must_use]
    pub fn immediately() -> Self {
        Self::default().initial(Duration::ZERO)
    }

    /// Sets how often a message is tried in all, the first time included; at least 1.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the wait before the second attempt; zero for no waits at all.
    #[must_use]
    pub fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets what the wait is multiplied with after each attempt; at least 1.
    #[must_use]
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// Sets whether waits are varied at random, down to half their length.
    #[must_use]
    pub fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest and the shortest wait after `attempt` failed.
    pub(crate) fn bounds(&self, attempt: u32) -> (Duration, Duration) {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        let longest = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(self.max);
        (if self.jitter { longest / 2 } else { longest }, longest)
    }

    /// How long a message waits after `attempt` failed.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let (shortest, longest) = self.bounds(attempt);
        if shortest == longest { longest } else { rand::random_range(shortest..=longest) }
    }

    /// Fault of the policy, if it has one.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.attempts == 0 {
            return Some("retry.attempts is 0: a message is tried at least once; use 1 for no retries".to_owned());
        }
        if !self.multiplier.is_finite() || self.multiplier < 1.0 {
            return Some(format!("retry.multiplier is {}: it has to be a number of at least 1", self.multiplier));
        }
        if self.initial > self.max {
            return Some(format!(
                "retry.initial of {:?} is longer than retry.max of {:?}: swap them, or raise the latter",
                self.initial, self.max
            ));
        }
        None
    }

    /// Requirements on the broker.
    pub(crate) fn needs(&self) -> Requirements {
        let mut needs = Requirements::none();
        if self.attempts > 1 {
            let (_, longest) = self.bounds(self.attempts - 1);
            if !longest.is_zero() {
                needs = needs.with(Need::RetryDelay(longest));
            }
        }
        // A broker that only knows "first" and "not first" can tell one retry from none, not the third from the fifth.
        if self.attempts > 2 { needs.with(Need::Attempts(Attempts::AtLeast)) } else { needs }
    }
}

/// Policy for a message that a listener cannot handle: the last attempt failed, or it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterPolicy {
    /// It is kept in the dead letter of its source, with the reason, for people to look at and to send back.
    #[default]
    Keep,
    /// It is acknowledged, counted as discarded and gone.
    Discard,
}

/// Side that settles a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// The listener: acknowledged when the handler succeeded.
    #[default]
    OnSuccess,
    /// The handler, with the extractor [`Settle`](crate::extract::Settle).
    Manual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_takes_at_most_half() {
        let retry = Retry::default();
        let longest: Vec<u128> = (1..=9).map(|attempt| retry.bounds(attempt).1.as_millis()).collect();
        assert_eq!(longest, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
        for attempt in 1..=9 {
            let (shortest, longest) = retry.bounds(attempt);
            assert_eq!(shortest, longest / 2);
            for _ in 0..100 {
                assert!((shortest..=longest).contains(&retry.delay(attempt)));
            }
        }
        assert_eq!(retry.delay(u32::MAX).max(Duration::from_secs(30)), Duration::from_secs(30));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert!(Retry::default().fault().is_none());
        assert!(Retry::default().attempts(0).fault().unwrap().contains("attempts is 0"));
        assert!(Retry::default().multiplier(0.5).fault().unwrap().contains("multiplier"));
        assert!(Retry::default().max(Duration::from_millis(1)).fault().unwrap().contains("retry.initial"));
    }

    #[test]
    fn it_needs_no_more_than_it_uses() {
        assert_eq!(Retry::none().needs(), Requirements::none());
        let two = Retry::default().attempts(2).needs();
        assert_eq!(two, Requirements::none().with(Need::RetryDelay(Duration::from_millis(200))));
        let immediately = Retry::immediately().needs();
        assert_eq!(immediately, Requirements::none().with(Need::Attempts(Attempts::AtLeast)));
    }
}
