//! Layout at the broker: names of queues and exchanges, and targets and routing keys of messages.

use std::hash::Hasher;

use lapin::types::ShortString;
use messaging_core::{Destination, Error, ErrorKind, JOINT, Message, Names, Order, Result, SubjectFilter, TopicName};
use sha2::{Digest, Sha256};

use crate::config::Config;

/// Exchange and routing keys of the publishes to one destination.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) destination: Destination,
    pub(crate) exchange: ShortString,
    pub(crate) key: RoutingKey,
    /// True if a message that no queue takes is an error.
    pub(crate) mandatory: bool,
}

/// Rule by which a message gets its routing key.
#[derive(Clone, Debug)]
pub(crate) enum RoutingKey {
    /// The same for all messages.
    Fixed(ShortString),
    /// One of these, by the message's key.
    Lanes(Vec<ShortString>),
    /// The message's subject.
    Subject,
    /// The lane of the message's key, before the subject.
    LanesAndSubject(u32),
}

impl Target {
    /// The routing key of one message.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] if the subject is too long to stand in it: nothing is cut, for filters would match the rest.
    pub(crate) fn routing_key(&self, message: &Message) -> Result<ShortString> {
        match &self.key {
            RoutingKey::Fixed(key) => Ok(key.clone()),
            RoutingKey::Lanes(lanes) => Ok(lanes[lane_of(message, lanes.len())].clone()),
            RoutingKey::Subject => match message.subject() {
                Some(subject) => short("the subject", subject.as_str()),
                None => Ok(ShortString::default()),
            },
            RoutingKey::LanesAndSubject(lanes) => {
                let lane = lane_of(message, *lanes as usize);
                match message.subject() {
                    Some(subject) => short("the subject behind its lane", &format!("{lane}.{subject}")),
                    None => short("the lane", &lane.to_string()),
                }
            }
        }
    }

    /// Whether the routing key carries the subject.
    pub(crate) fn key_has_subject(&self) -> bool {
        matches!(self.key, RoutingKey::Subject | RoutingKey::LanesAndSubject(_))
    }
}

/// The lane of a message: by its key, or by its id where it has none.
pub(crate) fn lane_of(message: &Message, lanes: usize) -> usize {
    // FNV-1a: stable across versions and machines, as all publishers have to agree.
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    match (message.key(), message.id().as_uuid()) {
        (Some(key), _) => hash.write(key.as_bytes()),
        (None, Some(id)) => hash.write(id.as_bytes()),
        (None, None) => hash.write(message.id().to_string().as_bytes()),
    }
    // The low bits of FNV are the weakest.
    let mixed = hash.0 ^ (hash.0 >> 32);
    usize::try_from(mixed % lanes.max(1) as u64).unwrap_or(0)
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A name at the broker, or a routing key.
///
/// # Errors
/// [`ErrorKind::InvalidName`] if it is longer than the 255 bytes that AMQP has for one.
pub(crate) fn short(what: &str, text: &str) -> Result<ShortString> {
    ShortString::try_new(text).map_err(|_| {
        let bytes = text.len();
        Error::new(ErrorKind::InvalidName, format!("{what} has {bytes} bytes, and AMQP has room for 255: {text:?}"))
    })
}

/// The name of a topic's exchange.
pub(crate) fn exchange_name(names: &Names, topic: &TopicName, order: Order) -> String {
    let plain = names.destination(&Destination::Topic(topic.clone()));
    if order == Order::ByKey { lanes_marker(&plain) } else { plain }
}

impl Target {
    /// The target of publishes to a destination.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] if a name is too long for AMQP.
    pub(crate) fn of(destination: &Destination, names: &Names, config: &Config) -> Result<Self> {
        let options = config.destination(destination);
        let (exchange, key, mandatory) = match destination {
            Destination::Queue(_) => {
                let name = names.destination(destination);
                let key = match options.order {
                    Order::ByKey => {
                        let lanes =
                            (0..options.lanes).map(|lane| short("the name of a queue", &lane_name(&name, lane)));
                        RoutingKey::Lanes(lanes.collect::<Result<_>>()?)
                    }
                    Order::None => RoutingKey::Fixed(short("the name of a queue", &name)?),
                };
                (ShortString::default(), key, true)
            }
            Destination::Topic(topic) => {
                let key = match (&options.routing_key, options.order) {
                    (Some(key), _) => RoutingKey::Fixed(short("the routing key", key)?),
                    (None, Order::ByKey) => RoutingKey::LanesAndSubject(options.lanes),
                    (None, Order::None) => RoutingKey::Subject,
                };
                (short("the name of an exchange", &exchange_name(names, topic, options.order))?, key, false)
            }
            // Direct reply-to answers NO_ROUTE to a mandatory publish that does arrive (RabbitMQ 4.0.5).
            Destination::Reply(address) => {
                (ShortString::default(), RoutingKey::Fixed(short("the reply address", address.as_str())?), false)
            }
        };
        Ok(Self { destination: destination.clone(), exchange, key, mandatory })
    }
}

/// The name of one lane's queue.
pub(crate) fn lane_name(base: &str, lane: u32) -> String {
    format!("{base}{JOINT}lane{JOINT}{lane}")
}

/// The exchange that says of a queue, subscription or topic that it is spread over lanes.
pub(crate) fn lanes_marker(base: &str) -> String {
    format!("{base}{JOINT}lanes")
}

/// The exchange that says over how many.
pub(crate) fn lane_count_marker(base: &str, lanes: u32) -> String {
    format!("{base}{JOINT}lanes{JOINT}{lanes}")
}

/// The exchange that says of a subscription by which filter it is bound.
pub(crate) fn filter_marker(base: &str, filter: Option<&SubjectFilter>) -> String {
    let digest = Sha256::digest(filter.map_or("#", SubjectFilter::as_str).as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{base}{JOINT}filter{JOINT}{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str) -> Message {
        Message::builder("x").key(key).build().unwrap()
    }

    #[test]
    fn a_key_keeps_its_lane_and_keys_spread() {
        // Pinned: another hash would send a key's later messages to another lane than its earlier ones.
        let lanes: Vec<usize> = ["", "a", "customer-7", "é"].iter().map(|key| lane_of(&message(key), 8)).collect();
        assert_eq!(lanes, [1, 0, 2, 6]);
        let mut used = [0; 8];
        for key in 0..800 {
            used[lane_of(&message(&format!("key-{key}")), 8)] += 1;
        }
        assert!(used.iter().all(|count| *count > 60), "{used:?}");
    }

    #[test]
    fn a_subject_that_leaves_no_room_for_its_lane_is_refused_and_not_cut() {
        let target = |key| Target {
            destination: Destination::Topic(TopicName::parse("weather").unwrap()),
            exchange: ShortString::default(),
            key,
            mandatory: false,
        };
        let with = |subject: &str| Message::builder("x").subject(subject).build().unwrap();
        let longest = "a".repeat(255);
        assert_eq!(target(RoutingKey::Subject).routing_key(&with(&longest)).unwrap().as_str(), longest);
        let over_lanes = target(RoutingKey::LanesAndSubject(8));
        assert_eq!(over_lanes.routing_key(&with(&longest)).unwrap_err().kind(), ErrorKind::InvalidName);
        assert_eq!(over_lanes.routing_key(&with(&longest[..253])).unwrap().as_str().len(), 255);
    }

    #[test]
    fn a_filter_has_a_name_of_its_own() {
        let filter = SubjectFilter::parse("a.*").unwrap();
        assert_ne!(filter_marker("t--s", Some(&filter)), filter_marker("t--s", None));
        assert_eq!(filter_marker("t--s", None), filter_marker("t--s", Some(&SubjectFilter::parse("#").unwrap())));
    }
}
