//! `[listeners.ID]`: what the configuration overrides of a listener.

use std::time::Duration;

use messaging_core::{Feature, Order, RetryMode, Start, SubjectFilter};

use super::table::{Table, Zero};
use crate::app::{AckMode, DeadLetterPolicy};

/// What the configuration says of one listener; it wins over what the code says. `None`: the code decides.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// How many deliveries are handled at once, at least 1.
    pub concurrency: Option<usize>,
    /// The most deliveries held unsettled, at least 1.
    pub prefetch: Option<usize>,
    /// How a failed delivery is tried again; merged over what the code says, field by field.
    pub retry: Option<RetryConfig>,
    /// What happens to other messages while one waits for its retry.
    pub retry_mode: Option<RetryMode>,
    /// What becomes of a delivery whose last attempt failed.
    pub dead_letter: Option<DeadLetterPolicy>,
    /// Who settles a delivery.
    pub ack: Option<AckMode>,
    /// Whether messages of one key are kept in order.
    pub order_by: Option<Order>,
    /// Which subjects are seen.
    pub filter: Option<SubjectFilter>,
    /// Where a new durable subscription begins.
    pub start: Option<Start>,
    /// How long one attempt may take, longer than nothing.
    pub timeout: Option<Duration>,
    /// What the broker must be able to do.
    pub requires: Option<Vec<Feature>>,
    /// Whether the listener is started at all.
    pub enabled: Option<bool>,
}

/// What the configuration says of a listener's retries. `None`: the code decides.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// How often a delivery is tried altogether, at least 1.
    pub attempts: Option<u32>,
    /// How long the first retry waits.
    pub initial: Option<Duration>,
    /// The longest that a retry waits.
    pub max: Option<Duration>,
    /// What each wait is longer than the one before by, at least 1.
    pub multiplier: Option<f64>,
    /// Whether waits are shortened at random, so that many retries do not come at once.
    pub jitter: Option<bool>,
}

/// All keys of a listener, which end its id in the name of an environment variable.
pub(super) const KEYS: [&str; 12] = [
    "concurrency",
    "prefetch",
    "retry",
    "retry_mode",
    "dead_letter",
    "ack",
    "order_by",
    "filter",
    "start",
    "timeout",
    "requires",
    "enabled",
];

pub(super) const ORDERS: [(&str, Order); 2] = [("key", Order::ByKey), ("none", Order::None)];

impl ListenerConfig {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let config = Self {
            concurrency: table.count("concurrency", usize::MAX),
            prefetch: table.count("prefetch", usize::MAX),
            retry: table.table("retry").map(RetryConfig::read),
            retry_mode: table.word("retry_mode", &[("requeue", RetryMode::Requeue), ("hold", RetryMode::Hold)]),
            dead_letter: table
                .word("dead_letter", &[("keep", DeadLetterPolicy::Keep), ("discard", DeadLetterPolicy::Discard)]),
            ack: table.word("ack", &[("on_success", AckMode::OnSuccess), ("manual", AckMode::Manual)]),
            order_by: table.word("order_by", &ORDERS),
            filter: table.parsed("filter", "subject filter", |text| SubjectFilter::parse(text)),
            start: table.word("start", &[("new", Start::New), ("earliest", Start::Earliest)]),
            timeout: table.duration("timeout", Zero::Refused),
            requires: table.words("requires", &Feature::ALL.map(|feature| (feature.name(), feature))),
            enabled: table.flag("enabled"),
        };
        table.finish();
        config
    }
}

impl RetryConfig {
    fn read(mut table: Table<'_>) -> Self {
        let attempts = table.count("attempts", u32::MAX as usize);
        let config = Self {
            attempts: attempts.and_then(|attempts| u32::try_from(attempts).ok()),
            initial: table.duration("initial", Zero::Allowed),
            max: table.duration("max", Zero::Allowed),
            multiplier: table.factor("multiplier", 1.0),
            jitter: table.flag("jitter"),
        };
        if let (Some(initial), Some(max)) = (config.initial, config.max)
            && initial > max
        {
            table.fault(format_args!("has an \"initial\" of {initial:?}, longer than its \"max\" of {max:?}"));
        }
        table.finish();
        config
    }
}
