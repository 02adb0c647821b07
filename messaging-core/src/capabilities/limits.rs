//! The numbers among the capabilities.

use std::time::Duration;

/// Bounds that hold for one destination with certain options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, payload and headers together, in bytes.
    pub message_bytes: usize,
    /// The most headers on one message.
    pub headers: usize,
    /// The most messages in one call to the broker; larger batches are split by the adapter.
    pub batch: usize,
    /// The longest delay of a retry.
    pub retry_delay: Duration,
    /// The longest delay of a publish.
    pub publish_delay: Duration,
    /// The longest time to live.
    pub ttl: Duration,
    /// How many priorities the broker tells apart.
    pub priority_levels: u8,
    /// The most deliveries a consumer may hold unsettled.
    pub prefetch: usize,
    /// The longest lease, and the longest a lease can be renewed to.
    pub lease: Duration,
    /// How late and how coarse delays and expiry are.
    pub time_granularity: Duration,
    /// After a consumer died, how long until its deliveries go to another at the latest.
    pub redelivery_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1024 * 1024,
            headers: 24,
            batch: 1,
            retry_delay: Duration::ZERO,
            publish_delay: Duration::ZERO,
            ttl: Duration::ZERO,
            priority_levels: 1,
            prefetch: 10_000,
            lease: Duration::ZERO,
            time_granularity: Duration::from_secs(1),
            redelivery_within: Duration::from_secs(60),
        }
    }
}
