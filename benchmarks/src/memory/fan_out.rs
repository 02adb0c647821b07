//! Publishing to a topic with 1, 10 and 100 subscriptions.

use std::time::{Duration, Instant};

use messaging::{
    ConsumeOptions, Delivery, Destination, PublishOptions, PublisherExt, SubscribeOptions, SubscriptionName, TopicName,
};

use super::load;
use crate::compare::Case;
use crate::flavour::Flavour;

/// So many messages are published before the subscriptions read them.
const BURST_MESSAGES: u64 = 1_000;

pub(crate) fn cases() -> Vec<Case> {
    let flavour = Flavour::CurrentThread;
    let case = |subscriptions: usize| Case {
        name: "fan-out",
        setting: format!("to {subscriptions}"),
        flavour,
        begin: 2_000,
        ours: Box::new(move |messages| flavour.runtime().block_on(publish(subscriptions, messages))),
        references: vec![(
            "to 1",
            Some(0.5),
            Box::new(move |messages| flavour.runtime().block_on(publish(1, messages))),
        )],
    };
    vec![case(10), case(100)]
}

async fn publish(subscriptions: usize, messages: u64) -> Duration {
    let broker = load::broker("");
    let topic = TopicName::parse("news").unwrap();
    let mut consumers = Vec::new();
    for number in 0..subscriptions {
        let name = SubscriptionName::parse(format!("reader-{number}")).unwrap();
        let options = SubscribeOptions::durable(name).with_consume(ConsumeOptions::default().with_prefetch(1_000));
        consumers.push(broker.subscribe(&topic, options).await.unwrap());
    }
    let publisher = broker.publisher(&Destination::Topic(topic), PublishOptions::default()).await.unwrap();
    let message = load::message();
    let mut took = Duration::ZERO;
    let mut batch = Vec::new();
    for _ in 0..messages.div_ceil(BURST_MESSAGES) {
        let begun = Instant::now();
        for _ in 0..BURST_MESSAGES {
            publisher.publish(message.clone()).await.unwrap();
        }
        took += begun.elapsed();
        for consumer in &mut consumers {
            consumer.next_many_into(BURST_MESSAGES as usize, &mut batch).await.unwrap();
            Delivery::ack_all(batch.drain(..)).await.unwrap();
        }
    }
    took.mul_f64(messages as f64 / (messages.div_ceil(BURST_MESSAGES) * BURST_MESSAGES) as f64)
}
