//! The bare traits: open a broker by its address, publish, consume, settle.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Duration;

use messaging::{ConsumeOptions, Destination, Message, PublishOptions, PublisherExt, QueueName, Result, connect};

#[tokio::main]
async fn main() -> Result<()> {
    // Another address is another broker; nothing below changes.
    let broker = connect("memory://").await?;
    let queue = QueueName::parse("greetings")?;

    let publisher = broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?;
    publisher.publish("hello").await?; // Ok: the broker has taken responsibility
    publisher.publish(Message::builder("good bye").key("guest-7").header("language", "en").build()?).await?;

    let mut consumer = broker.consume(&queue, ConsumeOptions::default().with_prefetch(10)).await?;
    for _ in 0..2 {
        let Some(delivery) = consumer.next().await? else { break };
        let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
        println!("attempt {} of {}: {text}", delivery.attempt(), delivery.message().id());
        delivery.ack().await?; // consumes the delivery: settling twice does not compile
    }

    let report = consumer.close(Duration::from_secs(1)).await;
    assert_eq!(report.abandoned, 0);
    Ok(())
}
