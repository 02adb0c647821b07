//! Lost connections: noticed, probed until the broker answers, and reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::Event;
use rdkafka::consumer::Consumer as _;

use super::client::GroupClient;
use crate::consumer::intake::Intake;

/// Interval between two probes for a lost broker.
const RECONNECT_PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval at which the client is asked whether it still knows any broker: it may forget all of them without a connection that
/// fails.
const KNOWN_BROKERS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Reconnection {
    intake: Arc<Intake>,
    /// Since when the connection is lost.
    lost: Option<Instant>,
    probed: Instant,
}

impl Reconnection {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, lost: None, probed: Instant::now() }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Notes that a connection was lost.
    pub(super) fn set_lost(&mut self, why: &str) {
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            tracing::warn!(topic = self.intake.settings.topics.main, why, "a consumer lost its broker");
            self.intake.tell(Event::Disconnected);
        }
    }

    /// Probes for a lost broker; returns whether it is back since the last call.
    pub(super) fn tick(&mut self, client: &GroupClient) -> bool {
        let interval = if self.is_lost() { RECONNECT_PROBE_INTERVAL } else { KNOWN_BROKERS_INTERVAL };
        if self.probed.elapsed() < interval {
            return false;
        }
        self.probed = Instant::now();
        let Some(lost) = self.lost else {
            if self.remind_of_servers(client) {
                self.set_lost("the client knows no broker any more");
            }
            return false;
        };
        let main = &self.intake.settings.topics.main;
        let answer = client.consumer().fetch_metadata(Some(main), PROBE_TIMEOUT);
        // A broker that goes down or comes up in order answers for a while, and names none, not even itself.
        if !answer.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
            self.remind_of_servers(client);
            return false;
        }
        tracing::info!(topic = main, after = ?lost.elapsed(), "a consumer's broker is back");
        self.lost = None;
        true
    }

    fn remind_of_servers(&self, client: &GroupClient) -> bool {
        client.remind_of_servers(self.intake.settings.connection.options.servers())
    }
}
