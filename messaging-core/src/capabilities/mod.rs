//! Capabilities of an opened broker, for a destination with certain options. Data, not prose.
//!
//! Two rules hold and are tested on every broker: what is declared happens, and what is not declared is refused with
//! [`ErrorKind::Unsupported`] before any I/O of that call.

mod feature;
mod limits;
mod requirements;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub use self::feature::Feature;
pub use self::limits::Limits;
pub use self::requirements::{Need, Requirements};
use crate::consume::{ConsumeOptions, SubscribeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Destination, QueueName, TopicName};
use crate::publisher::PublishOptions;

/// Support of a feature by a broker. Exhaustive on purpose: there is no fourth answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// By the broker's own means.
    Native,
    /// By the adapter's means; the text says how.
    Emulated(Cow<'static, str>),
    /// Not at all; the text says why and, where one exists, what would help.
    Unsupported(Cow<'static, str>),
}

impl Support {
    /// True if the feature can be used, natively or emulated.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        !matches!(self, Self::Unsupported(_))
    }
}

/// Exactness of [`Delivery::attempt`](crate::Delivery::attempt). Ordered from the weakest; exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attempts {
    /// Only first or not first: 1 or 2.
    FlagOnly,
    /// A lower bound after a crash, exact otherwise.
    AtLeast,
    /// Always exact.
    Exact,
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FlagOnly => "flag only",
            Self::AtLeast => "at least",
            Self::Exact => "exact",
        })
    }
}

/// Moment at which the broker knows of a settlement. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementTiming {
    /// When the settlement's outcome is there.
    Confirmed,
    /// It stands in the connection's write queue, in order; the broker says nothing back, and `flush` is the barrier.
    Sent,
    /// At most so much later, or at the next flush.
    Deferred(Duration),
}

/// Way in which the settlement of a delivery that has moved on is recognised. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleDetection {
    /// Always.
    Exact,
    /// By this host's clock, against the lease.
    ClientClock,
    /// When it is noticed: at the latest at the next flush or commit, not always at the settlement.
    AtCommit,
}

/// Moment from which a new subscription misses nothing. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// From when `subscribe` returned.
    Immediate,
    /// At most so much later.
    Eventual(Duration),
}

/// The end of an expired message. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It is gone.
    Discarded,
    /// It goes to the source's dead letter.
    DeadLettered,
}

/// The side that filters by subject. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// The broker: nothing else is sent.
    Broker,
    /// The consumer: everything is sent.
    Client,
    /// The broker coarsely, the consumer the rest.
    Coarse,
}

/// The effect of browsing on the messages that are looked at. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browsing {
    /// Nothing.
    Clean,
    /// It counts as a delivery, or hides them for a moment.
    Disturbing,
}

/// Position of a message after a retry without delay. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPlace {
    /// Before those that wait.
    Head,
    /// Behind those that wait.
    Tail,
    /// Anywhere.
    Unspecified,
}

/// Messages that the broker recognises as duplicates when they are published again with the same id. Exhaustive on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishDedup {
    /// None.
    None,
    /// Those within so long of the first.
    Window(Duration),
}

/// Features and limits of an opened broker for one [`Place`].
#[derive(Clone, PartialEq)]
pub struct Capabilities {
    support: [Support; Feature::ALL.len()],
    /// Exactness of attempt counts.
    pub attempts: Attempts,
    /// Moment at which the broker knows of a settlement.
    pub settlement: SettlementTiming,
    /// Way in which a stale settlement is recognised.
    pub stale: StaleDetection,
    /// Moment from which a new subscription misses nothing.
    pub readiness: Readiness,
    /// The end of an expired message.
    pub expired: Expired,
    /// The side that filters by subject.
    pub filtering: Filtering,
    /// The effect of browsing on the messages that are looked at.
    pub browsing: Browsing,
    /// Position of a message after a retry without delay.
    pub retry_place: RetryPlace,
    /// Messages that are recognised as duplicates.
    pub dedup: PublishDedup,
    /// The numbers.
    pub limits: Limits,
}

impl Capabilities {
    /// Nothing is supported; adapters begin here and declare what they prove.
    #[must_use]
    pub fn none() -> Self {
        Self {
            support: std::array::from_fn(|_| Support::Unsupported(Cow::Borrowed("this adapter does not offer it"))),
            attempts: Attempts::FlagOnly,
            settlement: SettlementTiming::Sent,
            stale: StaleDetection::AtCommit,
            readiness: Readiness::Immediate,
            expired: Expired::Discarded,
            filtering: Filtering::Client,
            browsing: Browsing::Disturbing,
            retry_place: RetryPlace::Unspecified,
            dedup: PublishDedup::None,
            limits: Limits::default(),
        }
    }

    /// Declares features the broker has itself.
    #[must_use]
    pub fn with_native(mut self, features: impl IntoIterator<Item = Feature>) -> Self {
        for feature in features {
            self.support[feature as usize] = Support::Native;
        }
        self
    }

    /// Declares a feature that the adapter makes up for, and how.
    #[must_use]
    pub fn with_emulated(mut self, feature: Feature, how: impl Into<Cow<'static, str>>) -> Self {
        self.support[feature as usize] = Support::Emulated(how.into());
        self
    }

    /// Declares that a feature cannot be had, why, and what would help.
    #[must_use]
    pub fn without(mut self, feature: Feature, why: impl Into<Cow<'static, str>>) -> Self {
        self.support[feature as usize] = Support::Unsupported(why.into());
        self
    }

    /// Support of a feature.
    #[must_use]
    pub fn support(&self, feature: Feature) -> &Support {
        &self.support[feature as usize]
    }

    /// True if a feature can be used, natively or emulated.
    #[must_use]
    pub fn supports(&self, feature: Feature) -> bool {
        self.support(feature).is_supported()
    }

    /// Passes if the feature can be used.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the reason otherwise.
    pub fn check(&self, feature: Feature) -> Result<()> {
        match self.support(feature) {
            Support::Unsupported(why) => Err(unsupported(feature, why)),
            _ => Ok(()),
        }
    }

    /// Passes if a retry may be delayed by `after`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without delayed retries or past their limit.
    pub fn check_retry(&self, after: Duration) -> Result<()> {
        if after.is_zero() {
            return Ok(());
        }
        self.check(Feature::DelayedRetry)?;
        within("a retry delay", after, self.limits.retry_delay)
    }

    /// The longest delay a retry may have; zero where retries cannot be delayed.
    #[must_use]
    pub fn longest_retry(&self) -> Duration {
        if self.supports(Feature::DelayedRetry) { self.limits.retry_delay } else { Duration::ZERO }
    }
}

#[cold]
pub(crate) fn unsupported(feature: Feature, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{feature}: {why}"))
}

/// Passes if `given` is within the declared `limit`.
pub(crate) fn within(what: &str, given: Duration, limit: Duration) -> Result<()> {
    if given <= limit {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, format!("{what} of {given:?} is over the broker's limit of {limit:?}")))
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for feature in Feature::ALL {
            map.entry(&feature.name(), self.support(feature));
        }
        map.entry(&"limits", &self.limits).finish()
    }
}

/// The place on a broker that capabilities are asked about: the broker itself, or a destination with the options it would be
/// opened with. Exhaustive on purpose: an adapter has to answer for each.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The broker itself, for features that belong to no destination: requests with replies, and transactions.
    Broker,
    /// A destination, to publish to.
    Publish(&'a Destination, &'a PublishOptions),
    /// A queue, to consume.
    Consume(&'a QueueName, &'a ConsumeOptions),
    /// A topic, to subscribe to.
    Subscribe(&'a TopicName, &'a SubscribeOptions),
}

impl Place<'_> {
    /// The destination of the place; none for the broker itself.
    #[must_use]
    pub fn destination(&self) -> Option<Destination> {
        match self {
            Self::Broker => None,
            Self::Publish(destination, _) => Some((*destination).clone()),
            Self::Consume(queue, _) => Some(Destination::Queue((*queue).clone())),
            Self::Subscribe(topic, _) => Some(Destination::Topic((*topic).clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undeclared_is_refused_with_its_reason() {
        let capabilities = Capabilities::none()
            .with_native([Feature::Queue])
            .without(Feature::Priority, "the log has one order; use a queue per priority");
        assert!(capabilities.check(Feature::Queue).is_ok());
        let error = capabilities.check(Feature::Priority).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.text().contains("use a queue per priority"), "{error}");
        assert!(capabilities.check_retry(Duration::ZERO).is_ok());
        assert_eq!(capabilities.longest_retry(), Duration::ZERO);
    }
}
