//! Publish, receive and ack, 64 at a time.

use std::time::{Duration, Instant};

use messaging::{Consumer, Delivery, PublisherExt};

use super::load::{self, Queue, Stop};
use super::{PUBLISH_BATCH, channels};
use crate::compare::Case;
use crate::flavour::Flavour;

pub(crate) fn case(flavour: Flavour, crowd: usize) -> Case {
    Case {
        name: "batches",
        setting: format!("{crowd} × {crowd}"),
        flavour,
        begin: 2_000,
        ours: Box::new(move |messages| ours(flavour, crowd, messages)),
        references: channels::references(flavour, crowd, Some(1.0)),
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
            let mut left = messages as usize / crowd;
            while left > 0 {
                let batch = vec![message.clone(); left.min(PUBLISH_BATCH)];
                left -= batch.len();
                for receipt in publisher.publish_batch(batch).await {
                    receipt.unwrap();
                }
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
    let mut batch = Vec::with_capacity(PUBLISH_BATCH);
    while consumer.next_many_into(PUBLISH_BATCH, &mut batch).await.unwrap() > 0 {
        let is_last = batch.last().is_some_and(|delivery: &Delivery| load::is_end(delivery.message()));
        Delivery::ack_all(batch.drain(..)).await.unwrap();
        if is_last {
            stop.all();
        }
    }
}
