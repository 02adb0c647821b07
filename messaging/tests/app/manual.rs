//! Settling by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use messaging::{AckMode, App, Attempt, DeadLetterReason, ErrorKind, Listen, Retry, Settle, State};
use parking_lot::Mutex;

use super::support::{Seen, dead_letters, queue, tally, text, until_tally};

fn by_hand() -> Listen {
    Listen::queue("orders").ack(AckMode::Manual).retry(Retry::default().attempts(3))
}

#[tokio::test(start_paused = true)]
async fn every_settlement_is_counted() {
    async fn handle(
        payload: Bytes,
        Attempt(attempt): Attempt,
        settle: Settle,
        State(seen): State<Seen<(String, u32)>>,
    ) {
        let what = text(&payload);
        seen.add((what.clone(), attempt));
        match (what.as_str(), attempt) {
            ("retry", 1) => settle.retry().await.unwrap(),
            ("later", 1) => settle.retry_after(Duration::from_secs(10)).await.unwrap(),
            // Taking effect does not wait for the answer.
            ("dead", _) => drop(settle.dead_letter("unwanted")),
            _ => settle.ack().await.unwrap(),
        }
    }
    let seen = Seen::<(String, u32)>::new();
    let mut app = App::new().state(seen.clone()).listen(by_hand(), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for payload in ["ack", "retry", "later", "dead"] {
        orders.publish(payload).await.unwrap();
    }
    let counts = until_tally(&running, "orders", |tally| tally.acked == 3).await;
    assert_eq!((counts.received, counts.retried, counts.dead_lettered, counts.handler_errors), (6, 2, 1, 0));
    assert_eq!(dead_letters(&running, &queue("orders")).await[0].reason.code, "unwanted");
    assert!(seen.times().last().unwrap() >= &Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn released_messages_come_again_uncounted() {
    async fn handle(settle: Settle, Attempt(attempt): Attempt, State(seen): State<Seen<u32>>) {
        seen.add(attempt);
        if seen.len() == 1 { settle.release().await.unwrap() } else { settle.ack().await.unwrap() }
    }
    let seen = Seen::<u32>::new();
    let mut app = App::new().state(seen.clone()).listen(by_hand(), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("x").await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.acked == 1).await;
    assert_eq!((counts.received, counts.released), (2, 1));
    assert_eq!(seen.all(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_before_settling_is_retried_as_usual() {
    async fn handle(payload: Bytes, settle: Settle) -> Result<(), String> {
        let _held = settle;
        assert!(payload != "panic", "on purpose");
        Err("not today".to_owned())
    }
    let mut app = App::new().listen(by_hand(), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for payload in ["error", "panic"] {
        orders.publish(payload).await.unwrap();
    }
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 2).await;
    assert_eq!((counts.retried, counts.handler_errors, counts.panics), (4, 3, 3));
    for dead in dead_letters(&running, &queue("orders")).await {
        assert_eq!(dead.reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED);
    }
}

#[tokio::test(start_paused = true)]
async fn returning_without_settling_is_an_error() {
    async fn forgets(settle: Settle) {
        drop(settle);
    }
    let mut app = App::new().listen(by_hand(), forgets);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("x").await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;
    assert_eq!((counts.received, counts.retried), (3, 2));
    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert!(dead.reason.errors[0].contains("returned without settling"), "{:?}", dead.reason);
}

type Held = Arc<Mutex<Vec<Settle>>>;

async fn collect(settle: Settle, State(held): State<Held>) {
    held.lock().push(settle);
}

fn taken(held: &Held) -> Vec<Settle> {
    std::mem::take(&mut *held.lock())
}

#[tokio::test(start_paused = true)]
async fn many_may_be_held_and_settled_together_later() {
    let held = Held::default();
    let mut app = App::new().state(held.clone()).listen(by_hand().prefetch(10), collect);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for n in 0..15 {
        orders.publish(n.to_string()).await.unwrap();
    }
    let counts = until_tally(&running, "orders", |tally| tally.received == 10).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tally(&running, "orders").received, 10, "more than the prefetch is held");
    assert_eq!((counts.acked, counts.in_flight), (0, 10));

    for settle in taken(&held) {
        settle.ack().await.unwrap();
    }
    until_tally(&running, "orders", |tally| tally.received == 15).await;
    // Those that nobody settles are the broker's to give out again.
    drop(taken(&held));
    let counts = until_tally(&running, "orders", |tally| tally.received == 20).await;
    assert_eq!((counts.acked, counts.retried, counts.in_flight), (10, 5, 5));
    for settle in taken(&held) {
        settle.ack().await.unwrap();
    }
    until_tally(&running, "orders", |tally| tally.acked == 15 && tally.in_flight == 0).await;
    assert!(running.shutdown().await.unwrap().is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_is_held_and_takes_it_back_at_the_deadline() {
    let held = Held::default();
    let mut app = App::new().state(held.clone()).listen(by_hand(), collect);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for n in 0..3 {
        orders.publish(n.to_string()).await.unwrap();
    }
    until_tally(&running, "orders", |tally| tally.in_flight == 3).await;
    let first = held.lock().remove(0);
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.ack().await.unwrap();
    });
    let report = running.shutdown_within(Duration::from_secs(5)).await.unwrap();
    later.await.unwrap();
    assert_eq!((report.total.settled, report.total.abandoned), (1, 2));
    let late = taken(&held).remove(0).ack().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
}
