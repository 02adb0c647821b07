//! The drivers of this build.

use std::sync::Arc;

use messaging_core::{Broker, BrokerUrl, ConnectOptions, Driver, Error, ErrorKind, Registry, Result};

/// The drivers that the cargo features bring.
const BUILT_DRIVERS: &[Driver] = &[
    #[cfg(feature = "memory")]
    adapter_memory::DRIVER,
    #[cfg(feature = "kafka")]
    adapter_kafka::DRIVER,
    #[cfg(feature = "rabbitmq")]
    adapter_rabbitmq::DRIVER,
];

/// Schemes that no driver of this build serves, and the next step for each.
const ABSENT_SCHEMES: &[(&str, &str)] = &[
    #[cfg(not(feature = "memory"))]
    ("memory", "enable the feature \"memory\" of the crate \"messaging\""),
    #[cfg(not(feature = "rabbitmq"))]
    ("amqp", "enable the feature \"rabbitmq\" of the crate \"messaging\""),
    #[cfg(not(feature = "rabbitmq"))]
    ("amqps", "enable the feature \"rabbitmq\" of the crate \"messaging\""),
    #[cfg(feature = "rabbitmq")]
    ("rabbit", "the scheme of RabbitMQ is amqp://, or amqps:// with TLS"),
    #[cfg(feature = "rabbitmq")]
    ("rabbitmq", "the scheme of RabbitMQ is amqp://, or amqps:// with TLS"),
    #[cfg(not(feature = "rabbitmq"))]
    (
        "rabbit",
        "the scheme of RabbitMQ is amqp://, or amqps:// with TLS; enable the feature \"rabbitmq\" of the crate \"messaging\"",
    ),
    #[cfg(not(feature = "rabbitmq"))]
    (
        "rabbitmq",
        "the scheme of RabbitMQ is amqp://, or amqps:// with TLS; enable the feature \"rabbitmq\" of the crate \"messaging\"",
    ),
    #[cfg(not(feature = "kafka"))]
    ("kafka", "enable the feature \"kafka\" of the crate \"messaging\""),
    #[cfg(not(feature = "kafka"))]
    ("kafkas", "enable the feature \"kafka\" of the crate \"messaging\""),
    ("redis", "there is no adapter for Redis in this version yet"),
    ("rediss", "there is no adapter for Redis in this version yet"),
    ("sqs", "there is no adapter for Amazon SQS in this version yet"),
    ("activemq", "there is no adapter for ActiveMQ in this version yet"),
];

/// The drivers that this build has by its cargo features.
///
/// Asked for the scheme of a broker that is not among them, the registry says how to get it.
#[must_use]
#[expect(clippy::expect_used, reason = "the drivers are constants, and a test registers them")]
pub fn drivers() -> Registry {
    let present = BUILT_DRIVERS
        .iter()
        .try_fold(Registry::new(), |registry, driver| registry.with(*driver))
        .expect("no two adapters share a name or a scheme");
    ABSENT_SCHEMES.iter().fold(present, |registry, (scheme, how)| registry.with_absent(scheme, how))
}

/// Opens a broker by its address, with the drivers of this build and no further configuration.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> messaging::Result<()> {
/// # #[cfg(feature = "memory")]
/// # {
/// use messaging::{Broker, Destination, Message, PublishOptions, PublisherExt};
///
/// let broker = messaging::connect("memory://").await?;
/// let publisher = broker.publisher(&Destination::queue("orders")?, PublishOptions::default()).await?;
/// publisher.publish(Message::new("hello")).await?;
/// # }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](messaging_core::ErrorKind::Config) if the address is not valid or no driver serves its scheme;
/// otherwise what the driver says, such as [`ErrorKind::Unreachable`](messaging_core::ErrorKind::Unreachable).
pub async fn connect(url: &str) -> Result<Arc<dyn Broker>> {
    drivers().connect(ConnectOptions::new(address(url)?)).await
}

/// The address of a broker. Where it has no scheme, the error lists those of this build; it never repeats the address, which
/// may hold a password.
pub(crate) fn address(text: &str) -> Result<BrokerUrl> {
    if text.contains("://") {
        return BrokerUrl::parse(text);
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "the broker's url is not valid: it has no scheme, which chooses the adapter: write SCHEME:// before the host (this build has {})",
            drivers().schemes()
        ),
    ))
}
