//! How much waits, and how much is enough.

/// How much is read ahead of the application.
const AHEAD: usize = 10_000;
pub(super) const AHEAD_BYTES: usize = 32 * 1024 * 1024;

/// How much is kept until it is due; behind it, later messages of the same partitions wait. It is counted apart: what is due in an
/// hour must not hold up what is to be handed out now.
const DELAYED: usize = 100_000;
pub(super) const DELAYED_BYTES: usize = 64 * 1024 * 1024;

/// Whether so much is as much as is read ahead.
pub(super) fn is_ahead(messages: usize, bytes: usize) -> bool {
    messages >= AHEAD || bytes >= AHEAD_BYTES
}

/// How much waits here.
#[derive(Clone, Copy, Debug)]
pub(in crate::consumer) struct Waiting {
    pub(in crate::consumer) messages: usize,
    /// How many of them go before all else.
    pub(in crate::consumer) first: usize,
    pub(super) bytes: usize,
    /// How much of the prefetch retries use that wait here.
    pub(in crate::consumer) held: usize,
    pub(super) delayed: usize,
    pub(super) delayed_bytes: usize,
}

impl Waiting {
    /// So much that nothing more is read.
    pub(in crate::consumer) fn is_enough(self) -> bool {
        is_ahead(self.messages, self.bytes)
    }

    /// Still so much that, after it was enough, nothing more is read.
    pub(in crate::consumer) fn is_still_enough(self) -> bool {
        self.messages >= AHEAD / 2 || self.bytes >= AHEAD_BYTES / 2
    }

    /// So much is not due that no more is read of where such messages are.
    pub(in crate::consumer) fn is_enough_delayed(self) -> bool {
        self.delayed >= DELAYED || self.delayed_bytes >= DELAYED_BYTES
    }

    /// Still so much, after it was enough.
    pub(in crate::consumer) fn is_still_enough_delayed(self) -> bool {
        self.delayed >= DELAYED / 2 || self.delayed_bytes >= DELAYED_BYTES / 2
    }
}
