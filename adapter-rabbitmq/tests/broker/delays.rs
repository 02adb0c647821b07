//! Delay buckets: what the shared suite does not see of them.

use std::time::{Duration, Instant};

use crate::support::{connect, fresh, options, server};
use integration_tests::cases;
use integration_tests::runner::{Case, Verdict};
use messaging_core::{
    ConsumeOptions, Consumer, Destination, ErrorKind, ErrorOutcome, Message, PublishOptions, PublisherExt, QueueName,
    SubjectFilter, SubscribeOptions, SubscriptionName, TopicName,
};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const DELAY: Duration = Duration::from_millis(300);
/// Each way: a bucket takes several round trips, and a new channel two.
const SLOW: Duration = Duration::from_millis(500);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        those_of_whom_nobody_hears_stop_nobody,
        a_queue_and_a_topic_of_one_name_do_not_mix,
        a_bucket_that_is_being_made_when_the_connection_is_cut_is_made_again,
        time_runs_out_also_while_a_bucket_is_being_made,
    ]
}

fn delayed(text: &str, subject: &str) -> Verdict<Message> {
    Ok(Message::builder(text.to_owned()).subject(subject).delay(DELAY).build()?)
}

async fn next(consumer: &mut Consumer) -> Verdict<String> {
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
    delivery.ack().await?;
    Ok(text)
}

/// A bucket that loses nothing lets only so many through at a time until each has found a queue.
async fn those_of_whom_nobody_hears_stop_nobody() -> Verdict {
    let server = server().await?;
    let broker = connect(options(&server.url())?).await?;
    let topic = TopicName::parse(fresh("unheard"))?;
    let heard =
        SubscribeOptions::durable(SubscriptionName::parse("heard")?).with_filter(SubjectFilter::parse("heard")?);
    let mut consumer = broker.subscribe(&topic, heard).await?;
    let publisher = broker.publisher(&Destination::Topic(topic), PublishOptions::default()).await?;

    let mut all = (0..200).map(|_| delayed("lost", "unheard")).collect::<Verdict<Vec<_>>>()?;
    all.push(delayed("found", "heard")?);
    for result in publisher.publish_batch(all).await {
        result?;
    }

    assert_eq!(next(&mut consumer).await?, "found");
    Ok(())
}

async fn a_queue_and_a_topic_of_one_name_do_not_mix() -> Verdict {
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

/// The message has not left while its bucket is made, so that a lost connection is no reason to fail it.
async fn a_bucket_that_is_being_made_when_the_connection_is_cut_is_made_again() -> Verdict {
    let server = server().await?;
    let route = server.route().await?;
    let broker = connect(options(route.url())?).await?;
    let queue = QueueName::parse(fresh("cut"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
    publisher.publish("open").await?;
    assert_eq!(next(&mut consumer).await?, "open");

    route.proxy().delay(SLOW);
    let publishing = publisher.publish(delayed("found", "a")?);
    let cutting = async {
        sleep(SLOW).await;
        route.proxy().cut_off().await;
        route.proxy().heal().await
    };
    let (published, healed) = timeout(PATIENCE, async { tokio::join!(publishing, cutting) }).await?;
    healed?;
    published?;

    let mut came = next(&mut consumer).await?;
    // Its acknowledgement may have been cut off too.
    if came == "open" {
        came = next(&mut consumer).await?;
    }
    assert_eq!(came, "found");
    Ok(())
}

/// Neither the message nor those behind it wait for the bucket longer than their senders do.
async fn time_runs_out_also_while_a_bucket_is_being_made() -> Verdict {
    let server = server().await?;
    let route = server.route().await?;
    let broker = connect(options(route.url())?).await?;
    let queue = QueueName::parse(fresh("slow"))?;
    let limited = PublishOptions::default().with_timeout(SLOW);
    let publisher = broker.publisher(&Destination::Queue(queue), limited).await?;
    publisher.publish("open").await?;

    route.proxy().delay(SLOW);
    let begun = Instant::now();
    let results = publisher.publish_batch(vec![delayed("late", "a")?, Message::new("behind it")]).await;
    let took = begun.elapsed();
    route.proxy().heal().await?;

    for result in results {
        let error = result.err().ok_or("it was published in less time than the bucket takes")?;
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, ErrorOutcome::NotSent));
    }
    // A channel, a look for the queue and its declaration: three round trips at the least.
    assert!(took < 4 * SLOW, "they were told after {took:?}");
    Ok(())
}
