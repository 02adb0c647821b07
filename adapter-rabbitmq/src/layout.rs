//! What stands where at the broker: names of queues and exchanges, and where a message of a destination goes.

use std::hash::Hasher;

use lapin::types::ShortString;
use messaging_core::{Destination, JOINT, Message, Names, Order, SubjectFilter, TopicName};
use sha2::{Digest, Sha256};

use crate::config::Config;

/// Where the publishes to one destination go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) destination: Destination,
    pub(crate) exchange: ShortString,
    pub(crate) route: Route,
    /// Whether a message that no queue takes is an error.
    pub(crate) mandatory: bool,
}

/// How the routing key of a message is found.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// It is the same for all.
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
    pub(crate) fn routing_key(&self, message: &Message) -> ShortString {
        match &self.route {
            Route::Fixed(key) => key.clone(),
            Route::Lanes(lanes) => lanes[lane_of(message, lanes.len())].clone(),
            Route::Subject => short(message.subject().map_or("", |subject| subject.as_str())),
            Route::LanesAndSubject(lanes) => {
                let lane = lane_of(message, *lanes as usize);
                match message.subject() {
                    Some(subject) => short(&format!("{lane}.{subject}")),
                    None => short(&lane.to_string()),
                }
            }
        }
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

/// Text as a short string, which holds at most 255 bytes; what is longer is cut at a character.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_else(|_| ShortString::from(&text[..text.floor_char_boundary(255)]))
}

/// The name of a topic's exchange.
pub(crate) fn exchange_name(names: &Names, topic: &TopicName, order: Order) -> String {
    let plain = names.destination(&Destination::Topic(topic.clone()));
    if order == Order::ByKey { lanes_marker(&plain) } else { plain }
}

impl Target {
    /// The target of publishes to a destination.
    pub(crate) fn of(destination: &Destination, names: &Names, config: &Config) -> Self {
        let options = config.destination(destination);
        let (exchange, route, mandatory) = match destination {
            Destination::Queue(_) => {
                let name = names.destination(destination);
                let route = match options.order {
                    Order::ByKey => {
                        Route::Lanes((0..options.lanes).map(|lane| short(&lane_name(&name, lane))).collect())
                    }
                    Order::None => Route::Fixed(short(&name)),
                };
                (ShortString::default(), route, true)
            }
            Destination::Topic(topic) => {
                let route = match (&options.routing_key, options.order) {
                    (Some(key), _) => Route::Fixed(short(key)),
                    (None, Order::ByKey) => Route::LanesAndSubject(options.lanes),
                    (None, Order::None) => Route::Subject,
                };
                (short(&exchange_name(names, topic, options.order)), route, false)
            }
            // Direct reply-to answers NO_ROUTE to a mandatory publish that does arrive (RabbitMQ 4.0.5).
            Destination::Reply(address) => (ShortString::default(), Route::Fixed(short(address.as_str())), false),
        };
        Self { destination: destination.clone(), exchange, route, mandatory }
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
    fn a_filter_has_a_name_of_its_own() {
        let filter = SubjectFilter::parse("a.*").unwrap();
        assert_ne!(filter_marker("t--s", Some(&filter)), filter_marker("t--s", None));
        assert_eq!(filter_marker("t--s", None), filter_marker("t--s", Some(&SubjectFilter::parse("#").unwrap())));
    }
}
