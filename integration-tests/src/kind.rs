//! Which servers there are, and what the environment calls them.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A server this crate can provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// RabbitMQ, with its management API.
    RabbitMq,
    /// Apache Kafka in KRaft mode.
    Kafka,
    /// Redis, append-only file on.
    Redis,
    /// Valkey, which speaks Redis' protocol.
    Valkey,
    /// SQS and SNS as emulated by LocalStack. An emulator: label results so.
    Sqs,
    /// SQS as emulated by ElasticMQ: exact in time and durable, but without SNS. An emulator: label results so.
    ElasticMq,
    /// ActiveMQ Artemis, spoken to in AMQP 1.0.
    ActiveMq,
}

impl Kind {
    /// Every kind.
    pub const ALL_KINDS: [Self; 7] =
        [Self::RabbitMq, Self::Kafka, Self::Redis, Self::Valkey, Self::Sqs, Self::ElasticMq, Self::ActiveMq];

    /// One server for each adapter: [`Self::ALL_KINDS`] without the second opinions.
    pub const MAIN_KINDS: [Self; 5] = [Self::RabbitMq, Self::Kafka, Self::Redis, Self::Sqs, Self::ActiveMq];

    /// The name on a command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Sqs => "sqs",
            Self::ElasticMq => "elasticmq",
            Self::ActiveMq => "activemq",
        }
    }

    /// The environment variable that holds the address of one that is already running.
    pub fn variable(self) -> &'static str {
        match self {
            Self::RabbitMq => "MESSAGING_RABBITMQ_URL",
            Self::Kafka => "MESSAGING_KAFKA_URL",
            Self::Redis => "MESSAGING_REDIS_URL",
            Self::Valkey => "MESSAGING_VALKEY_URL",
            Self::Sqs => "MESSAGING_SQS_URL",
            Self::ElasticMq => "MESSAGING_ELASTICMQ_URL",
            Self::ActiveMq => "MESSAGING_ACTIVEMQ_URL",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL_KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL_KINDS.iter().map(|kind| kind.name()).collect();
            Error::unsupported(format!("no broker is called {name:?}: choose from {}", known.join(", ")))
        })
    }
}
