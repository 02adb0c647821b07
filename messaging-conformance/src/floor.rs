//! The floor: what each broker has to offer at least, so that refusing everything does not pass.

use messaging_core::{Attempts, Capabilities, Feature, SettlementTiming};

use crate::Kind;
use crate::pins::{Level, level};

/// What one driver, with one option, has to offer at least.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// The driver's name.
    pub driver: &'static str,
    /// The option that changes its capabilities.
    pub option: &'static str,
    /// How exactly attempts are counted at least; none where nothing is settled.
    pub attempts: Option<Attempts>,
    /// When the broker knows of a settlement at the latest; none where nothing is settled.
    pub settlement: Option<Timing>,
    /// On which kinds of places, which features, and how well.
    pub rows: &'static [(&'static [Kind], &'static [Feature], Level)],
}

/// When the broker knows of a settlement, from the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timing {
    /// Some time later, or at the next flush.
    Deferred,
    /// In order, without an answer.
    Sent,
    /// When the outcome is there.
    Confirmed,
}

use Feature as F;
use Level::{Emulated as E, Native as N};

const QUEUE: &[Kind] = &[Kind::Queue];
const DURABLE: &[Kind] = &[Kind::Durable];
const EPHEMERAL: &[Kind] = &[Kind::Ephemeral];
const SETTLED: &[Kind] = &[Kind::Queue, Kind::Durable];
const BROKER: &[Kind] = &[Kind::Broker];

const SHARED: &[Feature] = &[F::Topic, F::DurableSubscription, F::SharedSubscription];
const ORDER: &[Feature] = &[F::KeyOrder, F::Hold];
const DEAD: &[Feature] = &[F::DeadLetter, F::Redrive];

/// The floors of the brokers the contract speaks of.
pub const FLOORS: &[Floor] = &[
    Floor {
        driver: "rabbitmq",
        option: "quorum",
        attempts: Some(Attempts::Exact),
        settlement: Some(Timing::Sent),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (EPHEMERAL, &[F::EphemeralSubscription], N),
            (SETTLED, ORDER, E),
            (SETTLED, &[F::DelayedRetry, F::DelayedPublish], E),
            (SETTLED, &[F::Ttl, F::Priority], N),
            (DURABLE, &[F::SubjectFilter], N),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse, F::Purge, F::SurvivesRestart], N),
        ],
    },
    // The contract speaks of quorum queues; of classic ones the adapter claims this, and must not claim less.
    Floor {
        driver: "rabbitmq",
        option: "classic",
        attempts: Some(Attempts::AtLeast),
        settlement: Some(Timing::Sent),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (EPHEMERAL, &[F::EphemeralSubscription], N),
            (SETTLED, &[F::DelayedRetry, F::DelayedPublish], E),
            (SETTLED, &[F::Ttl], N),
            (DURABLE, &[F::SubjectFilter], N),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse, F::Purge, F::SurvivesRestart], N),
        ],
    },
    Floor {
        driver: "kafka",
        option: "",
        attempts: Some(Attempts::AtLeast),
        settlement: Some(Timing::Deferred),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (EPHEMERAL, &[F::EphemeralSubscription], E),
            (SETTLED, ORDER, N),
            (SETTLED, &[F::DelayedRetry, F::DelayedPublish, F::Ttl], E),
            (DURABLE, &[F::Replay], N),
            (DURABLE, &[F::SubjectFilter], E),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse, F::Purge, F::SurvivesRestart], N),
        ],
    },
    Floor {
        driver: "redis",
        option: "stream",
        attempts: Some(Attempts::Exact),
        settlement: Some(Timing::Confirmed),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (EPHEMERAL, &[F::EphemeralSubscription], E),
            (SETTLED, ORDER, E),
            (SETTLED, &[F::DelayedRetry, F::DelayedPublish, F::Ttl], E),
            (DURABLE, &[F::Replay], N),
            (DURABLE, &[F::SubjectFilter], E),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse], N),
        ],
    },
    Floor {
        driver: "redis",
        option: "pubsub",
        attempts: None,
        settlement: None,
        rows: &[
            (EPHEMERAL, &[F::Topic, F::EphemeralSubscription, F::SubjectFilter], N),
            (BROKER, &[F::RequestReply], E),
        ],
    },
    Floor {
        driver: "sqs",
        option: "standard",
        attempts: Some(Attempts::AtLeast),
        settlement: Some(Timing::Confirmed),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (SETTLED, &[F::DelayedRetry], N),
            (QUEUE, &[F::DelayedPublish], N),
            (SETTLED, &[F::Ttl], E),
            (DURABLE, &[F::SubjectFilter], E),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse, F::SurvivesRestart], N),
        ],
    },
    Floor {
        driver: "sqs",
        option: "fifo",
        attempts: Some(Attempts::AtLeast),
        settlement: Some(Timing::Confirmed),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (SETTLED, ORDER, N),
            (SETTLED, &[F::DelayedRetry], N),
            (SETTLED, &[F::Ttl], E),
            (DURABLE, &[F::SubjectFilter], E),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse, F::SurvivesRestart], N),
        ],
    },
    Floor {
        driver: "activemq",
        option: "artemis",
        attempts: Some(Attempts::AtLeast),
        settlement: Some(Timing::Sent),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (EPHEMERAL, &[F::EphemeralSubscription], N),
            (SETTLED, ORDER, N),
            (SETTLED, &[F::DelayedRetry, F::DelayedPublish, F::Ttl, F::Priority], N),
            (DURABLE, &[F::SubjectFilter], N),
            (SETTLED, DEAD, E),
            (BROKER, &[F::RequestReply], E),
            (SETTLED, &[F::Depth, F::Lag, F::Browse, F::SurvivesRestart], N),
        ],
    },
    Floor {
        driver: "memory",
        option: "",
        attempts: Some(Attempts::Exact),
        settlement: Some(Timing::Confirmed),
        rows: &[
            (QUEUE, &[F::Queue], N),
            (DURABLE, SHARED, N),
            (EPHEMERAL, &[F::EphemeralSubscription], N),
            (SETTLED, ORDER, N),
            (SETTLED, &[F::DelayedRetry, F::DelayedPublish, F::Ttl, F::Priority], N),
            (DURABLE, &[F::Replay, F::SubjectFilter], N),
            (SETTLED, DEAD, N),
            (BROKER, &[F::RequestReply], N),
            (SETTLED, &[F::Depth, F::Lag, F::Browse], N),
        ],
    },
];

impl Floor {
    /// The floor of a driver with an option, if the contract sets one.
    #[must_use]
    pub fn of(driver: &str, option: &str) -> Option<&'static Self> {
        FLOORS.iter().find(|floor| floor.driver == driver && floor.option == option)
    }

    /// Whether the contract knows the driver, with this or another option.
    #[must_use]
    pub fn knows(driver: &str) -> bool {
        FLOORS.iter().any(|floor| floor.driver == driver)
    }

    /// In what a broker offers less; `answer` gives its capabilities for a kind of place, laid out for key order or not.
    #[must_use]
    pub fn shortfalls(&self, answer: impl Fn(Kind, bool) -> Capabilities) -> Vec<String> {
        let mut short = Vec::new();
        for (kinds, features, least) in self.rows {
            for kind in *kinds {
                for feature in *features {
                    let capabilities = answer(*kind, matches!(feature, F::KeyOrder | F::Hold));
                    let (is, _) = level(capabilities.support(*feature));
                    if is < *least {
                        short.push(format!("{feature} on a {} is {is:?}, the floor is {least:?}", kind.name()));
                    }
                }
            }
        }
        let settled = answer(Kind::Queue, false);
        if let Some(least) = self.attempts
            && settled.attempts < least
        {
            short.push(format!("attempts are counted {:?}, the floor is {least:?}", settled.attempts));
        }
        let timing = match settled.settlement {
            SettlementTiming::Confirmed => Timing::Confirmed,
            SettlementTiming::Sent => Timing::Sent,
            SettlementTiming::Deferred(_) => Timing::Deferred,
        };
        if let Some(least) = self.settlement
            && timing < least
        {
            short.push(format!("settlements are {timing:?}, the floor is {least:?}"));
        }
        short
    }
}
