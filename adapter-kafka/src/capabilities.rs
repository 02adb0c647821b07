//! Capabilities of Kafka, declared as far as the conformance suite proves them.

use std::time::Duration;

use messaging_core::{
    Attempts, Browsing, Capabilities, Durability, Expired, Feature, Filtering, Limits, Place, PublishDedup, Readiness,
    RetryPlace, SettlementTiming, StaleDetection,
};

use crate::config::{ConnectionOptions, DestinationOptions};

/// Delayed messages wait in the memory of the member that owns their partition, over what the log keeps; a week is a bound for
/// the sake of having one.
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The most unsettled deliveries of one consumer.
const PREFETCH: usize = 100_000;

/// How late a delay may end: the polling thread looks this often.
const GRANULARITY: Duration = Duration::from_millis(50);

/// Why there are no transactions.
pub(crate) const NO_TRANSACTIONS: &str = "an open transaction hides all later messages, each takes about 5 ms and commits only acknowledgements \
     without a gap: make handlers idempotent by message id; the memory broker has transactions";

/// Capabilities of a place, whose destination has these options.
pub(crate) fn of(connection: &ConnectionOptions, options: &DestinationOptions, place: Place<'_>) -> Capabilities {
    let is_ephemeral = matches!(place, Place::Subscribe(_, subscribe) if subscribe.durability == Durability::Ephemeral);
    let mut capabilities = Capabilities::none().with_native([
        Feature::Queue,
        Feature::Topic,
        Feature::DurableSubscription,
        Feature::SharedSubscription,
        Feature::Replay,
        Feature::Batch,
        Feature::SurvivesRestart,
    ]);
    capabilities = emulated(capabilities);
    capabilities = unsupported(capabilities);
    capabilities = if is_ephemeral { ephemeral(capabilities) } else { settled(capabilities) };
    capabilities.attempts = Attempts::AtLeast;
    capabilities.settlement = SettlementTiming::Deferred(connection.commit_interval + Duration::from_secs(1));
    capabilities.stale = StaleDetection::AtCommit;
    capabilities.readiness = Readiness::Immediate;
    capabilities.expired = Expired::Discarded;
    capabilities.filtering = Filtering::Client;
    capabilities.browsing = Browsing::Clean;
    capabilities.retry_place = RetryPlace::Unspecified;
    capabilities.dedup = PublishDedup::None;
    capabilities.limits = Limits {
        message_bytes: options.largest(),
        headers: 1_000,
        batch: 10_000,
        retry_delay: LONGEST_DELAY,
        publish_delay: LONGEST_DELAY,
        ttl: Duration::from_secs(100 * 365 * 24 * 60 * 60),
        priority_levels: 1,
        prefetch: PREFETCH,
        lease: Duration::ZERO,
        time_granularity: GRANULARITY,
        redelivery_within: connection.redelivery_within(),
    };
    capabilities
}

fn emulated(capabilities: Capabilities) -> Capabilities {
    capabilities
        .with_emulated(Feature::EphemeralSubscription, "reads from the ends of the partitions, without a group")
        .with_emulated(Feature::DelayedPublish, "waits in a topic of its own, read by each group, until it is due")
        .with_emulated(Feature::Ttl, "consumers pass over what has expired")
        .with_emulated(Feature::SubjectFilter, "the consumer passes over what does not match")
        .with_emulated(Feature::RequestReply, "replies come through one shared topic, each requester reads its own")
}

fn unsupported(capabilities: Capabilities) -> Capabilities {
    capabilities
        .without(Feature::Priority, "a log has one order: use a queue for each priority, or RabbitMQ")
        .without(Feature::Lease, "a member keeps its partitions as long as it lives: no delivery runs out")
        .without(Feature::RequireSubscriber, "a log keeps messages without knowing who reads them")
        .without(Feature::Transactions, NO_TRANSACTIONS)
}

/// Capabilities of queues and durable subscriptions, which settle.
fn settled(capabilities: Capabilities) -> Capabilities {
    capabilities
        .with_native([
            Feature::KeyOrder,
            Feature::Hold,
            Feature::Release,
            Feature::Depth,
            Feature::Lag,
            Feature::Positions,
            Feature::Browse,
            Feature::Purge,
        ])
        .with_emulated(Feature::DelayedRetry, "a confirmed copy waits in the group's own retry topic until it is due")
        .with_emulated(Feature::DeadLetter, "a confirmed copy in a compacted topic of the source's own")
        .with_emulated(Feature::Redrive, "a copy to the group's own retry topic, then a tombstone")
}

/// Capabilities that an ephemeral subscription lacks for want of a group, and those that it has all the same.
fn ephemeral(capabilities: Capabilities) -> Capabilities {
    let no_group = "an ephemeral subscription has no group and commits nothing: give the subscription a name";
    [
        Feature::Depth,
        Feature::Lag,
        Feature::Positions,
        Feature::Browse,
        Feature::Purge,
        Feature::DeadLetter,
        Feature::Redrive,
        Feature::SurvivesRestart,
    ]
    .into_iter()
    .fold(capabilities, |capabilities, feature| capabilities.without(feature, no_group))
    .with_native([Feature::KeyOrder, Feature::Hold, Feature::Release])
    .with_emulated(Feature::DelayedRetry, "waits in the consumer's memory")
}
