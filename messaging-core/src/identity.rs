//! The identity of an opened broker: its names, and how it treats topology.

use std::fmt;

use crate::name::BrokerName;
use crate::scope::Scope;
use crate::topology::TopologyMode;

/// Name, driver and topology mode of an opened broker. An adapter gets it from
/// [`ConnectOptions::identity`](crate::ConnectOptions::identity) and keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: BrokerName,
    driver: &'static str,
    topology: TopologyMode,
}

impl Identity {
    /// Makes an identity from its parts.
    #[must_use]
    pub fn new(name: BrokerName, driver: &'static str, topology: TopologyMode) -> Self {
        Self { name, driver, topology }
    }

    /// The broker's name in the configuration.
    #[must_use]
    pub fn name(&self) -> &BrokerName {
        &self.name
    }

    /// The driver's name, such as `memory`.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// The topology mode that the broker was opened with.
    #[must_use]
    pub fn topology_mode(&self) -> TopologyMode {
        self.topology
    }

    /// The scope of a place on this broker, such as a [`Destination`](crate::Destination) or [`Source`](crate::Source), for the
    /// context of errors.
    #[must_use]
    pub fn scope(&self, place: impl fmt::Display) -> Scope {
        Scope::new(self.name.clone(), self.driver, place)
    }
}
