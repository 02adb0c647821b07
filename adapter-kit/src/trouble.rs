//! A connection that is lost: since when and why.

use std::fmt;
use std::time::Duration;

use messaging_core::{BrokerName, Health, HealthState};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Trouble of one part of a broker connection: a consumer, a publisher's writer, a link.
///
/// It is the single source of what health reports and what the log says. Target of the log is `messaging::connection`: one
/// warning when the part is lost, one line at level `info` when it is back, with the fields `broker`, `part`, and `why` or
/// `after`. Repeated reports while it is lost change the reason in health and are logged at level `debug`.
pub struct Trouble {
    broker: BrokerName,
    part: String,
    state: HealthState,
    linger: Duration,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// Begin and reason, while it lasts.
    lost: Option<(Instant, String)>,
    /// Time of the last report, and its reason.
    last: Option<(Instant, String)>,
}

impl Trouble {
    /// No trouble. `part` names the part in health and log, for example `the consumer of queue "orders"`; `state` is what health
    /// is while it is lost.
    #[must_use]
    pub fn new(broker: BrokerName, part: impl Into<String>, state: HealthState) -> Self {
        Self { broker, part: part.into(), state, linger: Duration::ZERO, now: Mutex::default() }
    }

    /// Sets how long health stays below `Up` after the last report, though the part is back; zero by default. For clients that
    /// report a broker as lost from time to time while another one answers.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Reports that the part is lost, or still is for another reason. Returns whether it was well before. `why` never holds a
    /// credential.
    pub fn set(&self, why: impl Into<String>) -> bool {
        let why = why.into();
        let mut now = self.now.lock();
        let at = Instant::now();
        let is_new = now.lost.is_none();
        let since = now.lost.as_ref().map_or(at, |(since, _)| *since);
        now.lost = Some((since, why.clone()));
        now.last = Some((at, why.clone()));
        drop(now);
        let (broker, part) = (self.broker.as_str(), &self.part);
        if is_new {
            tracing::warn!(target: "messaging::connection", broker, part, why, "lost");
        } else {
            tracing::debug!(target: "messaging::connection", broker, part, why, "still lost");
        }
        is_new
    }

    /// Reports that the part works again. Returns whether it was lost before.
    pub fn clear(&self) -> bool {
        let lost = self.now.lock().lost.take();
        let Some((since, _)) = lost else { return false };
        let (broker, part, after) = (self.broker.as_str(), &self.part, since.elapsed());
        tracing::info!(target: "messaging::connection", broker, part, ?after, "back");
        true
    }

    /// True if the part is lost now.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.now.lock().lost.is_some()
    }

    /// The reason, while the part is lost.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.now.lock().lost.as_ref().map(|(_, why)| why.clone())
    }

    /// Health of the part: `Up`, or the state given to [`new`](Self::new) with the part, the seconds and the reason.
    #[must_use]
    pub fn health(&self) -> Health {
        let now = self.now.lock();
        if let Some((since, why)) = &now.lost {
            let seconds = since.elapsed().as_secs_f32();
            return Health::not_up(self.state, format!("{} has been away for {seconds:.1} s: {why}", self.part));
        }
        match &now.last {
            Some((at, why)) if at.elapsed() < self.linger => {
                let seconds = at.elapsed().as_secs_f32();
                Health::not_up(HealthState::Degraded, format!("{} was away {seconds:.1} s ago: {why}", self.part))
            }
            _ => Health::up(),
        }
    }
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trouble").field("part", &self.part).field("why", &self.why()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble() -> Trouble {
        Trouble::new(BrokerName::parse("main").unwrap(), "the consumer of queue \"orders\"", HealthState::Down)
    }

    #[tokio::test(start_paused = true)]
    async fn health_names_the_part_since_when_and_the_last_reason() {
        let trouble = trouble();
        assert_eq!(trouble.health(), Health::up());
        assert!(trouble.set("reset by peer"));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert!(!trouble.set("connection refused"), "it was lost already");
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let reason = "the consumer of queue \"orders\" has been away for 3.0 s: connection refused";
        assert_eq!(trouble.health(), Health::not_up(HealthState::Down, reason));
        assert!(trouble.clear() && !trouble.clear());
        assert_eq!((trouble.health(), trouble.why()), (Health::up(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn health_lingers_after_the_last_report() {
        let trouble = trouble().with_linger(Duration::from_secs(8));
        trouble.set("timed out");
        trouble.clear();
        assert_eq!(trouble.health().state, HealthState::Degraded);
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(trouble.health(), Health::up());
    }
}
