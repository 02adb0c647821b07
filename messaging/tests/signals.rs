//! Signals end an application in order. Alone in its process: every application of a process hears them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![cfg(all(unix, feature = "memory"))]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging::{App, Listen, State};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

fn signal(name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &std::process::id().to_string()]).status().unwrap();
    assert!(status.success());
}

async fn take_as_long_as_it_says(payload: bytes::Bytes, State(started): State<Arc<Notify>>) {
    let milliseconds = std::str::from_utf8(&payload).unwrap().parse().unwrap();
    started.notify_one();
    sleep(Duration::from_millis(milliseconds)).await;
}

/// Runs an application until its handler has begun, which takes so long.
async fn running(milliseconds: u64) -> tokio::task::JoinHandle<messaging::ShutdownReport> {
    let started = Arc::new(Notify::new());
    let mut app = App::new().state(started.clone()).listen(Listen::queue("q"), take_as_long_as_it_says);
    let publisher = app.publisher("q");
    let task = tokio::spawn(async move { app.run().await.unwrap() });
    while publisher.publish(milliseconds.to_string()).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    started.notified().await;
    task
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    for name in ["TERM", "INT"] {
        let task = running(300).await;
        signal(name);
        let report = timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
        assert!(report.is_complete(), "{name}: {report}");
        assert_eq!((report.total.settled, report.ledger.total().acked), (1, 1), "{name}: {report}");
    }

    let task = running(3_600_000).await;
    let begun = Instant::now();
    signal("INT");
    sleep(Duration::from_millis(100)).await;
    assert!(!task.is_finished(), "it did not wait for the handler");
    signal("INT");
    let report = timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!((report.total.settled, report.total.abandoned), (0, 1), "{report}");
}
