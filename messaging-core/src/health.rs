//! Health, with its reasons.

use std::fmt;

/// State of a broker connection, worst last. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// All that was opened works.
    #[default]
    Up,
    /// Something that was opened does not work; the rest does.
    Degraded,
    /// Nothing works.
    Down,
}

/// The truth about a broker connection at this moment.
///
/// A live connection with a dead consumer is not healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// How well it is.
    pub state: HealthState,
    /// Why it is not up: what is affected and since when; empty when up. Never a credential.
    pub reasons: Vec<String>,
}

impl Health {
    /// All well.
    #[must_use]
    pub fn up() -> Self {
        Self::default()
    }

    /// Not well, and why.
    #[must_use]
    pub fn not_up(state: HealthState, reason: impl Into<String>) -> Self {
        Self { state, reasons: vec![reason.into()] }
    }

    /// The worse state of the two, and all reasons.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.state = self.state.max(other.state);
        self.reasons.extend(other.reasons);
        self
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            HealthState::Up => "up",
            HealthState::Degraded => "degraded",
            HealthState::Down => "down",
        };
        f.write_str(state)?;
        if self.reasons.is_empty() { Ok(()) } else { write!(f, ": {}", self.reasons.join("; ")) }
    }
}
