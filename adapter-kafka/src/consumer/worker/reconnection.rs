//! Lost connections: noticed, probed until the broker answers, and reported.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::client::GroupClient;
use crate::consumer::shared::Shared;

/// Interval between two probes for a lost broker.
const RECONNECT_PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval at which the client is asked whether it still knows any broker: it may forget all of them without a connection that
/// fails.
const KNOWN_BROKERS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Reconnection {
    shared: Arc<Shared>,
    probed: Instant,
}

impl Reconnection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, probed: Instant::now() }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.shared.outlet.trouble().is_some()
    }

    /// Probes for a lost broker; returns whether it answers again.
    pub(super) fn tick(&mut self, client: &GroupClient) -> bool {
        let interval = if self.is_lost() { RECONNECT_PROBE_INTERVAL } else { KNOWN_BROKERS_INTERVAL };
        if self.probed.elapsed() < interval {
            return false;
        }
        self.probed = Instant::now();
        if !self.is_lost() {
            if self.remind_of_servers(client) {
                self.shared.outlet.lost("the client knows no broker any more");
            }
            return false;
        }
        let answer = client.consumer().fetch_metadata(Some(&self.shared.settings.topics.main), PROBE_TIMEOUT);
        // A broker that goes down or comes up in order answers for a while, and names none, not even itself.
        if !answer.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
            self.remind_of_servers(client);
            return false;
        }
        true
    }

    fn remind_of_servers(&self, client: &GroupClient) -> bool {
        client.remind_of_servers(self.shared.settings.connection.options.servers())
    }
}
