//! The drivers of this build.

use std::sync::Arc;

use messaging_core::{Broker, BrokerUrl, ConnectOptions, Registry, Result};

/// Schemes of brokers for which there is no adapter yet, and what to say when one is asked for.
const ABSENT: [(&str, &str); 7] = [
    ("amqp", "there is no adapter for RabbitMQ in this version yet"),
    ("amqps", "there is no adapter for RabbitMQ in this version yet"),
    ("kafka", "there is no adapter for Kafka in this version yet"),
    ("redis", "there is no adapter for Redis in this version yet"),
    ("rediss", "there is no adapter for Redis in this version yet"),
    ("sqs", "there is no adapter for Amazon SQS in this version yet"),
    ("activemq", "there is no adapter for ActiveMQ in this version yet"),
];

/// The drivers that this build has by its cargo features.
///
/// Asked for the scheme of a broker that is not among them, the registry says how to get it.
#[must_use]
pub fn drivers() -> Registry {
    ABSENT.into_iter().fold(Registry::new(), |registry, (scheme, how)| registry.with_absent(scheme, how))
}

/// Opens a broker by its address, with the drivers of this build and no further configuration.
///
/// # Errors
/// [`ErrorKind::Config`](messaging_core::ErrorKind::Config) if the address is not valid or no driver serves its scheme; otherwise
/// what the driver says, such as [`ErrorKind::Unreachable`](messaging_core::ErrorKind::Unreachable).
pub async fn connect(url: &str) -> Result<Arc<dyn Broker>> {
    drivers().connect(ConnectOptions::new(BrokerUrl::parse(url)?)).await
}
