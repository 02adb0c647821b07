//! Every broker's own client behind the few verbs that readiness and fault tests need.
//!
//! This is no abstraction to build on: it creates one destination, puts a text there until the broker has confirmed, and
//! takes it out again. It exists so that a broker counts as ready only when a message went through, and so that a
//! fault's effect is seen by a client that knows nothing of the adapters.

#[cfg(feature = "activemq")]
mod activemq;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
#[cfg(all(feature = "kafka", feature = "conformance"))]
pub(crate) mod kafka_groups;
mod location;
#[cfg(feature = "rabbitmq")]
pub(crate) mod rabbitmq;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqs")]
mod sqs;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

pub use location::Location;

use crate::{Error, Kind, Result};

const ROUND_TRIP: Duration = Duration::from_secs(20);

/// A connected raw client. No call has a time limit of its own: wrap each that may meet a fault.
#[async_trait]
pub trait RawClient: Debug + Send + Sync {
    /// Creates a destination whose messages survive what the broker can survive, and returns once it can be used:
    /// a durable queue, a topic of one partition (with as many copies as the cluster has), a stream with a group.
    async fn create(&mut self, name: &str) -> Result<()>;

    /// Sends a text and returns once the broker has confirmed it.
    async fn put(&mut self, name: &str, text: &str) -> Result<()>;

    /// Waits for one message, settles it and returns its text.
    async fn take(&mut self, name: &str) -> Result<String>;

    /// Removes the destination.
    async fn remove(&mut self, name: &str) -> Result<()>;
}

/// Connects the raw client of this kind. `trust` is the file with the certificate authority for an encrypted door.
///
/// # Errors
/// If there is nobody, the login is refused or the certificate is not trusted; [`Unsupported`](crate::ErrorKind::Unsupported)
/// if this build has no client of the kind. Some clients connect with the first call only, and fail then.
pub async fn connect(kind: Kind, url: &str, trust: Option<&Path>) -> Result<Box<dyn RawClient>> {
    let at = Location::parse(url, trust)?;
    match kind {
        #[cfg(feature = "rabbitmq")]
        Kind::RabbitMq => Ok(Box::new(rabbitmq::Client::connect(&at).await?)),
        #[cfg(feature = "kafka")]
        Kind::Kafka => Ok(Box::new(kafka::Client::connect(&at)?)),
        #[cfg(feature = "redis")]
        Kind::Redis | Kind::Valkey => Ok(Box::new(redis::Client::connect(&at).await?)),
        #[cfg(feature = "sqs")]
        Kind::Sqs | Kind::ElasticMq => Ok(Box::new(sqs::Client::connect(&at)?)),
        #[cfg(feature = "activemq")]
        Kind::ActiveMq => Ok(Box::new(activemq::Client::connect(&at).await?)),
        #[allow(unreachable_patterns, reason = "reached when a client is left out of the build")]
        _ => Err(Error::unsupported(format!(
            "this build has no client for the {kind} at {}: enable its feature of integration-tests",
            at.hosts()
        ))),
    }
}

/// Sends one message of its own through the broker at `url` and takes it out again.
///
/// # Errors
/// If any step fails, or all take longer than 20 s.
pub async fn round_trip(kind: Kind, url: &str) -> Result<()> {
    let name = fresh_name("ready");
    let trip = async {
        let mut client = connect(kind, url, None).await?;
        client.create(&name).await?;
        client.put(&name, &name).await?;
        let taken = client.take(&name).await?;
        client.remove(&name).await?;
        if taken == name {
            Ok(())
        } else {
            Err(Error::failed(format!("{kind} gave back another message than was sent to a queue of our own")))
        }
    };
    let slow = |_| Error::new(crate::ErrorKind::TimedOut, format!("no round trip through {kind} in {ROUND_TRIP:?}"));
    tokio::time::timeout(ROUND_TRIP, trip).await.map_err(slow)?
}

/// A name that no other test, run or machine uses.
pub fn fresh_name(prefix: &str) -> String {
    format!("{prefix}-{:016x}", rand::random::<u64>())
}
