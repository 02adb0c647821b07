//! The whole way: built, published, decoded, handled and settled, through `App`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use messaging::{App, Json, Listen, Message, PublisherExt};
use tokio::sync::{Notify, mpsc};

use super::{WAITING_LIMIT, load};
use crate::compare::Case;
use crate::flavour::Flavour;
use crate::order::Order;

pub(crate) fn cases(flavour: Flavour) -> Vec<Case> {
    let case = |setting: &str, ours: fn(Flavour, u64) -> Duration, reference: fn(Flavour, u64) -> Duration| Case {
        name: "listener",
        setting: setting.to_owned(),
        flavour,
        begin: 2_000,
        ours: Box::new(move |messages| ours(flavour, messages)),
        references: vec![("tokio mpsc", None, Box::new(move |messages| reference(flavour, messages)))],
    };
    vec![case("Bytes", bytes, bytes_by_channel), case("Json", json, json_by_channel)]
}

/// Publish to settled: each message is a clone of one that was built before.
pub(crate) fn bytes(flavour: Flavour, messages: u64) -> Duration {
    let prepared = load::message();
    through_bytes(flavour, messages, move |_| prepared.clone())
}

/// The same with every message built anew.
pub(crate) fn bytes_built(flavour: Flavour, messages: u64) -> Duration {
    through_bytes(flavour, messages, built)
}

fn through_bytes(flavour: Flavour, messages: u64, make: impl Fn(u64) -> Message + Send + 'static) -> Duration {
    let progress = Progress::new(messages);
    let counted = Arc::clone(&progress);
    let handler = move |payload: Bytes| {
        counted.handled(payload.len() as u64);
        std::future::ready(())
    };
    flavour.runtime().block_on(async move {
        let app = app().listen(listen(), handler);
        run(app, messages, make, progress).await
    })
}

pub(crate) fn json(flavour: Flavour, messages: u64) -> Duration {
    let progress = Progress::new(messages);
    let counted = Arc::clone(&progress);
    let handler = move |Json(order): Json<Order>| {
        counted.handled(order.id);
        std::future::ready(())
    };
    flavour.runtime().block_on(async move {
        let app = app().listen(listen(), handler);
        run(app, messages, encoded, progress).await
    })
}

/// Share of it that building the messages costs.
pub(crate) fn build_only(messages: u64) -> Duration {
    let begun = Instant::now();
    for number in 0..messages {
        black_box(built(number));
    }
    begun.elapsed()
}

fn app() -> App {
    App::new().broker("main", load::broker(&format!("capacity={WAITING_LIMIT}")))
}

fn listen() -> Listen {
    Listen::queue("work").prefetch(WAITING_LIMIT)
}

async fn run(
    app: App,
    messages: u64,
    make: impl Fn(u64) -> Message + Send + 'static,
    progress: Arc<Progress>,
) -> Duration {
    let app = app.start().await.unwrap();
    let publisher = app.publisher("work").await.unwrap();
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        for number in 0..messages {
            publisher.publish(make(number)).await.unwrap();
        }
    });
    publishing.await.unwrap();
    progress.done.notified().await;
    let took = begun.elapsed();
    let report = app.shutdown().await.unwrap();
    black_box(report);
    took
}

fn built(_number: u64) -> Message {
    load::build(Bytes::copy_from_slice(&[7; 256]))
}

fn encoded(number: u64) -> Message {
    Json(&Order::numbered(number))
        .into_message()
        .unwrap()
        .header("tenant", "acme")
        .header("region", "eu-west")
        .build()
        .unwrap()
}

fn bytes_by_channel(flavour: Flavour, messages: u64) -> Duration {
    let prepared = load::message();
    by_channel(flavour, messages, move |_| prepared.clone(), |message| message.payload().len() as u64)
}

fn json_by_channel(flavour: Flavour, messages: u64) -> Duration {
    by_channel(flavour, messages, encoded, |message| serde_json::from_slice::<Order>(message.payload()).unwrap().id)
}

/// The same work without any broker: the receiver handles what it receives.
fn by_channel(
    flavour: Flavour,
    messages: u64,
    make: impl Fn(u64) -> Message + Send + 'static,
    handle: fn(&Message) -> u64,
) -> Duration {
    flavour.runtime().block_on(async move {
        let progress = Progress::new(messages);
        let begun = Instant::now();
        let (sender, mut receiver) = mpsc::channel(WAITING_LIMIT);
        let publishing = tokio::spawn(async move {
            for number in 0..messages {
                sender.send(make(number)).await.unwrap();
            }
        });
        let handling = tokio::spawn(async move {
            while let Some(message) = receiver.recv().await {
                progress.handled(handle(&message));
            }
        });
        publishing.await.unwrap();
        handling.await.unwrap();
        begun.elapsed()
    })
}

/// How many are still to be handled.
struct Progress {
    left: AtomicU64,
    seen: AtomicU64,
    done: Notify,
}

impl Progress {
    fn new(messages: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(messages), seen: AtomicU64::new(0), done: Notify::new() })
    }

    /// One worker handles, so that plain loads and stores do.
    fn handled(&self, seen: u64) {
        self.seen.store(self.seen.load(Ordering::Relaxed).wrapping_add(seen), Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed) - 1;
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            self.done.notify_one();
        }
    }
}
