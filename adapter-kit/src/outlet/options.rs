//! How an outlet behaves, and how much it holds.

use std::time::Duration;

use messaging_core::{ConsumeOptions, Order, RetryMode, Scope};

/// A bound by count and by bytes. It is reached when either is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Number of messages.
    pub messages: usize,
    /// Sum of [`Held::size`](super::Held::size).
    pub bytes: usize,
}

impl Bound {
    /// True if so much is the bound or more (high water).
    #[must_use]
    pub fn is_reached(self, messages: usize, bytes: usize) -> bool {
        messages >= self.messages || bytes >= self.bytes
    }

    /// True if so much is half of the bound or more (low water).
    #[must_use]
    pub fn is_half_reached(self, messages: usize, bytes: usize) -> bool {
        messages >= self.messages / 2 || bytes >= self.bytes / 2
    }
}

/// How an outlet behaves.
#[derive(Clone, Debug)]
pub struct OutletOptions {
    /// Names the consumer in errors, health and log.
    pub scope: Scope,
    /// The most deliveries that are out at once, at least 1.
    pub prefetch: usize,
    /// With [`Order::ByKey`] one message of a key is out at a time.
    pub order: Order,
    /// With [`RetryMode::Hold`] each retry that waits here uses a place of the prefetch. With [`RetryMode::Requeue`] only when as
    /// many wait as may be read ahead.
    pub retry_mode: RetryMode,
    /// High water of what was read and is not handed out yet; low water is half of it. 10,000 messages and 32 MiB by default.
    pub read_ahead: Bound,
    /// High water of what was read before it is due; low water is half of it. Counted apart, so that messages due in an hour do not
    /// hold up those due now. 100,000 messages and 64 MiB by default.
    pub delayed: Bound,
    /// How long health stays degraded after the connection is back; zero by default. See
    /// [`Trouble::with_linger`](crate::Trouble::with_linger).
    pub trouble_linger: Duration,
}

impl OutletOptions {
    /// Takes prefetch, order and retry mode from what the application asked for, and the defaults for the rest.
    #[must_use]
    pub fn new(scope: Scope, options: &ConsumeOptions) -> Self {
        Self {
            scope,
            prefetch: options.prefetch.max(1),
            order: options.order,
            retry_mode: options.retry_mode,
            read_ahead: Bound { messages: 10_000, bytes: 32 * 1024 * 1024 },
            delayed: Bound { messages: 100_000, bytes: 64 * 1024 * 1024 },
            trouble_linger: Duration::ZERO,
        }
    }

    /// Sets the bound of what is read ahead.
    #[must_use]
    pub fn with_read_ahead(mut self, bound: Bound) -> Self {
        self.read_ahead = bound;
        self
    }

    /// Sets the bound of what is read before it is due.
    #[must_use]
    pub fn with_delayed(mut self, bound: Bound) -> Self {
        self.delayed = bound;
        self
    }

    /// Sets the retry mode, where the adapter holds retries whatever the application asked for.
    #[must_use]
    pub fn with_retry_mode(mut self, mode: RetryMode) -> Self {
        self.retry_mode = mode;
        self
    }

    /// Sets how long health stays degraded after the connection is back.
    #[must_use]
    pub fn with_trouble_linger(mut self, linger: Duration) -> Self {
        self.trouble_linger = linger;
        self
    }
}

/// How much an outlet holds at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Buffered {
    /// Messages that were read and are not handed out: ready, or behind another of their key.
    pub messages: usize,
    /// Their size in bytes.
    pub bytes: usize,
    /// Of them, those that go before all others.
    pub first: usize,
    /// Places of the prefetch that retries use while they wait here.
    pub held: usize,
    /// Messages that were read before they are due.
    pub delayed: usize,
    /// Their size in bytes.
    pub delayed_bytes: usize,
    pub(super) delayed_bound: Bound,
}

impl Buffered {
    /// True while the feeder may read no more of where delayed messages are: from high water on, and, if it was full before, down to low water.
    #[must_use]
    pub fn is_full_of_delayed(&self, was_full: bool) -> bool {
        if was_full {
            self.delayed_bound.is_half_reached(self.delayed, self.delayed_bytes)
        } else {
            self.delayed_bound.is_reached(self.delayed, self.delayed_bytes)
        }
    }
}
