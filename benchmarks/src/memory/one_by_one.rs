//! Publish, receive and ack, each awaited before the next.

use std::time::{Duration, Instant};

use messaging::{Consumer, PublisherExt};

use super::channels;
use super::load::{self, Queue, Stop};
use crate::compare::Case;
use crate::flavour::Flavour;

pub(crate) fn case(flavour: Flavour, crowd: usize) -> Case {
    Case {
        name: "one by one",
        setting: format!("{crowd} × {crowd}"),
        flavour,
        begin: 2_000,
        ours: Box::new(move |messages| ours(flavour, crowd, messages)),
        references: channels::references(flavour, crowd, Some(0.5)),
    }
}

pub(crate) fn ours(flavour: Flavour, crowd: usize, messages: u64) -> Duration {
    flavour.runtime().block_on(run(crowd, messages))
}

async fn run(crowd: usize, messages: u64) -> Duration {
    let queue = Queue::new();
    let message = load::message();
    let consumers = queue.consumers(crowd).await;
    let stop = Stop::of(&consumers);
    let begun = Instant::now();
    let mut publishing = Vec::new();
    for _ in 0..crowd {
        let (publisher, message) = (queue.publisher().await, message.clone());
        publishing.push(tokio::spawn(async move {
            for _ in 0..messages / crowd as u64 {
                publisher.publish(message.clone()).await.unwrap();
            }
        }));
    }
    let consuming: Vec<_> =
        consumers.into_iter().map(|consumer| tokio::spawn(consume(consumer, stop.clone()))).collect();
    for task in publishing {
        task.await.unwrap();
    }
    queue.end().await;
    for task in consuming {
        task.await.unwrap();
    }
    begun.elapsed()
}

async fn consume(mut consumer: Consumer, stop: Stop) {
    while let Some(delivery) = consumer.next().await.unwrap() {
        let is_last = load::is_end(delivery.message());
        delivery.ack().await.unwrap();
        if is_last {
            stop.all();
        }
    }
}
