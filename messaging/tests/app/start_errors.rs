//! Everything that can be wrong when an application starts: each names the thing and the next step.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use messaging::{
    AckMode, App, Config, DeadLetterPolicy, ErrorKind, Feature, Listen, Order, Retry, RetryMode, Settle, Start, State,
};
use messaging_core::spi::Checked;

use super::support::{config, memory_and, says};

async fn nothing(_: Bytes) {}

async fn start_fails(app: App) -> messaging::Error {
    app.start().await.expect_err("the app started")
}

async fn fails(listen: Listen) -> messaging::Error {
    start_fails(App::new().listen(listen, nothing)).await
}

#[tokio::test]
async fn an_unknown_scheme_names_those_known() {
    let app = App::with_config(config("[brokers.main]\nurl = \"mqtt://host\""));
    let error = start_fails(app).await;
    says(&error, &["broker \"main\"", "mqtt://", "memory://"]);
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn an_unknown_binding_names_the_nearest() {
    let app = App::with_config(memory_and("[bindings.orders]\nqueue = \"orders\""));
    let error = start_fails(app.listen(Listen::queue("ordes"), nothing)).await;
    says(&error, &["listener \"ordes\"", "binding \"ordes\"", "did you mean \"orders\"?"]);
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn two_listeners_with_one_id() {
    let app = App::new().listen(Listen::queue("orders"), nothing).listen(Listen::queue("orders"), nothing);
    says(&start_fails(app).await, &["two listeners have the id \"orders\"", ".id("]);
}

#[tokio::test]
async fn configuration_for_a_listener_that_is_not_mounted() {
    let app = App::with_config(memory_and("[listeners.handle-oder]\nconcurrency = 2"));
    let error = start_fails(app.listen(Listen::queue("orders").id("handle-order"), nothing)).await;
    says(&error, &["[listeners.handle-oder]", "did you mean \"handle-order\"?"]);
}

#[tokio::test]
async fn zero_and_too_small_numbers() {
    says(&fails(Listen::queue("a").concurrency(0)).await, &["listener \"a\"", "concurrency is 0", "at least 1"]);
    says(&fails(Listen::queue("a").prefetch(0)).await, &["listener \"a\"", "prefetch is 0", "at least 1"]);
    says(&fails(Listen::queue("a").retry(Retry::default().attempts(0))).await, &["retry.attempts is 0"]);
    says(&fails(Listen::queue("a").timeout(Duration::ZERO)).await, &["timeout is zero"]);
    let error = fails(Listen::queue("a").concurrency(8).prefetch(4)).await;
    says(&error, &["prefetch is 4 and concurrency 8", "raise prefetch to at least 8"]);
}

#[tokio::test]
async fn a_timeout_longer_than_a_delivery_is_kept() {
    let error = fails(Listen::queue("a").timeout(Duration::from_secs(31 * 60))).await;
    says(&error, &["timeout is 1860s", "1800s"]);
}

#[tokio::test]
async fn a_missing_state_names_listener_and_type() {
    async fn counts(_: State<Arc<u32>>) {}
    let error = start_fails(App::new().state("text").listen(Listen::queue("a").id("counter"), counts)).await;
    says(&error, &["listener \"counter\"", "Arc<u32>", "App::state"]);
}

#[tokio::test]
async fn settle_and_the_ack_mode_have_to_agree() {
    async fn by_hand(settle: Settle) {
        drop(settle);
    }
    let error = start_fails(App::new().listen(Listen::queue("a"), by_hand)).await;
    says(&error, &["takes `Settle`", "use ack = manual"]);
    let error = fails(Listen::queue("a").ack(AckMode::Manual)).await;
    says(&error, &["does not take `Settle`", "use ack = on_success"]);
}

#[tokio::test]
async fn invalid_names() {
    says(&fails(Listen::queue("Orders").id("a")).await, &["queue name \"Orders\" is not valid"]);
    says(&fails(Listen::queue("a").id("No Good")).await, &["listener \"No Good\"", "its id is not valid"]);
    says(&fails(Listen::queue("x".repeat(61)).id("a")).await, &["it has 61 characters, at most 60"]);
    let error = fails(Listen::topic("t").subscription("A").id("a")).await;
    says(&error, &["subscription name \"A\" is not valid"]);
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    says(&fails(Listen::topic("t").subscription("s").filter("a..b")).await, &["subject filter \"a..b\""]);
}

#[tokio::test]
async fn combinations_that_make_no_sense() {
    says(&fails(Listen::topic("t")).await, &["names no subscription", ".ephemeral()", "[bindings.t]"]);
    says(&fails(Listen::queue("q").filter("a.*")).await, &["filter selects subjects of a topic", "queue \"q\""]);
    says(&fails(Listen::queue("q").start(Start::Earliest)).await, &["start is where a subscription begins"]);
    let ephemeral = || Listen::topic("t").ephemeral();
    let discarding = || ephemeral().dead_letter(DeadLetterPolicy::Discard);
    says(&fails(discarding().start(Start::Earliest)).await, &["an ephemeral subscription sees only"]);
    says(&fails(ephemeral()).await, &["an ephemeral subscription has no dead letter", "dead_letter = \"discard\""]);
    let error = fails(Listen::queue("q").order_by(Order::ByKey).retry_mode(RetryMode::Requeue)).await;
    says(&error, &["order_by = key with retry_mode = requeue"]);
    says(&fails(Listen::queue("q").retry_mode(RetryMode::Hold)).await, &["set order_by = key too"]);
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let app = App::new()
        .listen(Listen::queue("a").concurrency(0).prefetch(0), nothing)
        .listen(Listen::queue("B").id("b"), nothing)
        .listen(Listen::topic("t"), nothing);
    let error = start_fails(app).await;
    says(&error, &["for 4 reasons", "concurrency is 0", "prefetch is 0", "queue name \"B\"", "names no subscription"]);
}

#[tokio::test]
async fn a_declared_publisher_is_checked() {
    let mut app = App::with_config(memory_and("[bindings.orders]\nqueue = \"orders\""));
    let _publisher = app.publisher("oders");
    says(&start_fails(app).await, &["publisher to \"oders\"", "did you mean \"orders\"?"]);
}

#[tokio::test]
async fn a_broker_that_the_configuration_does_not_know() {
    let broker = messaging::connect("memory://").await.unwrap();
    says(&start_fails(App::new().broker("mian", broker)).await, &["\"mian\"", "did you mean \"main\"?"]);
}

#[tokio::test]
async fn what_a_broker_cannot_do_is_told_of_all_listeners_at_once_and_nothing_is_opened() {
    let (poor, calls) = super::support_poor::broker();
    let mut app = App::new()
        .broker("main", Checked::around(poor))
        .listen(Listen::queue("a"), nothing)
        .listen(Listen::queue("b").order_by(Order::ByKey).requires(Feature::Priority), nothing)
        .listen(Listen::topic("t").subscription("s").filter("x.*").retry(Retry::none()), nothing);
    let _publisher = app.publisher("t");
    let error = start_fails(app).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    says(
        &error,
        &[
            "listener \"a\" on broker \"main\": dead_letter",
            "say dead_letter = \"discard\"",
            "listener \"a\" on broker \"main\": delayed_retry",
            "listener \"a\" on broker \"main\": attempts",
            "listener \"b\" on broker \"main\": key_order",
            "listener \"b\" on broker \"main\": hold",
            "listener \"b\" on broker \"main\": priority",
            "listener \"t--s\" on broker \"main\": subject_filter",
            "listener \"t--s\" on broker \"main\": topic",
            "publisher to \"t\" on broker \"main\": topic",
        ],
    );
    assert_eq!(calls.opened(), 0, "a consumer or publisher was opened");
    assert_eq!(calls.closed(), 1, "the broker was left open");
}

#[tokio::test]
async fn a_poor_broker_does_for_a_modest_listener() {
    let (poor, calls) = super::support_poor::broker();
    let modest = Listen::queue("a").dead_letter(DeadLetterPolicy::Discard).retry(Retry::none());
    let error = start_fails(App::new().broker("main", Checked::around(poor)).listen(modest, nothing)).await;
    // It got through all checks: what fails is the fake itself.
    says(&error, &["nothing to consume here"]);
    assert_eq!(calls.opened(), 1);
}

#[tokio::test]
async fn the_default_app_needs_no_configuration() {
    let running = App::with_config(Config::memory()).listen(Listen::queue("a"), nothing).start().await.unwrap();
    assert!(running.shutdown().await.unwrap().is_complete());
}

#[tokio::test]
async fn a_source_that_contradicts_itself() {
    says(&fails(Listen::queue("a").subscription("b")).await, &["listener \"a\"", "no subscriptions", "Listen::topic"]);
    says(&fails(Listen::queue("a").ephemeral()).await, &["listener \"a\"", "no subscriptions", "Listen::topic"]);
    let discard = DeadLetterPolicy::Discard;
    says(
        &fails(Listen::topic("a").subscription("b").ephemeral().dead_letter(discard)).await,
        &["either", ".ephemeral()"],
    );
    says(
        &fails(Listen::topic("a").ephemeral().subscription("b").dead_letter(discard)).await,
        &["either", ".ephemeral()"],
    );
}

#[tokio::test]
async fn one_name_for_a_queue_and_a_topic() {
    let app = App::new().listen(Listen::queue("a"), nothing).listen(Listen::topic("a").subscription("b"), nothing);
    says(
        &start_fails(app).await,
        &["queue \"a\" to listener \"a\"", "topic \"a\" to listener \"a--b\"", "another name"],
    );
}

#[tokio::test]
async fn settle_asked_for_twice() {
    async fn twice(_: Settle, _: Settle) {}
    let app = App::new().listen(Listen::queue("a").ack(AckMode::Manual), twice);
    says(&start_fails(app).await, &["takes `Settle` 2 times", "keep one"]);
}
