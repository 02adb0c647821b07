//! `[listeners.ID]`: the overrides of a listener.

use std::time::Duration;

use messaging_core::{Feature, Order, RetryMode, Settings, Start, SubjectFilter};

use crate::app::{AckMode, DeadLetterPolicy};

/// Overrides of one listener; they win over the code. `None`: the code decides.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ListenerConfig {
    /// How many deliveries are handled at once, at least 1.
    pub concurrency: Option<usize>,
    /// The most deliveries held unsettled, at least 1.
    pub prefetch: Option<usize>,
    /// How a failed delivery is tried again; merged over what the code says, field by field.
    pub retry: Option<RetryConfig>,
    /// The fate of other messages while one waits for its retry.
    pub retry_mode: Option<RetryMode>,
    /// The fate of a delivery whose last attempt failed.
    pub dead_letter: Option<DeadLetterPolicy>,
    /// The one that settles a delivery: the runtime or the handler.
    pub ack: Option<AckMode>,
    /// Order of messages of one key.
    pub order_by: Option<Order>,
    /// Which subjects are seen.
    pub filter: Option<SubjectFilter>,
    /// Where a new durable subscription begins.
    pub start: Option<Start>,
    /// How long one attempt may take, longer than nothing.
    pub timeout: Option<Duration>,
    /// Features that the broker must have.
    pub requires: Option<Vec<Feature>>,
    /// True if the listener is started.
    pub enabled: Option<bool>,
}

/// Overrides of a listener's retries. `None`: the code decides.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RetryConfig {
    /// How often a delivery is tried altogether, at least 1.
    pub attempts: Option<u32>,
    /// How long the first retry waits.
    pub initial: Option<Duration>,
    /// The longest that a retry waits.
    pub max: Option<Duration>,
    /// Factor by which each wait is longer than the one before, at least 1.
    pub multiplier: Option<f64>,
    /// True if waits are shortened at random, so that many retries do not come at once.
    pub jitter: Option<bool>,
}

/// All keys of a listener, which end its id in the name of an environment variable.
pub(super) const LISTENER_KEYS: [&str; 12] = [
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

pub(super) const ORDER_WORDS: [(&str, Order); 2] = [("key", Order::ByKey), ("none", Order::None)];

impl ListenerConfig {
    pub(super) fn read(mut table: Settings) -> Self {
        let config = Self {
            concurrency: table.take_count("concurrency", 1..=u64::MAX),
            prefetch: table.take_count("prefetch", 1..=u64::MAX),
            retry: table.take_table("retry").map(RetryConfig::read),
            retry_mode: table.take_word("retry_mode", &[("requeue", RetryMode::Requeue), ("hold", RetryMode::Hold)]),
            dead_letter: table
                .take_word("dead_letter", &[("keep", DeadLetterPolicy::Keep), ("discard", DeadLetterPolicy::Discard)]),
            ack: table.take_word("ack", &[("on_success", AckMode::OnSuccess), ("manual", AckMode::Manual)]),
            order_by: table.take_word("order_by", &ORDER_WORDS),
            filter: table.take_parsed("filter", "subject filter", |text| SubjectFilter::parse(text)),
            start: table.take_word("start", &[("new", Start::New), ("earliest", Start::Earliest)]),
            timeout: table.take_time_limit("timeout"),
            requires: table.take_words("requires", &Feature::ALL.map(|feature| (feature.name(), feature))),
            enabled: table.take_flag("enabled"),
        };
        table.close();
        config
    }
}

impl RetryConfig {
    fn read(mut table: Settings) -> Self {
        let config = Self {
            attempts: table.take_count("attempts", 1..=u64::from(u32::MAX)),
            initial: table.take_duration("initial"),
            max: table.take_duration("max"),
            multiplier: table.take_factor("multiplier", 1.0),
            jitter: table.take_flag("jitter"),
        };
        if let (Some(initial), Some(max)) = (config.initial, config.max)
            && initial > max
        {
            table.fault(format_args!("has an \"initial\" of {initial:?}, longer than its \"max\" of {max:?}"));
        }
        table.close();
        config
    }
}
