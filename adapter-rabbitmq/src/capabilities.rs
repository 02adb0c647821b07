//! What RabbitMQ can do, by destination and options.

use std::time::Duration;

use messaging_core::{
    Attempts, Browsing, Capabilities, Durability, Expired, Feature, Filtering, Limits, Order, Place, PublishDedup,
    Readiness, RetryMode, RetryPlace, SettlementTiming, StaleDetection,
};

use crate::config::{Config, DestinationOptions, QueueType};
use crate::delay::{GRANULARITY, LONGEST};

/// Why there are no transactions.
pub(crate) const NO_TRANSACTIONS: &str = "quorum queues take no part in AMQP's transactions: make handlers idempotent by message id; \
     the memory broker has transactions";

/// RabbitMQ 4's `max_message_size`, if nobody changed it.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// A consumer holds what it retries in order; the broker ends channels that hold a delivery for longer than 30 minutes
/// (`consumer_timeout`).
const HELD_MAX: Duration = Duration::from_secs(10 * 60);

/// Capabilities of a place.
pub(crate) fn of(config: &Config, place: Place<'_>) -> Capabilities {
    let options = place.destination().map_or(config.defaults(), |destination| config.destination(&destination));
    let (consume, ephemeral) = match place {
        Place::Broker | Place::Publish(..) => (None, false),
        Place::Consume(_, consume) => (Some(consume), false),
        Place::Subscribe(_, subscribe) => (Some(&subscribe.consume), subscribe.durability == Durability::Ephemeral),
    };
    let by_key = consume.is_some_and(|consume| consume.order == Order::ByKey);
    let holds = consume.is_some_and(|consume| consume.retry_mode == RetryMode::Hold);
    let quorum = options.queue_type == QueueType::Quorum && !ephemeral;
    let mut capabilities = features(options, ephemeral);
    capabilities.attempts = if quorum && !by_key {
        Attempts::Exact
    } else {
        // What was retried by the consumer itself is forgotten when it dies, and a classic queue says no more of what it hands
        // out again than that it was handed out before.
        Attempts::AtLeast
    };
    capabilities.settlement = SettlementTiming::Sent;
    capabilities.stale = StaleDetection::AtCommit;
    capabilities.readiness = Readiness::Immediate;
    capabilities.expired = if ephemeral { Expired::Discarded } else { Expired::DeadLettered };
    capabilities.filtering = Filtering::Broker;
    capabilities.browsing = Browsing::Disturbing;
    capabilities.retry_place = RetryPlace::Unspecified;
    capabilities.dedup = PublishDedup::None;
    capabilities.limits = Limits {
        message_bytes: MESSAGE_BYTES,
        headers: 1_000,
        batch: 10_000,
        retry_delay: if holds || ephemeral { HELD_MAX } else { LONGEST },
        publish_delay: LONGEST,
        ttl: LONGEST,
        priority_levels: 2,
        prefetch: usize::from(u16::MAX),
        lease: Duration::ZERO,
        time_granularity: GRANULARITY,
        redelivery_within: config.heartbeat * 2 + Duration::from_secs(1),
    };
    capabilities
}

fn features(options: &DestinationOptions, ephemeral: bool) -> Capabilities {
    let buckets = "a queue for each delay, in which messages expire into where they are due";
    let copy = "a confirmed copy, then the acknowledgement";
    let mut all = Capabilities::none()
        .with_native([
            Feature::Queue,
            Feature::Topic,
            Feature::DurableSubscription,
            Feature::SharedSubscription,
            Feature::EphemeralSubscription,
            Feature::Ttl,
            Feature::SubjectFilter,
            Feature::RequireSubscriber,
            Feature::Batch,
            Feature::Depth,
            Feature::Lag,
            Feature::Browse,
            Feature::Purge,
            Feature::SurvivesRestart,
        ])
        .with_emulated(Feature::KeyOrder, "queues by hash of the key, each with a single active consumer")
        .with_emulated(Feature::Hold, "the consumer holds the message, and those of its key behind it")
        .with_emulated(Feature::DelayedRetry, buckets)
        .with_emulated(Feature::DelayedPublish, buckets)
        .with_emulated(Feature::DeadLetter, copy)
        .with_emulated(Feature::Redrive, copy)
        .with_emulated(Feature::RequestReply, "direct reply-to")
        .without(Feature::Release, "every way of giving a delivery back counts as an attempt (RabbitMQ 4.0)")
        .without(Feature::Lease, "a delivery is held for as long as its channel lives")
        .without(Feature::Replay, "a queue keeps nothing that was acknowledged; use Kafka or a Redis stream")
        .without(Feature::Positions, "a queue has no positions; use Kafka")
        .without(Feature::Transactions, NO_TRANSACTIONS);
    all = match options.queue_type {
        QueueType::Quorum => all.with_native([Feature::Priority]),
        QueueType::Classic => {
            let shares = "of a classic queue's consumers the first is active until it goes, so that members would not share; use type = \"quorum\"";
            all.without(
                Feature::Priority,
                "a classic queue has priorities only if made with x-max-priority; use type = \"quorum\"",
            )
            .without(Feature::KeyOrder, shares)
            .without(Feature::Hold, shares)
        }
    };
    if options.order == Order::ByKey {
        all = all.without(Feature::Browse, "a lane gives its messages to its one active consumer only");
    }
    if options.exchange_type != "topic" {
        all = all.without(Feature::SubjectFilter, "only an exchange of type topic knows * and #");
    }
    if ephemeral {
        let no_queue = "an ephemeral subscription has no name to purge by; give it one";
        all = all
            .without(Feature::Purge, no_queue)
            .with_emulated(Feature::DelayedRetry, "the consumer holds the message")
            .without(Feature::DeadLetter, "an ephemeral subscription leaves nothing behind; give it a name")
            .without(Feature::Redrive, "an ephemeral subscription has no dead letter; give it a name")
            .without(Feature::SurvivesRestart, "an ephemeral subscription goes with its connection; give it a name")
            .without(Feature::KeyOrder, "an ephemeral subscription has one consumer, which sees all in order")
            .without(Feature::Hold, "an ephemeral subscription keeps no order through retries; give it a name");
    }
    all
}
