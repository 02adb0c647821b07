//! No wake-up is lost: whoever waits for a message that it may have gets it, whatever happened while it waited.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::time::Duration;

use common::*;
use messaging_core::{ConsumeOptions, Delivery, Destination, Flow, Lease, Message, PublisherExt, Received};
use tokio::time::Instant;

fn leased(seconds: u64) -> ConsumeOptions {
    let duration = Duration::from_secs(seconds);
    ConsumeOptions::default().with_lease(Lease { duration, max: duration })
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_waited_with_all_it_may_hold_is_woken_for_what_comes_after_its_settlement() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut consumer = from_queue(&broker, 1).await;
    publisher.publish("one").await.unwrap();
    let held = next(&mut consumer).await;
    let waiting = tokio::spawn(async move { text(&next(&mut consumer).await) });
    settle_down().await;
    // Nothing is there when it gets room; the message comes later.
    held.ack().await.unwrap();
    settle_down().await;
    publisher.publish("two").await.unwrap();
    assert_eq!(soon(waiting).await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_whose_own_lease_ends_while_it_waits_gets_the_message_again() {
    let (_server, broker) = open("");
    to_queue(&broker).await.publish("one").await.unwrap();
    let mut consumer = broker.consume(&queue(), leased(10).with_prefetch(1)).await.unwrap();
    let begun = Instant::now();
    let held = next(&mut consumer).await;
    let again = next(&mut consumer).await;
    assert_eq!(again.attempt(), 2);
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    drop((held, again));
}

#[tokio::test(start_paused = true)]
async fn who_waited_before_a_lease_was_granted_gets_the_message_when_it_ends() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut slow = broker.consume(&queue(), leased(10)).await.unwrap();
    let mut other = broker.consume(&queue(), leased(10)).await.unwrap();
    let slow = tokio::spawn(async move { (next(&mut slow).await, slow) });
    settle_down().await;
    let waiting = tokio::spawn(async move { next(&mut other).await.attempt() });
    settle_down().await;
    let begun = Instant::now();
    // The slow one is first in line; the other is not woken by the message.
    publisher.publish("one").await.unwrap();
    let held = slow.await.unwrap();
    assert_eq!(soon(waiting).await.unwrap(), 2);
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_watched_also_when_whoever_kept_watch_has_left() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut slow = broker.consume(&queue(), leased(10)).await.unwrap();
    let slow = tokio::spawn(async move { (next(&mut slow).await, slow) });
    settle_down().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = broker.consume(&queue(), leased(10)).await.unwrap();
        others.push(tokio::spawn(async move { next(&mut other).await.attempt() }));
    }
    settle_down().await;
    let begun = Instant::now();
    publisher.publish("one").await.unwrap();
    let held = slow.await.unwrap();
    settle_down().await;
    // Two of three give up, one of them kept watch.
    others.pop().unwrap().abort();
    others.remove(0).abort();
    assert_eq!(soon(others.remove(0)).await.unwrap(), 2);
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_in_a_transaction_makes_room_for_more() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut consumer = from_queue(&broker, 1).await;
    publisher.publish("one").await.unwrap();
    publisher.publish("two").await.unwrap();
    let held = next(&mut consumer).await;
    let waiting = tokio::spawn(async move { text(&next(&mut consumer).await) });
    settle_down().await;
    let mut transaction = broker.begin().await.unwrap();
    transaction.ack(held);
    transaction.commit().await.unwrap();
    assert_eq!(soon(waiting).await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_returned_with_an_event_does_not_stand_in_line() {
    let (server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut first = from_queue(&broker, 1).await;
    let mut second = from_queue(&broker, 1).await;
    let first = tokio::spawn(async move {
        while let Some(Received::Event(event)) = first.receive().await.unwrap() {
            if event == messaging_core::Event::Reconnected {
                break;
            }
        }
        first
    });
    settle_down().await;
    let second = tokio::spawn(async move { text(&next(&mut second).await) });
    settle_down().await;
    server.cut_consumers();
    let _first = soon(first).await.unwrap();
    settle_down().await;
    publisher.publish("one").await.unwrap();
    assert_eq!(soon(second).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_paused_or_full_consumer_passes_on_what_becomes_due() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut full = broker.consume(&queue(), leased(10).with_prefetch(1)).await.unwrap();
    let mut paused = broker.consume(&queue(), leased(10)).await.unwrap();
    let mut free = broker.consume(&queue(), leased(100)).await.unwrap();
    publisher.publish("held").await.unwrap();
    let held = next(&mut full).await;
    paused.control().set_flow(Flow::Paused);
    let full = tokio::spawn(async move {
        let _ = full.next().await;
    });
    let paused = tokio::spawn(async move {
        let _ = paused.next().await;
    });
    settle_down().await;
    let free = tokio::spawn(async move {
        let mut seen = vec![text(&next(&mut free).await), text(&next(&mut free).await)];
        seen.sort();
        seen
    });
    settle_down().await;
    publisher.publish(Message::builder("late").delay(Duration::from_secs(5)).build().unwrap()).await.unwrap();
    held.extend(Duration::from_secs(10)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    held.ack().await.unwrap();
    publisher.publish("more").await.unwrap();
    publisher.publish("last").await.unwrap();
    soon(free).await.unwrap();
    full.abort();
    paused.abort();
}

#[tokio::test(start_paused = true)]
async fn closing_one_broker_hands_its_wake_up_to_the_consumers_of_another() {
    let (server, broker) = open("");
    let other = server.broker();
    let publisher = to_queue(&other).await;
    let mut doomed = from_queue(&broker, 1).await;
    let mut alive = from_queue(&other, 1).await;
    let mut waiting = Box::pin(doomed.next());
    assert!(poll_once(&mut waiting).is_none());
    let alive = tokio::spawn(async move { text(&next(&mut alive).await) });
    settle_down().await;
    // The doomed one is first in line and woken, but never polls again before its broker is closed.
    publisher.publish("one").await.unwrap();
    drop(broker.close(Instant::now()).await);
    assert_eq!(soon(alive).await.unwrap(), "one");
    drop(waiting);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_purged_still_tells_who_waits() {
    let (_server, broker) = open("capacity=2");
    let publisher = to_topic(&broker).await;
    let mut holder = broker.subscribe(&topic(), durable("s")).await.unwrap();
    let mut other = broker.subscribe(&topic(), durable("s")).await.unwrap();
    publisher.publish("1").await.unwrap();
    publisher.publish("2").await.unwrap();
    let held = holder.next_many(2).await.unwrap();
    publisher.publish("3").await.unwrap();
    // The subscription holds all it may: nothing more is fetched.
    let other = tokio::spawn(async move { text(&next(&mut other).await) });
    settle_down().await;
    broker.repair().purge(&of_subscription("s"), messaging_core::Part::Live).await.unwrap();
    Delivery::ack_all(held).await.unwrap();
    settle_down().await;
    publisher.publish("4").await.unwrap();
    assert_eq!(soon(other).await.unwrap(), "4");
}

#[tokio::test(start_paused = true)]
async fn receives_that_are_cancelled_again_and_again_leave_nothing_behind() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut impatient = from_queue(&broker, 1).await;
    let mut patient = from_queue(&broker, 1).await;
    let patient = tokio::spawn(async move { text(&next(&mut patient).await) });
    for _ in 0..1_000 {
        assert!(tokio::time::timeout(Duration::from_millis(1), impatient.next()).await.is_err());
    }
    publisher.publish("one").await.unwrap();
    assert_eq!(soon(patient).await.unwrap(), "one");
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_goes_first_on_a_topic_also_when_lower_ones_were_fetched() {
    let (_server, broker) = open("");
    let publisher = to_topic(&broker).await;
    let mut consumer = broker.subscribe(&topic(), durable("s")).await.unwrap();
    for body in ["low 1", "low 2"] {
        publisher.publish(Message::builder(body).priority(1).build().unwrap()).await.unwrap();
    }
    next(&mut consumer).await.ack().await.unwrap();
    publisher.publish(Message::builder("high").priority(9).build().unwrap()).await.unwrap();
    let high = next(&mut consumer).await;
    let low = next(&mut consumer).await;
    assert_eq!((text(&high), text(&low)), ("high".into(), "low 2".into()));
}

#[tokio::test(start_paused = true)]
async fn no_delay_is_no_delay() {
    let (_server, broker) = open("");
    let publisher =
        broker.publisher(&Destination::Queue(queue()), messaging_core::PublishOptions::default()).await.unwrap();
    publisher.publish(Message::builder("first").delay(Duration::ZERO).build().unwrap()).await.unwrap();
    publisher.publish("second").await.unwrap();
    assert_eq!(text(&next(&mut from_queue(&broker, 2).await).await), "first");
}
