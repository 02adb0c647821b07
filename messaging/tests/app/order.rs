//! Competing workers, and order by key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use messaging::{App, Attempt, Listen, Message, Order, Retry, State};
use tokio::time::sleep;

use super::support::{Seen, text, until_tally};

#[derive(Clone, Default)]
struct Busy {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Busy {
    async fn during(&self, work: impl Future<Output = ()>) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        work.await;
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_so_many_are_handled_at_once() {
    async fn handle(State(busy): State<Busy>) {
        busy.during(sleep(Duration::from_millis(10))).await;
    }
    for concurrency in [1, 2, 8] {
        let busy = Busy::default();
        let mut app = App::new().state(busy.clone()).listen(Listen::queue("q").concurrency(concurrency), handle);
        let publisher = app.publisher("q");
        let running = app.start().await.unwrap();
        for n in 0..40 {
            publisher.publish(n.to_string()).await.unwrap();
        }
        until_tally(&running, "q", |tally| tally.acked == 40).await;
        assert_eq!(busy.most.load(Ordering::SeqCst), concurrency);
    }
}

/// An idle worker gets the next message though another is busy for long.
#[tokio::test(start_paused = true)]
async fn a_busy_worker_keeps_nothing_from_idle_ones() {
    async fn handle(payload: Bytes, State(seen): State<Seen<String>>) {
        if payload == "slow" {
            sleep(Duration::from_secs(600)).await;
        }
        seen.add(text(&payload));
    }
    let seen = Seen::<String>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("q").concurrency(2), handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("slow").await.unwrap();
    for n in 0..100 {
        publisher.publish(n.to_string()).await.unwrap();
    }
    seen.reach(100).await;
    assert!(seen.times().iter().all(|at| *at < Duration::from_secs(600)), "they waited for the slow one");
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_on_several_threads_handle_everything_once() {
    async fn handle(payload: Bytes, State(seen): State<Seen<String>>) {
        if payload.len().is_multiple_of(2) {
            tokio::task::yield_now().await;
        }
        seen.add(text(&payload));
    }
    let seen = Seen::<String>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("q").concurrency(8), handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for round in 0..20 {
        for n in 0..200 {
            publisher.publish(format!("{round}-{n}")).await.unwrap();
        }
        // Idle in between, so that sleeping and waking are tried too.
        let all = (round + 1) * 200;
        until_tally(&running, "q", |tally| tally.acked == all).await;
    }
    let mut all = seen.all();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4_000);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_a_key_is_kept_through_retries_while_other_keys_flow() {
    async fn handle(
        message: Message,
        Attempt(attempt): Attempt,
        State(seen): State<Seen<(String, u32)>>,
    ) -> Result<(), String> {
        let number: u32 = text(message.payload()).parse().unwrap();
        sleep(Duration::from_millis(u64::from(number % 7))).await;
        if number.is_multiple_of(5) && attempt < 3 {
            return Err("not yet".to_owned());
        }
        seen.add((message.key().unwrap().to_owned(), number));
        Ok(())
    }
    let seen = Seen::<(String, u32)>::new();
    let listen = Listen::queue("q").concurrency(8).order_by(Order::ByKey).retry(Retry::default().attempts(4));
    let mut app = App::new().state(seen.clone()).listen(listen, handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for number in 0..200 {
        let key = format!("customer-{}", number % 10);
        publisher.publish(Message::builder(number.to_string()).key(key).build().unwrap()).await.unwrap();
    }
    let counts = until_tally(&running, "q", |tally| tally.acked == 200).await;
    assert_eq!((counts.retried, counts.dead_lettered), (80, 0));
    let mut last = HashMap::new();
    for (key, number) in seen.all() {
        assert!(last.insert(key.clone(), number).is_none_or(|before| before < number), "{key}: {number} came late");
    }
    // Keys without failures did not wait for those with.
    let all = seen.all();
    let of = |key: &str| all.iter().rposition(|(one, _)| one == key).unwrap();
    assert!(of("customer-1") < of("customer-5"));
}

#[tokio::test(start_paused = true)]
async fn without_order_a_retried_message_lands_behind_later_ones() {
    async fn handle(payload: Bytes, Attempt(attempt): Attempt, State(seen): State<Seen<String>>) -> Result<(), String> {
        if payload == "1" && attempt == 1 {
            return Err("once".to_owned());
        }
        seen.add(text(&payload));
        Ok(())
    }
    let seen = Seen::<String>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("q"), handle);
    let publisher = app.publisher("q");
    let _running = app.start().await.unwrap();
    for payload in ["1", "2", "3"] {
        publisher.publish(payload).await.unwrap();
    }
    seen.reach(3).await;
    assert_eq!(seen.all(), ["2", "3", "1"]);
}
