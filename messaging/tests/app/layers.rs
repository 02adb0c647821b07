//! Layers around one listener and around all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use messaging::{App, FailureKind, Incoming, Listen, Listener, Retry};
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service, ServiceBuilder};

use super::support::{Seen, dead_letters, queue, until_tally};

/// Writes down its name before it passes a delivery on.
#[derive(Clone)]
struct Note(&'static str, Seen<String>);

#[derive(Clone)]
struct Noting<S>(Note, S);

impl<S> Layer<S> for Note {
    type Service = Noting<S>;

    fn layer(&self, inner: S) -> Noting<S> {
        Noting(self.clone(), inner)
    }
}

impl<S: Service<Incoming>> Service<Incoming> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.1.poll_ready(cx)
    }

    fn call(&mut self, incoming: Incoming) -> S::Future {
        let Note(name, seen) = &self.0;
        seen.add(format!("{name} {} {}", incoming.listener(), incoming.attempt()));
        self.1.call(incoming)
    }
}

async fn nothing() {}

#[tokio::test(start_paused = true)]
async fn those_of_the_app_are_around_those_of_the_listener() {
    let seen = Seen::<String>::new();
    let note = |name| Note(name, seen.clone());
    let statically = Listener::layered(Listen::queue("a"), note("inner"), nothing);
    let mut app = App::new()
        .layer(note("outermost"))
        .layer(note("outer"))
        .mount([statically, Listener::new(Listen::queue("b"), nothing).layer(note("inner"))]);
    let (a, b) = (app.publisher("a"), app.publisher("b"));
    let running = app.start().await.unwrap();
    a.publish("x").await.unwrap();
    until_tally(&running, "a", |tally| tally.acked == 1).await;
    b.publish("x").await.unwrap();
    until_tally(&running, "b", |tally| tally.acked == 1).await;
    let expected = ["outermost a 1", "outer a 1", "inner a 1", "outermost b 1", "outer b 1", "inner b 1"];
    assert_eq!(seen.all(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_layer_is_one_of_the_handler() {
    async fn hang() {
        std::future::pending::<()>().await;
    }
    let listen = Listen::queue("q").retry(Retry::none());
    let mut app = App::new().mount([Listener::layered(listen, TimeoutLayer::new(Duration::from_secs(3)), hang)]);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("x").await.unwrap();
    let counts = until_tally(&running, "q", |tally| tally.dead_lettered == 1).await;
    assert_eq!((counts.handler_errors, counts.timeouts), (1, 0));
    let dead = dead_letters(&running, &queue("q")).await.remove(0);
    assert_eq!(dead.reason.errors, ["request timed out"]);
}

/// A failure keeps its kind through layers that box errors.
#[tokio::test(start_paused = true)]
async fn a_rejection_survives_boxing_layers() {
    async fn reject() -> Result<(), messaging::HandlerError> {
        Err(messaging::HandlerError::reject("never"))
    }
    let mut app = App::new()
        .layer(TimeoutLayer::new(Duration::from_secs(3)))
        .layer(ServiceBuilder::new().map_err(|error: messaging::BoxError| {
            let failure = error.downcast_ref::<messaging::Failure>().expect("layers see what failed");
            assert_eq!(failure.kind(), FailureKind::Handler);
            error
        }))
        .listen(Listen::queue("q"), reject);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("x").await.unwrap();
    let counts = until_tally(&running, "q", |tally| tally.dead_lettered == 1).await;
    assert_eq!(counts.retried, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shared_limit_holds_over_all_listeners() {
    async fn handle(messaging::State((now, most)): messaging::State<(Arc<AtomicU32>, Arc<AtomicU32>)>) {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        now.fetch_sub(1, Ordering::SeqCst);
    }
    let counts: (Arc<AtomicU32>, Arc<AtomicU32>) = Default::default();
    let limit = tower::limit::GlobalConcurrencyLimitLayer::new(2);
    let mut app = App::new()
        .state(counts.clone())
        .layer(limit)
        .layer(ConcurrencyLimitLayer::new(100))
        .listen(Listen::queue("a").concurrency(4), handle)
        .listen(Listen::queue("b").concurrency(4), handle);
    let (a, b) = (app.publisher("a"), app.publisher("b"));
    let running = app.start().await.unwrap();
    for _ in 0..20 {
        a.publish("x").await.unwrap();
        b.publish("x").await.unwrap();
    }
    for id in ["a", "b"] {
        until_tally(&running, id, |tally| tally.acked == 20).await;
    }
    assert_eq!(counts.1.load(Ordering::SeqCst), 2);
}
