//! Batches: many messages in as few round trips as the broker allows, with one result for each.
#![allow(clippy::print_stdout, reason = "a program for people")]

use messaging::{
    ConsumeOptions, Delivery, Destination, Message, PublishOptions, PublisherExt, QueueName, Result, connect,
};

#[tokio::main]
async fn main() -> Result<()> {
    // Small messages only, so that one of the batch is refused.
    let broker = connect("memory://?message_bytes=1000").await?;
    let queue = QueueName::parse("readings")?;
    let publisher = broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?;

    let mut batch: Vec<Message> = (0..100).map(|reading| Message::new(format!("reading {reading}"))).collect();
    batch.push(Message::new(vec![0; 5_000]));
    let results = publisher.publish_batch(batch).await;
    for (index, result) in results.iter().enumerate() {
        if let Err(error) = result {
            println!("message {index} alone was refused: {error}");
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 100);

    let mut consumer = broker.consume(&queue, ConsumeOptions::default().with_prefetch(50)).await?;
    let mut received = 0;
    while received < 100 {
        let deliveries = consumer.next_many(50).await?;
        received += deliveries.len();
        println!("{} at once", deliveries.len());
        Delivery::ack_all(deliveries).await?;
    }
    Ok(())
}
