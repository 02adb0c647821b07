//! Handlers that fail, panic or take too long; messages that cannot be read; dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adapter_memory::MemoryServer;
use bytes::Bytes;
use messaging::{
    App, Attempt, DeadLetterPolicy, DeadLetterReason, HandlerError, Header, HealthState, Json, Listen, Message,
    NamedHeader, Redrive, Retry, State,
};
use serde::Deserialize;
use tokio::time::sleep;

use super::support::{Seen, dead_letters, queue, subscription, tally, text, until, until_tally};

#[derive(Debug, thiserror::Error)]
#[error("the order cannot be stored")]
struct Unstorable(#[source] std::io::Error);

async fn fails(Attempt(attempt): Attempt, State(seen): State<Seen<u32>>) -> Result<(), Unstorable> {
    seen.add(attempt);
    Err(Unstorable(std::io::Error::other("disk full")))
}

#[tokio::test(start_paused = true)]
async fn an_error_is_retried_with_backoff_and_then_dead_lettered() {
    let seen = Seen::<u32>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("orders"), fails);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    let message = Message::builder("x").key("k").header("tenant", "acme").build().unwrap();
    orders.publish(message.clone()).await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;

    assert_eq!(seen.all(), [1, 2, 3, 4, 5]);
    let times = seen.times();
    for (index, longest) in [200, 400, 800, 1_600].into_iter().enumerate() {
        let waited = times[index + 1] - times[index];
        let (shortest, longest) = (Duration::from_millis(longest / 2), Duration::from_millis(longest + 5));
        assert!((shortest..=longest).contains(&waited), "attempt {}: {waited:?}", index + 2);
    }
    assert_eq!((counts.received, counts.retried, counts.handler_errors, counts.in_flight), (5, 4, 5, 0));

    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert_eq!(dead.reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED);
    assert_eq!(dead.reason.errors, ["the order cannot be stored", "disk full"]);
    assert_eq!((dead.message.id(), dead.message.key()), (message.id(), Some("k")));
    assert_eq!((dead.message.payload(), dead.message.headers().get("tenant")), (&Bytes::from("x"), Some("acme")));
    assert_eq!((dead.origin, dead.attempts), (queue("orders"), 5));
}

#[tokio::test(start_paused = true)]
async fn a_redriven_message_begins_afresh_and_is_handled_once_the_cause_is_mended() {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Seen::<u32>::new();
    async fn handle(
        Attempt(attempt): Attempt,
        State(mended): State<Arc<AtomicBool>>,
        State(seen): State<Seen<u32>>,
    ) -> Result<(), String> {
        seen.add(attempt);
        if mended.load(Ordering::SeqCst) { Ok(()) } else { Err("broken".to_owned()) }
    }
    let mut app = App::new()
        .state(mended.clone())
        .state(seen.clone())
        .listen(Listen::queue("orders").retry(Retry::default().attempts(2)), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("x").await.unwrap();
    until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;

    mended.store(true, Ordering::SeqCst);
    let broker = running.broker("main").unwrap();
    assert_eq!(broker.repair().redrive(&queue("orders"), Redrive::All).await.unwrap(), 1);
    until_tally(&running, "orders", |tally| tally.acked == 1).await;
    assert_eq!(seen.all(), [1, 2, 1]);
    assert!(dead_letters(&running, &queue("orders")).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_that_is_counted_and_the_worker_goes_on() {
    async fn handle(payload: Bytes) {
        assert!(payload != "bad", "the payload is bad");
    }
    let mut app = App::new().listen(Listen::queue("orders").retry(Retry::default().attempts(3)), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for payload in ["bad", "good"] {
        orders.publish(payload).await.unwrap();
    }
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1 && tally.acked == 1).await;
    assert_eq!((counts.panics, counts.handler_errors, counts.retried), (3, 0, 2));
    let dead = dead_letters(&running, &queue("orders")).await;
    assert_eq!(dead[0].reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED);
    assert!(dead[0].reason.errors[0].contains("the handler panicked: the payload is bad"), "{:?}", dead[0].reason);
}

#[tokio::test(start_paused = true)]
async fn a_handler_past_its_timeout_is_cancelled() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    async fn handle(State(cancelled): State<Arc<AtomicBool>>) {
        let _flag = Flag(cancelled);
        sleep(Duration::from_secs(3_600)).await;
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let listen = Listen::queue("orders").timeout(Duration::from_secs(2)).retry(Retry::none());
    let mut app = App::new().state(cancelled.clone()).listen(listen, handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("x").await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;
    assert_eq!((counts.timeouts, counts.handler_errors), (1, 0));
    assert!(cancelled.load(Ordering::SeqCst), "the handler still runs");
    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert!(dead.reason.errors[0].contains("its timeout of 2s"), "{:?}", dead.reason);
}

#[derive(Debug, Deserialize)]
struct Order {
    id: u32,
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_dead_lettered_at_once_with_its_bytes() {
    async fn handle(Json(order): Json<Order>, State(seen): State<Seen<u32>>) {
        seen.add(order.id);
    }
    let seen = Seen::<u32>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("orders"), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    let bad = Message::new(r#"{"id":"s3cret"}"#);
    orders.publish(bad.clone()).await.unwrap();
    orders.publish(r#"{"id":7}"#).await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.acked == 1 && tally.dead_lettered == 1).await;
    assert_eq!((counts.undecodable, counts.retried, counts.handler_errors), (1, 0, 0));
    assert_eq!(seen.all(), [7]);
    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert_eq!(dead.reason.code, DeadLetterReason::UNDECODABLE);
    assert_eq!(dead.message.payload(), bad.payload());
    let why = dead.reason.errors.join("; ");
    assert!(why.contains(&bad.id().to_string()) && why.contains("id") && !why.contains("s3cret"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_header_that_is_missing_or_wrong_is_undecodable() {
    struct Tenant;
    impl NamedHeader for Tenant {
        const NAME: &'static str = "tenant";
        type Error = String;

        fn parse(value: &str) -> Result<Self, String> {
            if value == "acme" { Ok(Self) } else { Err("nobody knows it".to_owned()) }
        }
    }
    async fn handle(_: Header<Tenant>) {}
    let mut app = App::new().listen(Listen::queue("orders"), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("no header").await.unwrap();
    for tenant in ["acme", "other"] {
        orders.publish(Message::builder("x").header("tenant", tenant).build().unwrap()).await.unwrap();
    }
    until_tally(&running, "orders", |tally| tally.acked == 1 && tally.dead_lettered == 2).await;
    let dead = dead_letters(&running, &queue("orders")).await;
    assert!(dead[0].reason.errors[0].contains("has no header \"tenant\""), "{:?}", dead[0].reason);
    assert!(dead[1].reason.errors[0].contains("nobody knows it"), "{:?}", dead[1].reason);
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_reject_and_choose_the_delay() {
    async fn handle(payload: Bytes, attempt: Attempt, State(seen): State<Seen<String>>) -> Result<(), HandlerError> {
        seen.add(text(&payload));
        match (text(&payload).as_str(), attempt) {
            ("reject", _) => Err(HandlerError::reject("nothing was ordered")),
            ("code", _) => Err(HandlerError::reject_as("unknown_customer", std::io::Error::other("no such row"))),
            ("later", Attempt(1)) => Err(HandlerError::retry_after(Duration::from_secs(100))),
            _ => Ok(()),
        }
    }
    let seen = Seen::<String>::new();
    let mut app = App::new().state(seen.clone()).listen(Listen::queue("orders"), handle);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    for payload in ["reject", "code", "later"] {
        orders.publish(payload).await.unwrap();
    }
    let counts = until_tally(&running, "orders", |tally| tally.acked == 1).await;
    assert_eq!((counts.dead_lettered, counts.retried), (2, 1));
    let dead = dead_letters(&running, &queue("orders")).await;
    assert_eq!((&*dead[0].reason.code, &dead[0].reason.errors[0][..]), ("rejected", "nothing was ordered"));
    assert_eq!((&*dead[1].reason.code, &dead[1].reason.errors[0][..]), ("unknown_customer", "no such row"));
    let times = seen.times();
    assert!(times[3] - times[2] >= Duration::from_secs(100), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn discard_acknowledges_and_counts() {
    let seen = Seen::<u32>::new();
    let listen = Listen::queue("orders").retry(Retry::default().attempts(2)).dead_letter(DeadLetterPolicy::Discard);
    let mut app = App::new().state(seen.clone()).listen(listen, fails);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    orders.publish("x").await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.discarded == 1).await;
    assert_eq!((counts.received, counts.retried, counts.dead_lettered, counts.acked), (2, 1, 0, 0));
    assert!(dead_letters(&running, &queue("orders")).await.is_empty());
    let depth = running.broker("main").unwrap().inspect().depth(&queue("orders")).await.unwrap();
    assert_eq!(depth.open(), 0);
}

/// Deliveries that never reach a settlement, as when their process is killed, count towards the limit too.
#[tokio::test(start_paused = true)]
async fn a_message_with_more_attempts_than_allowed_does_not_reach_the_handler() {
    let server = MemoryServer::private();
    let consume = messaging::ConsumeOptions::default();
    let first = server.broker();
    let name = messaging::QueueName::parse("orders").unwrap();
    let publisher =
        first.publisher(&messaging::Destination::queue("orders").unwrap(), Default::default()).await.unwrap();
    messaging::PublisherExt::publish(&*publisher, "x").await.unwrap();
    for _ in 0..3 {
        let mut consumer = first.consume(&name, consume.clone()).await.unwrap();
        drop(consumer.next().await.unwrap().unwrap());
        drop(consumer);
    }
    let seen = Seen::<u32>::new();
    let listen = Listen::queue("orders").retry(Retry::default().attempts(3));
    let app = App::new().broker("main", server.broker()).state(seen.clone()).listen(listen, fails);
    let running = app.start().await.unwrap();
    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;
    assert_eq!(seen.len(), 0, "the handler ran");
    assert_eq!((counts.received, counts.handler_errors), (1, 0));
    let dead = dead_letters(&running, &queue("orders")).await.remove(0);
    assert_eq!(dead.reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED);
    assert!(dead.reason.errors[0].contains("all 3 attempts ended without a settlement"), "{:?}", dead.reason);
}

#[tokio::test(start_paused = true)]
async fn while_the_dead_letter_is_unavailable_the_message_is_kept_and_health_says_so() {
    let server = MemoryServer::private();
    let seen = Seen::<u32>::new();
    let mut app = App::new()
        .broker("main", server.broker())
        .state(seen.clone())
        .listen(Listen::queue("orders").retry(Retry::none()), fails);
    let orders = app.publisher("orders");
    let running = app.start().await.unwrap();
    server.fail_dead_letters(&queue("orders"), 3).unwrap();
    orders.publish("x").await.unwrap();

    until("the dead letter failed", || tally(&running, "orders").dead_letter_failures == 1).await;
    let health = running.health();
    assert_eq!(health.state(), HealthState::Degraded);
    assert!(
        health.to_string().contains("listener \"orders\" is degraded: its dead letter takes no messages"),
        "{health}"
    );

    let counts = until_tally(&running, "orders", |tally| tally.dead_lettered == 1).await;
    assert_eq!((counts.acked, counts.retried, counts.dead_letter_failures), (0, 3, 3));
    assert_eq!(dead_letters(&running, &queue("orders")).await.len(), 1);
    assert_eq!(running.health().state(), HealthState::Up);
    assert_eq!(seen.len(), 1, "the handler is not called again for a message that is to be dead-lettered");
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_one_subscription_is_not_seen_by_another_and_each_has_its_dead_letter() {
    async fn fine(_: Bytes) {}
    let seen = Seen::<u32>::new();
    let bad = Listen::topic("weather").subscription("bad").retry(Retry::default().attempts(3));
    let mut app =
        App::new().state(seen.clone()).listen(bad, fails).listen(Listen::topic("weather").subscription("good"), fine);
    let weather = app.publisher("weather");
    let running = app.start().await.unwrap();
    weather.publish("sunny").await.unwrap();
    until_tally(&running, "weather--bad", |tally| tally.dead_lettered == 1).await;
    assert_eq!(tally(&running, "weather--good").received, 1);
    assert_eq!(dead_letters(&running, &subscription("weather", "bad")).await.len(), 1);
    assert!(dead_letters(&running, &subscription("weather", "good")).await.is_empty());
}
