//! Names at the broker: of destinations, of sources, and of all that belongs to them.
//!
//! One rule for every adapter:
//!
//! * A queue or topic is called by its `native` name, or else `namespace--name`.
//! * A subscription is always made by this library, also on a native topic: `namespace--topic--subscription`. Two namespaces
//!   that read one native topic thus have subscriptions of their own.
//! * A part of something, such as its dead letter, is called after it: `SOURCE--dead`. The dead letter of a native queue
//!   `LEGACY` is `LEGACY--dead`, whichever namespace and logical name it is consumed under: a queue has one dead letter.

use std::collections::BTreeMap;

use crate::name::{Destination, JOINT, Namespace, Source, join};

/// The part of a source in which its dead letters wait.
const DEAD_PART: &str = "dead";

/// Names at the broker, within one namespace.
///
/// ```
/// use messaging_core::{Destination, Names, QueueName, Source};
///
/// # fn main() -> messaging_core::Result<()> {
/// let (orders, legacy) = (QueueName::parse("orders")?, QueueName::parse("legacy")?);
/// let names = Names::new(Some("shop".parse()?)).with_native(legacy.clone().into(), "LEGACY.Q");
/// assert_eq!(names.destination(&orders.clone().into()), "shop--orders");
/// assert_eq!(names.dead(&Source::Queue(orders)), "shop--orders--dead");
/// assert_eq!(names.part(&Source::Queue(legacy), "retry"), "LEGACY.Q--retry");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Names {
    namespace: Option<Namespace>,
    natives: BTreeMap<Destination, String>,
    mapping: fn(String) -> String,
}

impl Names {
    /// Names of a namespace, without native ones; the broker takes full names as they are.
    #[must_use]
    pub fn new(namespace: Option<Namespace>) -> Self {
        Self { namespace, natives: BTreeMap::new(), mapping: |full| full }
    }

    /// Sets the name of a destination that exists already. It is used as it is.
    #[must_use]
    pub fn with_native(mut self, destination: Destination, name: impl Into<String>) -> Self {
        self.natives.insert(destination, name.into());
        self
    }

    /// Sets the mapping of full names to those that the broker takes, for a broker with a narrower grammar: each derived
    /// name passes through it whole, a native name does not. It must be the same in every version and must map different
    /// names to different ones.
    #[must_use]
    pub fn with_mapping(mut self, mapping: fn(String) -> String) -> Self {
        self.mapping = mapping;
        self
    }

    /// The namespace, if there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// The name of a destination that exists already, if the configuration has one.
    #[must_use]
    pub fn native(&self, destination: &Destination) -> Option<&str> {
        self.natives.get(destination).map(String::as_str)
    }

    /// The name of a destination; of a reply address its text.
    #[must_use]
    pub fn destination(&self, destination: &Destination) -> String {
        match destination {
            Destination::Reply(address) => address.as_str().to_owned(),
            Destination::Queue(_) | Destination::Topic(_) => match self.native(destination) {
                Some(native) => native.to_owned(),
                None => self.mapped(self.base(destination)),
            },
        }
    }

    /// The name of a source: of a queue that of its destination.
    #[must_use]
    pub fn source(&self, source: &Source) -> String {
        match source {
            Source::Queue(queue) => self.destination(&Destination::Queue(queue.clone())),
            Source::Subscription(..) => self.mapped(source.full_name(self.namespace())),
        }
    }

    /// The name of a source's dead letter.
    #[must_use]
    pub fn dead(&self, source: &Source) -> String {
        self.part(source, DEAD_PART)
    }

    /// The name of something that belongs to a source, such as its `retry`.
    #[must_use]
    pub fn part(&self, source: &Source, part: &str) -> String {
        let base = match source {
            Source::Queue(queue) => self.base(&Destination::Queue(queue.clone())),
            Source::Subscription(..) => source.full_name(self.namespace()),
        };
        self.mapped(format!("{base}{JOINT}{part}"))
    }

    /// The name of something that belongs to a destination, such as a topic's `delayed`.
    #[must_use]
    pub fn part_of_destination(&self, destination: &Destination, part: &str) -> String {
        self.mapped(format!("{}{JOINT}{part}", self.base(destination)))
    }

    /// The name of something that belongs to the namespace as a whole.
    #[must_use]
    pub fn shared(&self, parts: &[&str]) -> String {
        self.mapped(join(self.namespace(), parts))
    }

    /// The full name of a destination before it is mapped.
    fn base(&self, destination: &Destination) -> String {
        if let Some(native) = self.native(destination) {
            return native.to_owned();
        }
        match destination {
            Destination::Queue(queue) => join(self.namespace(), &[queue.as_str()]),
            Destination::Topic(topic) => join(self.namespace(), &[topic.as_str()]),
            Destination::Reply(address) => address.as_str().to_owned(),
        }
    }

    fn mapped(&self, full: String) -> String {
        (self.mapping)(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{QueueName, ReplyAddress, SubscriptionName, TopicName};

    fn queue(name: &str) -> QueueName {
        QueueName::parse(name).unwrap()
    }

    fn subscription() -> Source {
        Source::Subscription(TopicName::parse("weather").unwrap(), SubscriptionName::parse("dashboard").unwrap())
    }

    fn names(namespace: Option<&str>) -> Names {
        Names::new(namespace.map(|name| Namespace::parse(name).unwrap()))
    }

    #[test]
    fn names_are_joined_and_never_ambiguous() {
        let dev = names(Some("dev"));
        assert_eq!(dev.destination(&queue("orders").into()), "dev--orders");
        assert_eq!(dev.source(&Source::Queue(queue("orders"))), "dev--orders");
        assert_eq!(dev.source(&subscription()), "dev--weather--dashboard");
        assert_eq!(dev.dead(&subscription()), "dev--weather--dashboard--dead");
        assert_eq!(names(None).dead(&Source::Queue(queue("q"))), "q--dead");
        assert_eq!(
            dev.part_of_destination(&TopicName::parse("weather").unwrap().into(), "delayed"),
            "dev--weather--delayed"
        );
        assert_eq!(dev.shared(&["messaging", "replies"]), "dev--messaging--replies");
        assert_eq!(dev.destination(&Destination::Reply(ReplyAddress::new("amq.reply.1"))), "amq.reply.1");
    }

    #[test]
    fn a_native_queue_has_one_dead_letter_in_every_namespace() {
        for namespace in [None, Some("dev"), Some("test")] {
            let names = names(namespace).with_native(queue("orders").into(), "LEGACY.ORDERS");
            let source = Source::Queue(queue("orders"));
            assert_eq!(names.source(&source), "LEGACY.ORDERS");
            assert_eq!(names.dead(&source), "LEGACY.ORDERS--dead");
            assert_eq!(names.part(&source, "retry"), "LEGACY.ORDERS--retry");
        }
    }

    #[test]
    fn each_namespace_has_subscriptions_of_its_own_on_a_native_topic() {
        let topic = Destination::topic("weather").unwrap();
        let names = names(Some("dev")).with_native(topic.clone(), "EVENTS");
        assert_eq!(names.destination(&topic), "EVENTS");
        assert_eq!(names.part_of_destination(&topic, "delayed"), "EVENTS--delayed");
        assert_eq!(names.source(&subscription()), "dev--weather--dashboard");
        assert_eq!(names.dead(&subscription()), "dev--weather--dashboard--dead");
    }

    #[test]
    fn a_mapping_sees_whole_derived_names_and_no_native_one() {
        let names =
            names(Some("dev")).with_native(queue("old").into(), "a.b").with_mapping(|full| full.replace('.', "_"));
        assert_eq!(names.destination(&queue("orders.eu").into()), "dev--orders_eu");
        assert_eq!(names.dead(&Source::Queue(queue("orders.eu"))), "dev--orders_eu--dead");
        assert_eq!(names.destination(&queue("old").into()), "a.b");
        assert_eq!(names.dead(&Source::Queue(queue("old"))), "a_b--dead");
    }
}
