//! Memory of messages that wait.

use bytes::Bytes;
use messaging::{
    Destination, Message, PublishOptions, Publisher, PublisherExt, QueueName, SubscribeOptions, SubscriptionName,
    TopicName,
};

use super::load;
use crate::allocations;
use crate::flavour::Flavour;
use crate::report::Amount;

const PAYLOAD_BYTES: usize = 256;

pub(crate) fn measure(messages: usize) -> Vec<Amount> {
    eprintln!("{messages} waiting");
    let amount = |what: &str, bytes: i64| Amount {
        what: what.to_owned(),
        unit: "bytes a waiting message beyond its payload",
        value: bytes as f64 / messages as f64 - PAYLOAD_BYTES as f64,
        goal: Some(400.0),
    };
    let before = resident_bytes();
    let (queue, resident) = measure_one(messages, false);
    let (topic, _) = measure_one(messages, true);
    // Only the first measurement is meaningful: later ones reuse freed memory.
    vec![
        amount("in a queue, requested", queue),
        amount("in a queue, resident in the process", resident - before),
        amount("in a topic with one reader, requested", topic),
    ]
}

fn measure_one(messages: usize, is_topic: bool) -> (i64, i64) {
    let runtime = Flavour::CurrentThread.runtime();
    let broker = load::broker("");
    let topic = TopicName::parse("news").unwrap();
    let destination = if is_topic {
        let options = SubscribeOptions::durable(SubscriptionName::parse("reader").unwrap());
        drop(runtime.block_on(broker.subscribe(&topic, options)).unwrap());
        Destination::Topic(topic)
    } else {
        Destination::Queue(QueueName::parse("work").unwrap())
    };
    let publisher = runtime.block_on(broker.publisher(&destination, PublishOptions::default())).unwrap();
    let (kept, ()) = allocations::kept(|| runtime.block_on(fill(&*publisher, messages)));
    (kept, resident_bytes())
}

async fn fill(publisher: &dyn Publisher, messages: usize) {
    for _ in 0..messages {
        publisher.publish(one()).await.unwrap();
    }
}

fn one() -> Message {
    load::build(Bytes::copy_from_slice(&[7; PAYLOAD_BYTES]))
}

/// Resident memory of the process; 0 where the system does not say.
fn resident_bytes() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split_whitespace().nth(1)?.parse::<i64>().ok());
    resident.unwrap_or(0) * 4_096
}
