//! Words in which a listener says what becomes of its deliveries.

/// What becomes of a delivery whose last attempt failed, or that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeadLetterPolicy {
    /// It is kept in the dead letter of its source.
    #[default]
    Keep,
    /// It is acknowledged, counted as discarded and gone.
    Discard,
}

/// Who settles a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AckMode {
    /// The runtime: acknowledged when the handler returned `Ok`, retried when it did not.
    #[default]
    OnSuccess,
    /// The handler, through the extractor `Settle`.
    Manual,
}
