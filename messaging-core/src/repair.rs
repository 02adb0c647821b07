//! Repairing: sending back, emptying and ending what is on a broker.

use async_trait::async_trait;

use crate::capabilities::Feature;
use crate::error::Result;
use crate::message::MessageId;
use crate::name::{Source, SubscriptionName, TopicName};
use crate::undeclared::undeclared;

/// Selection of dead letters to redrive. Exhaustive on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redrive {
    /// All there are now.
    All,
    /// The first so many.
    First(usize),
    /// Those of these ids.
    Ids(Vec<MessageId>),
}

/// A part of a source. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What waits to be delivered.
    Live,
    /// The dead letter.
    Dead,
}

/// Changes what waits at a broker, for an operator. Every call is cold.
///
/// Each method is optional: an adapter implements those whose feature it declares, and inherits a refusal for the others.
#[async_trait]
pub trait Repair: Send + Sync {
    /// Sends dead letters back to where they failed, and there alone; their attempts begin afresh. Returns how many.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Redrive`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        let _ = (source, which);
        Err(undeclared(Feature::Redrive))
    }

    /// Deletes what waits, or the dead letters. What is unsettled stays. Returns how many, where the broker reports it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Purge`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        let _ = (source, part);
        Err(undeclared(Feature::Purge))
    }

    /// Ends a durable subscription; what waited for it, its dead letters too, is deleted.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::DurableSubscription`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        let _ = (topic, name);
        Err(undeclared(Feature::DurableSubscription))
    }
}
