//! What the memory broker can do: everything.

use std::time::Duration;

use messaging_core::{
    Attempts, Browsing, Capabilities, Feature, Filtering, Limits, PublishDedup, Readiness, RetryPlace,
    SettlementTiming, StaleDetection,
};

use crate::config::DestinationOptions;

/// Delays, times to live and leases of up to a hundred years: a bound for the sake of having one.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What holds of a queue, or of a topic and its subscriptions.
pub(crate) fn of(options: &DestinationOptions, is_topic: bool) -> Capabilities {
    let mut capabilities = Capabilities::none().with_native(Feature::ALL);
    if !is_topic {
        let why = "a queue has no log; a durable subscription of a topic has one";
        capabilities = capabilities.without(Feature::Positions, why);
    }
    capabilities.attempts = Attempts::Exact;
    capabilities.settlement = SettlementTiming::Confirmed;
    capabilities.stale = StaleDetection::Exact;
    capabilities.readiness = Readiness::Immediate;
    capabilities.expired = options.expired;
    capabilities.filtering = Filtering::Broker;
    capabilities.browsing = Browsing::Clean;
    // A subscription's messages are fetched from the topic's log as they are asked for: a retried one goes behind those that
    // were fetched, and before the others.
    capabilities.retry_place = if is_topic { RetryPlace::Unspecified } else { RetryPlace::Tail };
    capabilities.dedup = options.dedup.map_or(PublishDedup::None, PublishDedup::Window);
    capabilities.limits = Limits {
        message_bytes: options.message_bytes,
        headers: 1_000,
        batch: 1_000_000,
        retry_delay: LONGEST,
        publish_delay: LONGEST,
        ttl: LONGEST,
        priority_levels: 10,
        prefetch: 1_000_000,
        lease: LONGEST,
        // tokio's timers tick once a millisecond.
        time_granularity: Duration::from_millis(1),
        redelivery_within: Duration::from_millis(1),
    };
    capabilities
}
