//! Requirements of a binding or listener, checked against capabilities before a message moves.

use std::fmt;
use std::time::Duration;

use super::{Attempts, Capabilities, Feature, Readiness, Support};
use crate::consume::{ConsumeOptions, Durability, Order, RetryMode, Start, SubscribeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::publisher::{NoSubscriber, PublishOptions};

/// One thing that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A feature.
    Feature(Feature),
    /// Attempts counted at least so exactly.
    Attempts(Attempts),
    /// Subscriptions that miss nothing from when `subscribe` returned.
    Ready,
    /// A retry that can be delayed so long.
    RetryDelay(Duration),
    /// A prefetch of so many.
    Prefetch(usize),
    /// A lease that can be kept for so long.
    Lease(Duration),
}

impl Need {
    /// The reason for which the need is not met; none if it is.
    #[must_use]
    pub fn unmet(&self, by: &Capabilities) -> Option<String> {
        match self {
            Self::Feature(feature) => match by.support(*feature) {
                Support::Unsupported(why) => Some(format!("{feature}: {why}")),
                _ => None,
            },
            Self::Attempts(least) => (by.attempts < *least)
                .then(|| format!("attempts: needs {least:?}, the broker counts {:?}", by.attempts)),
            Self::Ready => match by.readiness {
                Readiness::Immediate => None,
                Readiness::Eventual(max) => {
                    Some(format!("ready: a new subscription may miss what is published within {max:?}"))
                }
            },
            Self::RetryDelay(delay) => by.check_retry(*delay).err().map(|error| error.text().to_owned()),
            Self::Prefetch(prefetch) => (*prefetch > by.limits.prefetch)
                .then(|| format!("prefetch: {prefetch} is over the broker's limit of {}", by.limits.prefetch)),
            Self::Lease(lease) => (by.supports(Feature::Lease) && *lease > by.limits.lease)
                .then(|| format!("lease: {lease:?} is over the broker's limit of {:?}", by.limits.lease)),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feature(feature) => write!(f, "{feature}"),
            Self::Attempts(least) => write!(f, "attempts ({least:?})"),
            Self::Ready => f.write_str("ready"),
            Self::RetryDelay(delay) => write!(f, "retry delay of {delay:?}"),
            Self::Prefetch(prefetch) => write!(f, "prefetch of {prefetch}"),
            Self::Lease(lease) => write!(f, "lease of {lease:?}"),
        }
    }
}

/// Everything that is needed of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements(Vec<Need>);

impl Requirements {
    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds a need; one that is there already is not added twice.
    #[must_use]
    pub fn with(mut self, need: impl Into<Need>) -> Self {
        let need = need.into();
        if !self.0.contains(&need) {
            self.0.push(need);
        }
        self
    }

    /// Adds all needs of another.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        other.iter().cloned().fold(self, Self::with)
    }

    /// The needs, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Need> {
        self.0.iter()
    }

    /// Requirements of a publisher's options.
    #[must_use]
    pub fn of_publish(options: &PublishOptions) -> Self {
        let PublishOptions { in_flight: _, in_flight_bytes: _, timeout: _, no_subscriber } = options;
        match no_subscriber {
            NoSubscriber::Accept => Self::none(),
            NoSubscriber::Refuse => Self::none().with(Feature::RequireSubscriber),
        }
    }

    /// Requirements of a consumer's options, those listed in them included.
    #[must_use]
    pub fn of_consume(options: &ConsumeOptions) -> Self {
        let ConsumeOptions { prefetch, order, retry_mode, lease, requires } = options;
        let mut needs = Self::none();
        if *order == Order::ByKey {
            needs = needs.with(Feature::KeyOrder);
        }
        if *retry_mode == RetryMode::Hold {
            needs = needs.with(Feature::Hold);
        }
        needs.with(Need::Prefetch(*prefetch)).with(Need::Lease(lease.max)).and(requires)
    }

    /// Requirements of a subscription's options.
    #[must_use]
    pub fn of_subscribe(options: &SubscribeOptions) -> Self {
        let SubscribeOptions { durability, start, filter, consume } = options;
        let mut needs = Self::none().with(match durability {
            Durability::Durable(_) => Feature::DurableSubscription,
            Durability::Ephemeral => Feature::EphemeralSubscription,
        });
        if *start != Start::New {
            needs = needs.with(Feature::Replay);
        }
        if matches!(start, Start::Offset(_)) {
            // Brokers with positions of more than 64 bits replay by time and not by offset.
            needs = needs.with(Feature::Positions);
        }
        if filter.is_some() {
            needs = needs.with(Feature::SubjectFilter);
        }
        needs.and(&Self::of_consume(consume))
    }

    /// The reason for each need that is not met, in order.
    #[must_use]
    pub fn unmet(&self, by: &Capabilities) -> Vec<String> {
        self.0.iter().filter_map(|need| need.unmet(by)).collect()
    }

    /// Passes if all needs are met.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] that lists every unmet need.
    pub fn check(&self, by: &Capabilities) -> Result<()> {
        let unmet = self.unmet(by);
        if unmet.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, unmet.join("; ")))
    }
}

impl From<Feature> for Need {
    fn from(feature: Feature) -> Self {
        Self::Feature(feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::SubjectFilter;

    #[test]
    fn all_unmet_needs_are_named_at_once() {
        let options = SubscribeOptions::ephemeral()
            .with_filter(SubjectFilter::parse("a.*").unwrap())
            .with_consume(ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold));
        let error = Requirements::of_subscribe(&options).check(&Capabilities::none()).unwrap_err();
        for feature in ["ephemeral_subscription", "subject_filter", "key_order", "hold"] {
            assert!(error.text().contains(feature), "{error}");
        }
    }
}
