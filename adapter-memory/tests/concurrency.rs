//! Many tasks at once, on both runtimes: nothing is lost, doubled or made up, and nobody waits for ever.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use messaging_core::{
    Broker, ConsumeOptions, Consumer, Delivery, Destination, ErrorKind, Message, Order, PublishOptions, PublisherExt,
    RetryMode, Source, SubscribeOptions,
};

/// Runs on one thread and on two.
fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn() -> F) {
    let one = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    one.block_on(async { soon(test()).await });
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    many.block_on(async { soon(test()).await });
}

/// What was handled how often.
#[derive(Clone, Default)]
struct Ledger {
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    distinct: Arc<AtomicUsize>,
}

impl Ledger {
    fn note(&self, body: String) {
        let mut seen = self.seen.lock().unwrap();
        let count = seen.entry(body).or_default();
        *count += 1;
        if *count == 1 {
            self.distinct.fetch_add(1, Ordering::Release);
        }
    }

    async fn reached(&self, count: usize) {
        let all = async {
            while self.distinct.load(Ordering::Acquire) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let reached = tokio::time::timeout(SOON, all).await;
        assert!(reached.is_ok(), "{} of {count} came: a wake-up was lost", self.distinct.load(Ordering::Acquire));
    }

    /// Lost, doubled and unexpected, against what was published.
    fn check(&self, published: impl IntoIterator<Item = String>, doubles: bool) {
        let seen = self.seen.lock().unwrap();
        let published: std::collections::BTreeSet<String> = published.into_iter().collect();
        let lost: Vec<_> = published.iter().filter(|body| !seen.contains_key(*body)).collect();
        let unexpected: Vec<_> = seen.keys().filter(|body| !published.contains(*body)).collect();
        let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(lost.is_empty() && unexpected.is_empty(), "lost {lost:?}, unexpected {unexpected:?}");
        assert!(doubles || doubled.is_empty(), "doubled {doubled:?}");
    }
}

fn body(publisher: usize, number: usize) -> String {
    format!("{publisher}/{number}")
}

fn bodies(publishers: usize, count: usize) -> impl Iterator<Item = String> {
    (0..publishers).flat_map(move |publisher| (0..count).map(move |number| body(publisher, number)))
}

/// Publishers that send one by one and in batches.
fn publish_all(
    broker: &Arc<dyn Broker>,
    to: Destination,
    publishers: usize,
    count: usize,
) -> Vec<tokio::task::JoinHandle<()>> {
    (0..publishers)
        .map(|publisher| {
            let (broker, to) = (Arc::clone(broker), to.clone());
            tokio::spawn(async move {
                let options = PublishOptions::default().with_in_flight(8);
                let handle = broker.publisher(&to, options).await.unwrap();
                let mut number = 0;
                while number < count {
                    if number % 3 == 0 {
                        handle.publish(body(publisher, number)).await.unwrap();
                        number += 1;
                    } else {
                        let part =
                            (number..count.min(number + 20)).map(|n| body(publisher, n).into()).collect::<Vec<_>>();
                        number += part.len();
                        for result in handle.publish_batch(part).await {
                            result.unwrap();
                        }
                    }
                }
            })
        })
        .collect()
}

/// Handles deliveries until there are no more to come; says what ended it.
async fn handle(mut consumer: Consumer, ledger: Ledger, max: usize) -> Option<ErrorKind> {
    loop {
        let taken = match consumer.next_many(max).await {
            Ok(none) if none.is_empty() => return None,
            Ok(taken) => taken,
            Err(error) => return Some(error.kind()),
        };
        taken.iter().for_each(|delivery| ledger.note(text(delivery)));
        let count = taken.len() as u64;
        assert_eq!(Delivery::ack_all(taken).await.unwrap().acked, count);
    }
}

async fn settled(broker: &Arc<dyn Broker>, source: &Source) {
    let empty = async {
        while depth(broker, source).await.open() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, empty).await.expect("something is left");
}

#[test]
fn fifty_publishers_and_twenty_consumers_of_a_small_queue() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("capacity=30");
        let ledger = Ledger::default();
        let mut consumers = Vec::new();
        for number in 0..20 {
            let consumer = from_queue(&broker, 1 + number % 5).await;
            consumers.push(tokio::spawn(handle(consumer, ledger.clone(), 1 + number % 3)));
        }
        let bounded = Arc::new(AtomicBool::new(true));
        let watching = {
            let (broker, bounded) = (Arc::clone(&broker), Arc::clone(&bounded));
            tokio::spawn(async move {
                loop {
                    if depth(&broker, &of_queue()).await.open() > 30 {
                        bounded.store(false, Ordering::Release);
                    }
                    tokio::task::yield_now().await;
                }
            })
        };
        for task in publish_all(&broker, Destination::Queue(queue()), 50, 60) {
            soon(task).await.unwrap();
        }
        ledger.reached(3_000).await;
        watching.abort();
        settled(&broker, &of_queue()).await;
        ledger.check(bodies(50, 60), false);
        assert!(bounded.load(Ordering::Acquire), "more waited than the capacity");
        drop(broker.close(tokio::time::Instant::now()).await);
        for consumer in consumers {
            assert_eq!(soon(consumer).await.unwrap(), Some(ErrorKind::Closed));
        }
    });
}

#[test]
fn cancelled_receives_dropped_deliveries_and_consumers_that_come_and_go_lose_nothing() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("");
        let ledger = Ledger::default();
        let done = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for number in 0..8 {
            let (broker, ledger, done) = (Arc::clone(&broker), ledger.clone(), Arc::clone(&done));
            tasks.push(tokio::spawn(async move {
                let mut turn = number;
                while !done.load(Ordering::Acquire) {
                    // Comes, takes a few, some of them only to let them fall, and leaves with one in its hands.
                    let mut consumer = from_queue(&broker, 1 + turn % 4).await;
                    for _ in 0..20 {
                        turn += 1;
                        let wait = Duration::from_micros((turn % 7) as u64 * 100);
                        let Ok(next) = tokio::time::timeout(wait, consumer.next()).await else { continue };
                        let delivery = next.unwrap().unwrap();
                        match turn % 11 {
                            0 if delivery.attempt() < 2 => drop(delivery),
                            1 => assert!(delivery.release().await.is_ok()),
                            2 => assert!(delivery.retry().await.is_ok()),
                            3 if delivery.attempt() < 2 => {
                                drop(consumer);
                                assert_eq!(delivery.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
                                consumer = from_queue(&broker, 2).await;
                            }
                            _ => {
                                ledger.note(text(&delivery));
                                delivery.ack().await.unwrap();
                            }
                        }
                    }
                }
            }));
        }
        for task in publish_all(&broker, Destination::Queue(queue()), 4, 500) {
            soon(task).await.unwrap();
        }
        ledger.reached(2_000).await;
        done.store(true, Ordering::Release);
        for task in tasks {
            soon(task).await.unwrap();
        }
        settled(&broker, &of_queue()).await;
        ledger.check(bodies(4, 500), false);
    });
}

#[test]
fn cancelled_publishes_arrive_at_most_once_and_the_others_are_unharmed() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("capacity=4");
        let ledger = Ledger::default();
        let consumer = from_queue(&broker, 2).await;
        let consumer = tokio::spawn(handle(consumer, ledger.clone(), 1));
        let options = PublishOptions::default().with_in_flight(5);
        let publisher = broker.publisher(&Destination::Queue(queue()), options).await.unwrap();
        let mut tasks = Vec::new();
        for number in 0..10 {
            let publisher = Arc::clone(&publisher);
            tasks.push(tokio::spawn(async move {
                for n in 0..100 {
                    let publish = publisher.publish(body(number, n));
                    if number < 5 {
                        publish.await.unwrap();
                    } else {
                        let _ = tokio::time::timeout(Duration::from_micros(n as u64 % 50), publish).await;
                    }
                }
            }));
        }
        for task in tasks {
            soon(task).await.unwrap();
        }
        // The last one goes behind all that still waits.
        publisher.publish("last").await.unwrap();
        soon(publisher.flush(tokio::time::Instant::now() + SOON)).await.unwrap();
        settled(&broker, &of_queue()).await;
        let seen = ledger.seen.lock().unwrap().clone();
        let kept = bodies(5, 100).chain(["last".to_owned()]);
        assert!(kept.into_iter().all(|body| seen.contains_key(&body)));
        ledger.check(seen.into_keys(), false);
        consumer.abort();
    });
}

#[test]
fn a_hundred_subscriptions_each_get_everything_in_order() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("capacity=20&retention=0");
        let mut tasks = Vec::new();
        for number in 0..100 {
            let options = durable(&format!("s{number}")).with_consume(ConsumeOptions::default().with_prefetch(4));
            let mut consumer = broker.subscribe(&topic(), options).await.unwrap();
            tasks.push(tokio::spawn(async move {
                for expected in 0..200 {
                    let delivery = next(&mut consumer).await;
                    assert_eq!(text(&delivery), body(0, expected));
                    delivery.ack().await.unwrap();
                    if number == 0 {
                        // The slow one bounds them all.
                        tokio::task::yield_now().await;
                    }
                }
            }));
        }
        for task in publish_all(&broker, Destination::Topic(topic()), 1, 200) {
            soon(task).await.unwrap();
        }
        for task in tasks {
            soon(task).await.unwrap();
        }
        for number in 0..100 {
            assert_eq!(broker.inspect().lag(&of_subscription(&format!("s{number}"))).await.unwrap(), 0);
        }
    });
}

#[test]
fn members_of_a_subscription_share_it_while_ephemeral_ones_come_and_go() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("capacity=50");
        let ledger = Ledger::default();
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let consumer = broker.subscribe(&topic(), durable("shared")).await.unwrap();
            let ledger = ledger.clone();
            tasks.push(tokio::spawn(async move {
                let _ = handle(consumer, ledger, 3).await;
            }));
        }
        for _ in 0..3 {
            let broker = Arc::clone(&broker);
            tasks.push(tokio::spawn(async move {
                loop {
                    let mut passing = broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.unwrap();
                    for _ in 0..5 {
                        let _ = tokio::time::timeout(Duration::from_millis(1), passing.next()).await;
                    }
                }
            }));
        }
        for task in publish_all(&broker, Destination::Topic(topic()), 5, 400) {
            soon(task).await.unwrap();
        }
        ledger.reached(2_000).await;
        tasks.iter().for_each(|task| task.abort());
        ledger.check(bodies(5, 400), false);
    });
}

#[test]
fn keys_keep_their_order_among_many_consumers_that_fail_now_and_then() {
    on_both_runtimes(|| async {
        const KEYS: usize = 10;
        const EACH: usize = 100;
        let (_server, broker) = open("");
        let publisher = to_queue(&broker).await;
        let order: Arc<Mutex<BTreeMap<String, Vec<usize>>>> = Arc::default();
        let out: Arc<Mutex<std::collections::BTreeSet<String>>> = Arc::default();
        let handled = Ledger::default();
        let takers = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for _ in 0..6 {
            let options =
                ConsumeOptions::default().with_prefetch(4).with_order(Order::ByKey).with_retry_mode(RetryMode::Hold);
            let mut consumer = broker.consume(&queue(), options).await.unwrap();
            let (order, out, handled, takers) =
                (Arc::clone(&order), Arc::clone(&out), handled.clone(), Arc::clone(&takers));
            tasks.push(tokio::spawn(async move {
                let mut took = false;
                while let Some(delivery) = consumer.next().await.unwrap() {
                    if !took {
                        took = true;
                        takers.fetch_add(1, Ordering::Relaxed);
                    }
                    let key = delivery.message().key().unwrap().to_owned();
                    assert!(out.lock().unwrap().insert(key.clone()), "two of key {key} at once");
                    tokio::task::yield_now().await;
                    let number: usize = text(&delivery).parse().unwrap();
                    let fails = number.is_multiple_of(7) && delivery.attempt() == 1;
                    if !fails {
                        order.lock().unwrap().entry(key.clone()).or_default().push(number);
                        handled.note(format!("{key} {number}"));
                    }
                    out.lock().unwrap().remove(&key);
                    if fails {
                        delivery.retry_after(Duration::from_millis(3)).await.unwrap();
                    } else {
                        delivery.ack().await.unwrap();
                    }
                }
            }));
        }
        for number in 0..EACH {
            for key in 0..KEYS {
                let message = Message::builder(number.to_string()).key(format!("key {key}")).build().unwrap();
                publisher.publish(message).await.unwrap();
            }
        }
        handled.reached(KEYS * EACH).await;
        tasks.iter().for_each(|task| task.abort());
        for (key, numbers) in order.lock().unwrap().iter() {
            assert_eq!(*numbers, (0..EACH).collect::<Vec<_>>(), "{key}");
        }
        assert!(takers.load(Ordering::Relaxed) >= 2, "one consumer alone proves nothing");
    });
}

#[test]
fn a_lonely_message_always_finds_one_of_those_who_wait() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("");
        let publisher = to_queue(&broker).await;
        let ledger = Ledger::default();
        let mut tasks = Vec::new();
        for number in 0..4 {
            let mut consumer = from_queue(&broker, 1).await;
            let ledger = ledger.clone();
            tasks.push(tokio::spawn(async move {
                loop {
                    // Half of them are impatient.
                    let wait = if number % 2 == 0 { SOON } else { Duration::from_micros(300) };
                    if let Ok(delivery) = tokio::time::timeout(wait, consumer.next()).await {
                        let delivery = delivery.unwrap().unwrap();
                        let body = text(&delivery);
                        // Settled by another task, as handlers do.
                        tokio::spawn(async move { delivery.ack().await });
                        ledger.note(body);
                    }
                }
            }));
        }
        for number in 0..1_000 {
            publisher.publish(body(0, number)).await.unwrap();
            ledger.reached(number + 1).await;
        }
        tasks.iter().for_each(|task| task.abort());
        ledger.check(bodies(1, 1_000), false);
    });
}

#[test]
fn transactions_between_queues_move_each_message_once_and_do_not_wait_in_a_circle() {
    on_both_runtimes(|| async {
        let (_server, broker) = open("");
        let names = ["a", "b", "c"].map(|name| messaging_core::QueueName::parse(name).unwrap());
        for name in &names {
            let publisher =
                broker.publisher(&Destination::Queue(name.clone()), PublishOptions::default()).await.unwrap();
            for number in 0..30 {
                publisher.publish(format!("{name} {number}")).await.unwrap();
            }
        }
        let moved = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for number in 0..9 {
            let (broker, moved) = (Arc::clone(&broker), Arc::clone(&moved));
            let (from, to) = (names[number % 3].clone(), names[(number + 1 + number / 3 % 2) % 3].clone());
            tasks.push(tokio::spawn(async move {
                let mut consumer = broker.consume(&from, ConsumeOptions::default().with_prefetch(3)).await.unwrap();
                while moved.load(Ordering::Relaxed) < 1_000 {
                    let Ok(next) = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await else {
                        continue;
                    };
                    let delivery = next.unwrap().unwrap();
                    let mut transaction = broker.begin().await.unwrap();
                    transaction.send(&Destination::Queue(to.clone()), delivery.message().clone()).unwrap();
                    transaction.ack(delivery);
                    transaction.commit().await.unwrap();
                    moved.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        for task in tasks {
            soon(task).await.unwrap();
        }
        let ledger = Ledger::default();
        for name in &names {
            let mut consumer = broker.consume(name, ConsumeOptions::default().with_prefetch(1_000)).await.unwrap();
            while let Ok(next) = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await {
                let delivery = next.unwrap().unwrap();
                ledger.note(text(&delivery));
                delivery.ack().await.unwrap();
            }
        }
        ledger.check(["a", "b", "c"].into_iter().flat_map(|name| (0..30).map(move |n| format!("{name} {n}"))), false);
    });
}

#[test]
fn leaving_and_cutting_while_messages_move_doubles_some_and_loses_none() {
    on_both_runtimes(|| async {
        let (server, broker) = open("");
        let ledger = Ledger::default();
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let mut consumer = from_queue(&broker, 4).await;
            let ledger = ledger.clone();
            tasks.push(tokio::spawn(async move {
                while let Some(delivery) = consumer.next().await.unwrap() {
                    tokio::task::yield_now().await;
                    let body = text(&delivery);
                    // Noted before it is settled: a cut in between doubles it.
                    ledger.note(body);
                    let _ = delivery.ack().await;
                }
            }));
        }
        // Opened before the server may be stopped.
        let publisher = to_queue(&broker).await;
        let cutting = tokio::spawn(async move {
            for turn in 0..200 {
                if turn % 3 == 0 {
                    server.restart(adapter_memory::Data::Keep)
                } else {
                    server.cut_consumers()
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
        for number in 0..1_000 {
            while publisher.publish(body(0, number)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        soon(cutting).await.unwrap();
        ledger.reached(1_000).await;
        settled(&broker, &of_queue()).await;
        tasks.iter().for_each(|task| task.abort());
        ledger.check(bodies(1, 1_000), true);
    });
}
