//! Names that parse at the edge, so that the inside has nothing to check.
//!
//! The grammar is the intersection of what every broker takes: `[a-z0-9]+([.-][a-z0-9]+)*`, at most 60 characters. `--`
//! cannot occur in a name and therefore joins them: `namespace--topic--subscription--dead` is never ambiguous.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result};
use crate::parsed_text::parsed_text;

/// The longest logical name, in characters.
pub const NAME_MAX: usize = 60;

/// Text between the parts of a full name.
pub const JOINT: &str = "--";

fn parse_name(what: &'static str, text: &str) -> Result<SmolStr> {
    let fault = if text.is_empty() {
        Some("it is empty".to_owned())
    } else if text.len() > NAME_MAX {
        Some(format!("it has {} characters, at most {NAME_MAX} are allowed", text.chars().count()))
    } else {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        bytes.iter().enumerate().find_map(|(index, byte)| {
            let separator = matches!(byte, b'.' | b'-')
                && index > 0
                && word(bytes[index - 1])
                && bytes.get(index + 1).copied().is_some_and(word);
            let shown = || text[index..].chars().next().unwrap_or('?');
            (!word(*byte) && !separator).then(|| format!("{:?} at position {} cannot stand there", shown(), index + 1))
        })
    };
    match fault {
        None => Ok(SmolStr::new(text)),
        Some(fault) => Err(Error::new(
            ErrorKind::InvalidName,
            format!(
                "{what} name {:?} is not valid: {fault}; use lower-case letters and digits, joined by single \".\" or \"-\"",
                shorten(text)
            ),
        )),
    }
}

/// A long text cut for an error message.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(SmolStr);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            /// [`ErrorKind::InvalidName`] unless `text` is `[a-z0-9]+([.-][a-z0-9]+)*` of at most 60 characters.
            pub fn parse(text: impl AsRef<str>) -> Result<Self> {
                parse_name($what, text.as_ref()).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        parsed_text!($type);

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.0.as_str(), f)
            }
        }
    };
}

name!(
    /// The name of a queue: a point-to-point channel in which each message is settled by exactly one consumer.
    QueueName,
    "queue"
);
name!(
    /// The name of a topic: a publish-subscribe channel in which each message reaches every subscription.
    TopicName,
    "topic"
);
name!(
    /// The name of a durable subscription, unique within its topic.
    SubscriptionName,
    "subscription"
);
name!(
    /// The name under which a configuration knows a broker, such as `main`.
    BrokerName,
    "broker"
);
name!(
    /// A prefix that keeps the destinations of tenants, environments or tests apart on one broker.
    Namespace,
    "namespace"
);

impl BrokerName {
    /// The name `main`: that of the only broker where none is given.
    #[must_use]
    pub fn main() -> Self {
        Self(SmolStr::new_static("main"))
    }
}

/// Where a message is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// A queue.
    Queue(QueueName),
    /// A topic.
    Topic(TopicName),
    /// The address in a request's `reply_to`: whoever asked waits there. Opening a publisher to one must be cheap: adapters
    /// share one underlying publisher among all reply addresses.
    Reply(ReplyAddress),
}

impl Destination {
    /// Parses a queue's name into a destination.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`], see [`QueueName::parse`].
    pub fn queue(name: impl AsRef<str>) -> Result<Self> {
        QueueName::parse(name).map(Self::Queue)
    }

    /// Parses a topic's name into a destination.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`], see [`TopicName::parse`].
    pub fn topic(name: impl AsRef<str>) -> Result<Self> {
        TopicName::parse(name).map(Self::Topic)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {:?}", name.as_str()),
            Self::Topic(name) => write!(f, "topic {:?}", name.as_str()),
            Self::Reply(address) => write!(f, "reply address {:?}", address.as_str()),
        }
    }
}

impl From<QueueName> for Destination {
    fn from(name: QueueName) -> Self {
        Self::Queue(name)
    }
}

impl From<TopicName> for Destination {
    fn from(name: TopicName) -> Self {
        Self::Topic(name)
    }
}

/// Where a reply goes: text that only the broker which made it understands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyAddress(SmolStr);

impl ReplyAddress {
    /// Takes the text of a message's `reply_to`.
    #[must_use]
    pub fn new(address: impl Into<SmolStr>) -> Self {
        Self(address.into())
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where deliveries come from: the place that has a depth, a position and a dead letter of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A queue.
    Queue(QueueName),
    /// A durable subscription of a topic.
    Subscription(TopicName, SubscriptionName),
}

impl Source {
    /// The parts of the source's full name, in the order in which they are joined.
    #[must_use]
    pub fn parts(&self) -> Vec<&str> {
        match self {
            Self::Queue(queue) => vec![queue.as_str()],
            Self::Subscription(topic, name) => vec![topic.as_str(), name.as_str()],
        }
    }

    /// The full name, `namespace--topic--subscription`, without the namespace where there is none.
    #[must_use]
    pub fn full_name(&self, namespace: Option<&Namespace>) -> String {
        join(namespace, &self.parts())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {:?}", queue.as_str()),
            Self::Subscription(topic, name) => {
                write!(f, "subscription {:?} of topic {:?}", name.as_str(), topic.as_str())
            }
        }
    }
}

/// Joins a namespace and names into one full name.
#[must_use]
pub fn join(namespace: Option<&Namespace>, parts: &[&str]) -> String {
    let mut all = Vec::with_capacity(parts.len() + 1);
    all.extend(namespace.map(Namespace::as_str));
    all.extend_from_slice(parts);
    all.join(JOINT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "orders", "orders.eu", "a-b.c-0", &"x".repeat(60)] {
            assert_eq!(QueueName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".a", "a.", "a..b", "a--b", "a-.b", "A", "a_b", "a b", "é", "a/b", &"x".repeat(61)] {
            let error = QueueName::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName, "{bad}");
            assert!(error.text().starts_with("queue name"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_has_no_joint(text in ".{0,70}") {
            if let Ok(name) = TopicName::parse(&text) {
                prop_assert!(!name.as_str().contains(JOINT));
                prop_assert_eq!(name.as_str(), text);
            }
        }
    }
}
