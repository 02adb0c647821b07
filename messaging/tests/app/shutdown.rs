//! Stop, drain, give back, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapter_memory::MemoryServer;
use bytes::Bytes;
use messaging::{App, Listen, State};
use tokio::time::{Instant, sleep};

use super::support::{Seen, queue, text, until, until_tally};

/// Even ones take 0.5 s, odd ones an hour.
async fn even_ones_finish(payload: Bytes, State(seen): State<Seen<String>>) {
    seen.add(text(&payload));
    let number: u32 = text(&payload).parse().unwrap();
    sleep(if number.is_multiple_of(2) { Duration::from_millis(500) } else { Duration::from_secs(3_600) }).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_in_flight_the_finished_are_settled_and_the_rest_given_back() {
    let server = MemoryServer::private();
    let seen = Seen::<String>::new();
    let listen = Listen::queue("q").concurrency(1_000).prefetch(1_000);
    let mut app = App::new().broker("main", server.broker()).state(seen.clone()).listen(listen, even_ones_finish);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for n in 0..1_500 {
        publisher.publish(n.to_string()).await.unwrap();
    }
    seen.reach(1_000).await;
    let begun = Instant::now();
    let report = running.shutdown_within(Duration::from_secs(1)).await.unwrap();

    assert!(begun.elapsed() < Duration::from_millis(1_100), "{:?}", begun.elapsed());
    assert_eq!((report.total.settled, report.total.abandoned), (500, 500), "{report}");
    assert_eq!(report.listeners, [("q".to_owned(), report.total)]);
    assert!(!report.is_complete() && report.errors.is_empty(), "{report}");
    let counts = report.ledger.total();
    assert!(report.ledger.balanced(), "{report}");
    assert_eq!((counts.acked, counts.retried, counts.dead_lettered, counts.in_flight), (500, 500, 0, 0));
    assert_eq!(seen.len(), 1_000, "a handler was started after the stop");

    let depth = server.broker().inspect().depth(&queue("q")).await.unwrap();
    assert_eq!((depth.open(), depth.unsettled, depth.dead), (1_000, Some(0), Some(0)));
    assert!(report.to_string().contains("500 finished, 0 given back unstarted, 500 abandoned"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn one_worker_finishes_what_it_has_begun_and_nothing_else() {
    let server = MemoryServer::private();
    let seen = Seen::<String>::new();
    let mut app =
        App::new().broker("main", server.broker()).state(seen.clone()).listen(Listen::queue("q"), even_ones_finish);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for n in (0..100).step_by(2) {
        publisher.publish(n.to_string()).await.unwrap();
    }
    seen.reach(1).await;
    let begun = Instant::now();
    let report = running.shutdown().await.unwrap();
    assert!(begun.elapsed() <= Duration::from_millis(510), "{:?}", begun.elapsed());
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.total.settled, seen.len()), (1, 1));
    assert_eq!(server.broker().inspect().depth(&queue("q")).await.unwrap().ready, 49);
}

#[tokio::test(start_paused = true)]
async fn an_idle_app_shuts_down_at_once() {
    async fn nothing() {}
    let app = App::new().listen(Listen::queue("a"), nothing).listen(Listen::queue("b").concurrency(5), nothing);
    let running = app.start().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let report = running.shutdown().await.unwrap();
    assert!(report.is_complete() && begun.elapsed() < Duration::from_millis(10), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_is_the_configurations() {
    async fn hang(State(seen): State<Seen<String>>) {
        seen.add(String::new());
        std::future::pending::<()>().await;
    }
    let seen = Seen::<String>::new();
    let config = super::support::memory_and("[app]\nshutdown_timeout = \"7s\"");
    let mut app = App::with_config(config).state(seen.clone()).listen(Listen::queue("q"), hang);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("x").await.unwrap();
    seen.reach(1).await;
    let begun = Instant::now();
    let report = running.shutdown().await.unwrap();
    assert!((7_000..7_100).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(report.total.abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn hurrying_does_not_wait_for_the_deadline() {
    async fn hang(State(seen): State<Seen<String>>) {
        seen.add(String::new());
        std::future::pending::<()>().await;
    }
    let seen = Seen::<String>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("q").concurrency(3), hang);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for _ in 0..3 {
        publisher.publish("x").await.unwrap();
    }
    seen.reach(3).await;
    let (hurry, begun) = (running.hurry(), Instant::now());
    let hurried = tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        hurry.now();
    });
    let report = running.shutdown_within(Duration::from_secs(60)).await.unwrap();
    hurried.await.unwrap();
    assert!((2_000..2_100).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!((report.total.abandoned, report.ledger.total().dead_lettered), (3, 0));
}

/// A handler that blocks its thread cannot be cancelled; the shutdown does not wait for it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_is_left_behind() {
    async fn block(State(release): State<Arc<AtomicBool>>, State(seen): State<Seen<String>>) {
        seen.add(String::new());
        while !release.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let (release, seen) = (Arc::new(AtomicBool::new(false)), Seen::<String>::new());
    let mut app = App::new().state(release.clone()).state(seen.clone()).listen(Listen::queue("q"), block);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("x").await.unwrap();
    seen.reach(1).await;
    let begun = Instant::now();
    let report = running.shutdown_within(Duration::from_millis(50)).await.unwrap();
    release.store(true, Ordering::SeqCst);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(report.total.abandoned, 1, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_app_gives_back_what_it_holds() {
    let server = MemoryServer::private();
    async fn hang(State(seen): State<Seen<String>>) {
        seen.add(String::new());
        std::future::pending::<()>().await;
    }
    let seen = Seen::<String>::new();
    let mut app =
        App::new().broker("main", server.broker()).state(seen.clone()).listen(Listen::queue("q").concurrency(2), hang);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for _ in 0..5 {
        publisher.publish("x").await.unwrap();
    }
    seen.reach(2).await;
    drop(running);
    let broker = server.broker();
    let mut ready = 0;
    for _ in 0..1_000 {
        ready = broker.inspect().depth(&queue("q")).await.unwrap().ready;
        if ready == 5 {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(ready, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_balances_at_any_time() {
    async fn handle(payload: Bytes) -> Result<(), String> {
        if payload.len() == 3 { Err("again".to_owned()) } else { Ok(()) }
    }
    let listen = Listen::queue("q").concurrency(4).retry(messaging::Retry::immediately().attempts(3));
    let mut app = App::new().listen(listen, handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    for n in 0..2_000 {
        publisher.publish(n.to_string()).await.unwrap();
        if n % 10 == 0 {
            let ledger = running.ledger();
            assert!(ledger.balanced() && ledger.total().in_flight <= 64, "{ledger}");
        }
    }
    let done = |tally: &messaging::Tally| tally.acked + tally.dead_lettered == 2_000;
    let counts = until_tally(&running, "q", done).await;
    assert_eq!((counts.acked, counts.dead_lettered, counts.retried), (1_100, 900, 1_800));
    let report = running.shutdown().await.unwrap();
    assert_eq!(report.ledger.total().in_flight, 0);
    assert!(report.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_ends_by_itself_is_told_by_health() {
    async fn nothing() {}
    let server = MemoryServer::private();
    let broker = server.broker();
    let app = App::new().broker("main", broker.clone()).listen(Listen::queue("q"), nothing);
    let running = app.start().await.unwrap();
    let _report = broker.close(Instant::now()).await;
    until("the listener is down", || running.health().to_string().contains("its consumer ended")).await;
}
