//! What is bounded: capacity, waiting publishers and their time limit, duplicates, expiry.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use messaging_core::{
    ConsumeOptions, DeadLetterReason, Delivery, Destination, ErrorKind, ErrorOutcome, Message, MessageId, Order, Part,
    PublishOptions, Publisher, PublisherExt, Redrive, RetryMode, Start, SubjectFilter,
};
use tokio::time::Instant;

async fn patient(broker: &Arc<dyn messaging_core::Broker>, to: Destination, seconds: u64) -> Arc<dyn Publisher> {
    let options = PublishOptions::default().with_timeout(Duration::from_secs(seconds));
    broker.publisher(&to, options).await.unwrap()
}

fn with_id(id: &str) -> Message {
    Message::builder(id.to_owned()).id(MessageId::from_text(id)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn publishes_that_wait_for_room_keep_their_order() {
    let (_server, broker) = open("capacity=2");
    let publisher = to_queue(&broker).await;
    let mut consumer = from_queue(&broker, 1).await;
    let mut tasks = Vec::new();
    for n in 0..10 {
        let publisher = Arc::clone(&publisher);
        tasks.push(tokio::spawn(async move { publisher.publish(n.to_string()).await.map(drop) }));
        settle_down().await;
    }
    for n in 0..10 {
        let delivery = next(&mut consumer).await;
        assert_eq!(text(&delivery), n.to_string());
        assert!(depth(&broker, &of_queue()).await.open() <= 2);
        delivery.ack().await.unwrap();
    }
    for task in tasks {
        soon(task).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_finds_no_room_in_time_is_a_timeout_and_was_not_sent() {
    for topic_too in [false, true] {
        let (_server, broker) = open("capacity=1");
        let to = if topic_too { Destination::Topic(topic()) } else { Destination::Queue(queue()) };
        let publisher = patient(&broker, to, 5).await;
        let mut consumer = match topic_too {
            true => broker.subscribe(&topic(), durable("s")).await.unwrap(),
            false => from_queue(&broker, 10).await,
        };
        publisher.publish("one").await.unwrap();
        let begun = Instant::now();
        let error = publisher.publish("two").await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, ErrorOutcome::NotSent));
        assert!(error.text().contains("consume from it, or raise its capacity"), "{error}");
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        // It was not sent indeed.
        next(&mut consumer).await.ack().await.unwrap();
        publisher.publish("three").await.unwrap();
        assert_eq!(text(&next(&mut consumer).await), "three");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_in_flight_bound_runs_out_of_time_on_a_full_queue() {
    let (_server, broker) = open("capacity=1");
    let options = PublishOptions::default().with_in_flight(2).with_timeout(Duration::from_secs(5));
    let publisher = broker.publisher(&Destination::Queue(queue()), options).await.unwrap();
    // The second part waits for the place in flight of the first, which nobody awaits meanwhile.
    let batch = (0..6).map(|n| Message::new(n.to_string())).collect();
    let results = soon(publisher.publish_batch(batch)).await;
    assert!(results[0].is_ok());
    for result in &results[1..] {
        assert_eq!(result.as_ref().unwrap_err().outcome(), ErrorOutcome::NotSent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_nobody_awaits_frees_its_place_in_time() {
    let (_server, broker) = open("capacity=1");
    let options = PublishOptions::default().with_in_flight(1).with_timeout(Duration::from_secs(5));
    let publisher = broker.publisher(&Destination::Queue(queue()), options).await.unwrap();
    publisher.publish("one").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), publisher.publish("cancelled")).await.is_err());
    let waiting = tokio::spawn(async move { publisher.publish("three").await.unwrap_err().kind() });
    assert_eq!(soon(waiting).await.unwrap(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn refuse_says_full_at_once_and_what_to_do() {
    let (_server, broker) = open("capacity=1&when_full=refuse");
    let publisher = to_queue(&broker).await;
    publisher.publish("one").await.unwrap();
    let error = publisher.publish("two").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Full, ErrorOutcome::NotSent));
    for word in ["capacity = 1", "when_full = block", "queue \"orders\""] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let results = publisher.publish_batch(vec!["three".into(), "four".into()]).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().kind() == ErrorKind::Full));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_and_a_larger_message_goes_alone() {
    let (_server, broker) = open("capacity_bytes=10&when_full=refuse");
    let publisher = to_queue(&broker).await;
    let mut consumer = from_queue(&broker, 10).await;
    publisher.publish(vec![0; 50]).await.unwrap();
    assert_eq!(publisher.publish("x").await.unwrap_err().kind(), ErrorKind::Full);
    next(&mut consumer).await.ack().await.unwrap();
    publisher.publish("x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_durable_subscription_bounds_the_topic_and_its_end_frees_it() {
    let (_server, broker) = open("capacity=3&retention=0");
    let publisher = to_topic(&broker).await;
    let mut slow = broker.subscribe(&topic(), durable("slow")).await.unwrap();
    let mut quick = broker.subscribe(&topic(), durable("quick")).await.unwrap();
    for n in 0..3 {
        publisher.publish(n.to_string()).await.unwrap();
    }
    let parked: Vec<_> = (3..6)
        .map(|n| {
            let publisher = Arc::clone(&publisher);
            tokio::spawn(async move { publisher.publish(n.to_string()).await.map(drop) })
        })
        .collect();
    settle_down().await;
    for n in 0..3 {
        let delivery = next(&mut quick).await;
        assert_eq!(text(&delivery), n.to_string());
        delivery.ack().await.unwrap();
    }
    assert!(parked.iter().all(|task| !task.is_finished()), "the slow one holds the topic");
    // One that the slow one fetches makes room for one.
    let held = next(&mut slow).await;
    settle_down().await;
    assert_eq!(parked.iter().filter(|task| task.is_finished()).count(), 1);
    broker.repair().unsubscribe(&topic(), &name("slow")).await.unwrap();
    assert_eq!(held.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    assert_eq!(slow.next().await.unwrap_err().kind(), ErrorKind::NotFound);
    for task in parked {
        soon(task).await.unwrap().unwrap();
    }
    for n in 3..6 {
        let delivery = next(&mut quick).await;
        assert_eq!(text(&delivery), n.to_string());
        delivery.ack().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_comes_from_a_purge_or_from_expiry_is_used() {
    let (_server, broker) = open("capacity=1");
    let publisher = to_queue(&broker).await;
    publisher.publish("one").await.unwrap();
    let background = |body: Message| {
        let publisher = Arc::clone(&publisher);
        tokio::spawn(async move { publisher.publish(body).await.map(drop) })
    };
    let short = background(Message::builder("short").ttl(Duration::from_secs(1)).build().unwrap());
    settle_down().await;
    assert_eq!(broker.repair().purge(&of_queue(), Part::Live).await.unwrap(), Some(1));
    soon(short).await.unwrap().unwrap();
    let last = background("last".into());
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Looking finds that the short-lived one has expired.
    depth(&broker, &of_queue()).await;
    soon(last).await.unwrap().unwrap();
    assert_eq!(depth(&broker, &of_queue()).await.ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_published_once_within_the_dedup_window() {
    let (_server, broker) = open("dedup=10s");
    for publisher in [to_queue(&broker).await, to_topic(&broker).await] {
        let mut consumer = match publisher.core().scope().place().starts_with("queue") {
            true => from_queue(&broker, 10).await,
            false => broker.subscribe(&topic(), durable("s")).await.unwrap(),
        };
        publisher.publish(with_id("a")).await.unwrap();
        for result in publisher.publish_batch(vec![with_id("a"), with_id("b"), with_id("b")]).await {
            result.unwrap();
        }
        let mut transaction = broker.begin().await.unwrap();
        let to = match publisher.core().scope().place().starts_with("queue") {
            true => Destination::Queue(queue()),
            false => Destination::Topic(topic()),
        };
        transaction.send(&to, with_id("a")).unwrap();
        transaction.send(&to, with_id("c")).unwrap();
        transaction.commit().await.unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        publisher.publish(with_id("a")).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            let delivery = next(&mut consumer).await;
            seen.push(text(&delivery));
            delivery.ack().await.unwrap();
        }
        assert_eq!(seen, ["a", "b", "c", "a"]);
        assert!(poll_once(&mut Box::pin(consumer.next())).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_no_duplicate_when_it_is_tried_again() {
    for parameters in ["capacity=1&dedup=10min", "capacity=1&dedup=10min&when_full=refuse"] {
        let (_server, broker) = open(parameters);
        let publisher = patient(&broker, Destination::Queue(queue()), 1).await;
        let mut consumer = from_queue(&broker, 10).await;
        publisher.publish(with_id("a")).await.unwrap();
        let error = publisher.publish(with_id("b")).await.unwrap_err();
        assert_eq!(error.outcome(), ErrorOutcome::NotSent);
        next(&mut consumer).await.ack().await.unwrap();
        publisher.publish(with_id("b")).await.unwrap();
        assert_eq!(text(&next(&mut consumer).await), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_can_be_redriven_again_within_the_dedup_window() {
    let (_server, broker) = open("dedup=10min");
    to_queue(&broker).await.publish(with_id("a")).await.unwrap();
    let mut consumer = from_queue(&broker, 1).await;
    for round in 0..3 {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.attempt(), delivery.redriven()), (1, round));
        delivery.dead_letter("rejected").await.unwrap();
        assert_eq!(broker.repair().redrive(&of_queue(), Redrive::Ids(vec!["a".into()])).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_expires_goes_to_the_dead_letter_where_that_is_asked_for() {
    let (_server, broker) = open("expired=dead_letter");
    let publisher = to_queue(&broker).await;
    let mut consumer = from_queue(&broker, 10).await;
    let message = |body: &'static str| Message::builder(body).ttl(Duration::from_secs(1)).build().unwrap();
    publisher.publish(message("waiting")).await.unwrap();
    publisher.publish("lasting").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let lasting = next(&mut consumer).await;
    assert_eq!(text(&lasting), "lasting");
    let dead = broker.inspect().dead_letters(&of_queue(), 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason.code, DeadLetterReason::EXPIRED);
    // Redriven it lives as long again.
    assert_eq!(broker.repair().redrive(&of_queue(), Redrive::All).await.unwrap(), 1);
    assert_eq!(text(&next(&mut consumer).await), "waiting");
}

#[tokio::test(start_paused = true)]
async fn depth_and_browse_of_a_subscription_tell_delayed_and_expired_apart() {
    let (_server, broker) = open("");
    let publisher = to_topic(&broker).await;
    let filtered = durable("s").with_filter(SubjectFilter::parse("a.#").unwrap());
    let _consumer = broker.subscribe(&topic(), filtered).await.unwrap();
    let message = |body: &'static str| Message::builder(body).subject("a.b");
    publisher.publish(message("ready").build().unwrap()).await.unwrap();
    publisher.publish(message("later").delay(Duration::from_secs(5)).build().unwrap()).await.unwrap();
    publisher.publish(message("short").ttl(Duration::from_secs(1)).build().unwrap()).await.unwrap();
    publisher.publish(Message::builder("other").subject("b").build().unwrap()).await.unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let now = depth(&broker, &of_subscription("s")).await;
    assert_eq!((now.ready, now.delayed), (1, Some(1)));
    let browsed = broker.inspect().browse(&of_subscription("s"), 10).await.unwrap();
    assert_eq!(browsed.iter().map(|browsed| browsed.message.payload().clone()).collect::<Vec<_>>(), ["ready"]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(depth(&broker, &of_subscription("s")).await.ready, 2);
    assert_eq!(broker.inspect().browse(&of_subscription("s"), 10).await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_subscription_that_lags_says_how_many_it_lost() {
    let (_server, broker) = open("ephemeral_lag=3");
    let publisher = to_topic(&broker).await;
    let filter = SubjectFilter::parse("a").unwrap();
    let mut all = broker.subscribe(&topic(), messaging_core::SubscribeOptions::ephemeral()).await.unwrap();
    let mut some =
        broker.subscribe(&topic(), messaging_core::SubscribeOptions::ephemeral().with_filter(filter)).await.unwrap();
    for n in 0..10 {
        let subject = if n % 2 == 0 { "a" } else { "b" };
        publisher.publish(Message::builder(n.to_string()).subject(subject).build().unwrap()).await.unwrap();
    }
    assert_eq!(text(&next(&mut all).await), "7");
    assert_eq!(text(&next(&mut some).await), "8");
    let missed = |consumer: &mut messaging_core::Consumer| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match consumer.poll_event(&mut context) {
            std::task::Poll::Ready(messaging_core::Event::Gap { missed }) => missed,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(missed(&mut all), Some(7));
    assert_eq!(missed(&mut some), Some(4), "0, 2, 4 and 6: what the filter keeps out is not missed");
}

#[tokio::test(start_paused = true)]
async fn retention_keeps_what_a_late_subscription_may_start_with() {
    let (_server, broker) = open("retention=100");
    let publisher = to_topic(&broker).await;
    for n in 0..1_000 {
        publisher.publish(n.to_string()).await.unwrap();
    }
    let mut early = broker.subscribe(&topic(), durable("early").with_start(Start::Earliest)).await.unwrap();
    let first: u64 = text(&next(&mut early).await).parse().unwrap();
    assert!((720..=900).contains(&first), "{first}");
    let mut at = broker.subscribe(&topic(), durable("at").with_start(Start::Offset(950))).await.unwrap();
    assert_eq!(text(&next(&mut at).await), "950");
}

#[tokio::test(start_paused = true)]
async fn order_asked_for_while_messages_of_one_key_are_out_waits_for_all_of_them() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    for body in ["1", "2", "3"] {
        publisher.publish(Message::builder(body).key("k").build().unwrap()).await.unwrap();
    }
    let mut unordered = from_queue(&broker, 2).await;
    let mut held = unordered.next_many(2).await.unwrap();
    let options = ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold);
    let mut ordered = broker.consume(&queue(), options).await.unwrap();
    assert!(poll_once(&mut Box::pin(ordered.next())).is_none());
    held.remove(0).ack().await.unwrap();
    assert!(poll_once(&mut Box::pin(ordered.next())).is_none(), "the second is still out");
    Delivery::ack_all(held).await.unwrap();
    assert_eq!(text(&next(&mut ordered).await), "3");
}
