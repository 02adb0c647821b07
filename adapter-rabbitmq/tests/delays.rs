//! Delay buckets: what the shared suite does not see of them.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use messaging_core::{
    ConsumeOptions, Consumer, Destination, Message, PublishOptions, PublisherExt, QueueName, SubjectFilter,
    SubscribeOptions, SubscriptionName, TopicName,
};
use support::{Checked, connect, fresh, options, run, server};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const DELAY: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    run(&[
        ("those_of_whom_nobody_hears_stop_nobody", || Box::pin(unheard())),
        ("a_queue_and_a_topic_of_one_name_do_not_mix", || Box::pin(one_name())),
    ])
}

fn delayed(text: &str, subject: &str) -> Checked<Message> {
    Ok(Message::builder(text.to_owned()).subject(subject).delay(DELAY).build()?)
}

async fn next(consumer: &mut Consumer) -> Checked<String> {
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
    delivery.ack().await?;
    Ok(text)
}

/// A bucket that loses nothing lets only so many through at a time until each has found a queue.
async fn unheard() -> Checked {
    let server = server().await?;
    let broker = connect(options(&server.url())?).await?;
    let topic = TopicName::parse(fresh("unheard"))?;
    let heard =
        SubscribeOptions::durable(SubscriptionName::parse("heard")?).with_filter(SubjectFilter::parse("heard")?);
    let mut consumer = broker.subscribe(&topic, heard).await?;
    let publisher = broker.publisher(&Destination::Topic(topic), PublishOptions::default()).await?;

    let mut all = (0..200).map(|_| delayed("lost", "unheard")).collect::<Checked<Vec<_>>>()?;
    all.push(delayed("found", "heard")?);
    for result in publisher.publish_batch(all).await {
        result?;
    }

    assert_eq!(next(&mut consumer).await?, "found");
    Ok(())
}

async fn one_name() -> Checked {
    let server = server().await?;
    let broker = connect(options(&server.url())?).await?;
    let name = fresh("both");
    let (queue, topic) = (QueueName::parse(&name)?, TopicName::parse(&name)?);
    let mut of_queue = broker.consume(&queue, ConsumeOptions::default()).await?;
    let everything = SubscribeOptions::durable(SubscriptionName::parse("all")?);
    let mut of_topic = broker.subscribe(&topic, everything).await?;
    let to_queue = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
    let to_topic = broker.publisher(&Destination::Topic(topic), PublishOptions::default()).await?;

    to_topic.publish(delayed("for the topic", "a")?).await?;
    to_queue.publish(delayed("for the queue", "a")?).await?;

    assert_eq!(next(&mut of_queue).await?, "for the queue");
    assert_eq!(next(&mut of_topic).await?, "for the topic");
    Ok(())
}
