//! The runtime for listeners.

mod policy;

pub use self::policy::{AckMode, DeadLetterPolicy};
