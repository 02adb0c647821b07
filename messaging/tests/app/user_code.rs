//! Code of the application that panics where nobody expects it: each fault counts as a panic of its delivery, and the next
//! message is handled.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use messaging::{App, BoxError, Failure, HandlerService, HealthState, Incoming, Listen, Listener, Retry, RunningApp};
use tokio::time::sleep;
use tower::{Layer, Service};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};

use super::support::{dead_letters, queue, until, until_tally};

/// An error that misbehaves in the way it is asked to.
#[derive(Debug)]
enum Broken {
    DisplayFails,
    DisplayPanics,
    SourcePanics,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DisplayFails => Err(fmt::Error),
            Self::DisplayPanics => panic!("a pattern of a date that does not exist"),
            Self::SourcePanics => f.write_str("broken"),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::SourcePanics => panic!("no source"),
            _ => None,
        }
    }
}

/// A value whose destructor panics.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped before it was finished");
        }
    }
}

/// An error whose destructor panics.
#[derive(Debug, thiserror::Error)]
#[error("an error with a guard inside")]
struct Guarded(GuardedInside);

struct GuardedInside(#[allow(dead_code, reason = "held for its destructor")] Unfinished);

impl fmt::Debug for GuardedInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inside")
    }
}

/// Fails in the way that the payload names; anything else is handled.
async fn handle(payload: Bytes) -> Result<(), BoxError> {
    match payload.as_ref() {
        b"display fails" => Err(Broken::DisplayFails.into()),
        b"display panics" => Err(Broken::DisplayPanics.into()),
        b"source panics" => Err(Broken::SourcePanics.into()),
        b"error's drop panics" => Err(Guarded(GuardedInside(Unfinished)).into()),
        b"panic's drop panics" => std::panic::panic_any(Unfinished),
        b"drop panics" => {
            let _held = Unfinished;
            Ok(())
        }
        b"drop panics after the timeout" => {
            let _held = Unfinished;
            sleep(Duration::from_secs(3_600)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

const FAULTS: [&str; 7] = [
    "display fails",
    "display panics",
    "source panics",
    "error's drop panics",
    "panic's drop panics",
    "drop panics",
    "drop panics after the timeout",
];

fn listen() -> Listen {
    Listen::queue("orders").timeout(Duration::from_millis(50)).retry(Retry::immediately().attempts(2))
}

fn listener_health(running: &RunningApp) -> HealthState {
    running.health().listeners[0].1.state
}

#[tokio::test(start_paused = true)]
async fn whatever_code_of_the_application_does_the_next_message_is_handled() {
    for fault in FAULTS {
        let mut app = App::new().listen(listen(), handle);
        let orders = app.publisher("orders");
        let running = app.start().await.unwrap();
        orders.publish(fault).await.unwrap();
        orders.publish("good").await.unwrap();
        let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1 && tally.acked == 1).await;
        let expected = match fault {
            "drop panics after the timeout" => (0, 2, 0),
            "error's drop panics" => (0, 0, 2),
            _ => (2, 0, 0),
        };
        assert_eq!((counts.panics, counts.timeouts, counts.handler_errors), expected, "{fault}");
        assert_eq!((counts.retried, counts.in_flight), (1, 0), "{fault}");
        assert_eq!(listener_health(&running), HealthState::Up, "{fault}");
        let dead = dead_letters(&running, &queue("orders")).await.remove(0);
        assert!(!dead.reason.errors[0].is_empty(), "{fault}");
        assert_eq!(running.shutdown().await.unwrap().errors.len(), 0, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_named_in_its_dead_letter() {
    let mut app = App::new().listen(listen(), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for fault in ["display fails", "display panics", "source panics"] {
        orders.publish(fault).await.unwrap();
    }
    until_tally(&running, "orders", |tally| tally.dead_lettered == 3).await;
    let errors: Vec<_> =
        dead_letters(&running, &queue("orders")).await.into_iter().map(|dead| dead.reason.errors).collect();
    assert_eq!(errors[0], ["an error whose text cannot be shown: its Display failed"]);
    assert_eq!(
        errors[1],
        ["an error whose text cannot be shown: its Display panicked: a pattern of a date that does not exist"]
    );
    assert_eq!(errors[2], ["broken", "the cause of this error cannot be read: it panicked: no source"]);
}

/// Faults and good messages in an order that a small generator draws, with three workers.
#[tokio::test(start_paused = true)]
async fn no_order_of_faults_leaves_a_listener_deaf() {
    for seed in 1..=20u64 {
        let mut app = App::new().listen(listen().concurrency(3), handle);
        let orders = app.publisher("orders");
        let running = app.start().await.unwrap();
        let mut drawn = seed;
        let mut faults = 0;
        for _ in 0..40 {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = (drawn >> 33) as usize % (2 * FAULTS.len());
            let payload = FAULTS.get(choice).copied().unwrap_or("good");
            faults += u64::from(payload != "good");
            orders.publish(payload).await.unwrap();
        }
        let counts = until_tally(&running, "orders", |tally| tally.dead_lettered + tally.acked == 40).await;
        assert_eq!((counts.dead_lettered, counts.in_flight), (faults, 0), "seed {seed}");
        assert_eq!(listener_health(&running), HealthState::Up, "seed {seed}");
    }
}

/// A layer whose service panics when it is cloned, as often as it is told.
#[derive(Clone)]
struct Fragile(Arc<AtomicUsize>);

impl<S> Layer<S> for Fragile {
    type Service = FragileService<S>;

    fn layer(&self, inner: S) -> FragileService<S> {
        FragileService { inner, clones_until_panic: self.0.clone() }
    }
}

struct FragileService<S> {
    inner: S,
    clones_until_panic: Arc<AtomicUsize>,
}

impl<S: Clone> Clone for FragileService<S> {
    fn clone(&self) -> Self {
        let left = self.clones_until_panic.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert_ne!(left, Ok(1), "this clone fails");
        Self { inner: self.inner.clone(), clones_until_panic: self.clones_until_panic.clone() }
    }
}

impl<S: Service<Incoming, Error = Failure>> Service<Incoming> for FragileService<S> {
    type Response = S::Response;
    type Error = Failure;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, incoming: Incoming) -> S::Future {
        self.inner.call(incoming)
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_is_started_again_and_health_says_so_until_then() {
    let clones = Arc::new(AtomicUsize::new(0));
    let listener =
        Listener::layered::<_, fn(Bytes) -> _, _>(listen(), Fragile(clones.clone()), |payload: Bytes| handle(payload));
    let mut app = App::new().mount([listener]);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("good").await.unwrap();
    until_tally(&running, "orders", |tally| tally.acked == 1).await;

    // A panic makes the worker clone its service anew, and that clone panics too.
    clones.store(1, Ordering::SeqCst);
    orders.publish("panic's drop panics").await.unwrap();
    until("the listener is down", || listener_health(&running) == HealthState::Down).await;
    let health = running.health().listeners[0].1.to_string();
    assert!(health.contains("1 of its 1 workers panicked") && health.contains("this clone fails"), "{health}");

    orders.publish("good").await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.acked == 2 && tally.dead_lettered == 1).await;
    assert_eq!(counts.in_flight, 0);
    assert_eq!(listener_health(&running), HealthState::Up);
}

/// A subscriber that panics at the first warning.
struct PanicsOnce(AtomicBool);

impl tracing::Subscriber for PanicsOnce {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        assert!(self.0.swap(true, Ordering::SeqCst), "the log is full");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_log_subscriber_that_panics_costs_one_attempt() {
    let _guard = tracing::subscriber::set_default(PanicsOnce(AtomicBool::new(false)));
    let mut app = App::new().listen(listen().retry(Retry::immediately().attempts(3)), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("display fails").await.unwrap();
    orders.publish("good").await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1 && tally.acked == 1).await;
    assert_eq!((counts.received, counts.retried, counts.in_flight), (4, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_state_whose_destructor_panics_does_not_spoil_the_shutdown() {
    let mut app = App::new().state(Arc::new(Unfinished)).listen(listen(), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("good").await.unwrap();
    until_tally(&running, "orders", |tally| tally.acked == 1).await;
    let report = running.shutdown().await.unwrap();
    assert!(report.is_complete(), "{report}");
}

/// The service that a layer is put around is public, so that a layer can name it.
#[allow(dead_code, reason = "compiled, not run")]
fn a_layer_can_name_the_service_of_a_handler(service: HandlerService<fn(Bytes), (Bytes,)>) -> impl fmt::Debug {
    service
}
