//! The scope of an event: the broker and the destination, for the context of every error.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::name::BrokerName;

/// A broker and one of its places. Cheap to clone.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    broker: BrokerName,
    driver: &'static str,
    place: String,
}

impl Scope {
    /// Names a place, such as a [`Destination`](crate::Destination) or [`Source`](crate::Source), on a broker.
    #[must_use]
    pub fn new(broker: BrokerName, driver: &'static str, place: impl fmt::Display) -> Self {
        Self(Arc::new(Inner { broker, driver, place: place.to_string() }))
    }

    /// The broker's name in the configuration.
    #[must_use]
    pub fn broker(&self) -> &BrokerName {
        &self.0.broker
    }

    /// The driver's name, such as `memory`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.0.driver
    }

    /// The place in words.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Adds this place to an error that names none yet.
    #[must_use]
    #[cold]
    pub fn explain(&self, error: Error) -> Error {
        error
            .with_context("at", &self.0.place)
            .with_context("broker", format_args!("{:?}", self.0.broker.as_str()))
            .with_context("driver", self.0.driver)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.0.place, self.0.broker)
    }
}
