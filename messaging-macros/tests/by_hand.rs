//! What the macro makes is what one writes by hand, and its listeners are reached like functions.

use std::time::Duration;

use messaging::{
    AckMode, Attempt, DeadLetterPolicy, Feature, HandlerError, Listen, Listener, Message, Order, Retry, RetryMode,
    Settle, Start, listener, listeners,
};

/// The pair of `docs/listeners.md`.
#[listener(queue = "orders", concurrency = 4, retry(attempts = 3, initial = "1s"), timeout = "10s")]
async fn handle_order(message: Message) -> Result<(), HandlerError> {
    if message.payload().is_empty() { Err(HandlerError::reject("nothing was ordered")) } else { Ok(()) }
}

#[listener(
    queue = "orders",
    id = "everything",
    concurrency = 2,
    prefetch = 16,
    retry(attempts = 7, initial = "50ms", max = "1m", multiplier = 1.5, jitter = false),
    retry_mode = hold,
    dead_letter = discard,
    ack = manual,
    order_by = key,
    timeout = "1500us",
    requires(key_order, "delayed_retry")
)]
async fn everything_of_a_queue(settle: Settle, _attempt: Attempt) {
    drop(settle.ack());
}

#[listener(topic = "stocks", subscription = "apple", filter = "stock.AAPL", start = earliest)]
async fn durable() {}

#[listener(topic = "weather", ephemeral, filter = "eu.#", ack = on_success, dead_letter = "keep")]
async fn ephemeral() {}

#[listener(topic = "weather", start = "new", order_by = none, retry_mode = requeue)]
async fn named_by_the_binding() {}

#[track_caller]
fn same(by_macro: &Listener, by_hand: &Listener) {
    assert_eq!(format!("{by_macro:?}"), format!("{by_hand:?}"));
}

#[test]
fn the_macro_is_sugar() {
    let orders = Listen::queue("orders")
        .id("handle-order")
        .concurrency(4)
        .retry(Retry::default().attempts(3).initial(Duration::from_secs(1)))
        .timeout(Duration::from_secs(10));
    same(&handle_order::listener(), &Listener::new(orders, handle_order));

    let everything = Listen::queue("orders")
        .id("everything")
        .concurrency(2)
        .prefetch(16)
        .retry(
            Retry::default()
                .attempts(7)
                .initial(Duration::from_millis(50))
                .max(Duration::from_secs(60))
                .multiplier(1.5)
                .jitter(false),
        )
        .retry_mode(RetryMode::Hold)
        .dead_letter(DeadLetterPolicy::Discard)
        .ack(AckMode::Manual)
        .order_by(Order::ByKey)
        .timeout(Duration::from_micros(1500))
        .requires(Feature::KeyOrder)
        .requires(Feature::DelayedRetry);
    same(&everything_of_a_queue::listener(), &Listener::new(everything, everything_of_a_queue));

    let apple = Listen::topic("stocks").subscription("apple").id("durable").filter("stock.AAPL").start(Start::Earliest);
    same(&durable::listener(), &Listener::new(apple, durable));

    let weather = Listen::topic("weather")
        .ephemeral()
        .id("ephemeral")
        .filter("eu.#")
        .ack(AckMode::OnSuccess)
        .dead_letter(DeadLetterPolicy::Keep);
    same(&ephemeral::listener(), &Listener::new(weather, ephemeral));

    let bound = Listen::topic("weather")
        .id("named-by-the-binding")
        .start(Start::New)
        .order_by(Order::None)
        .retry_mode(RetryMode::Requeue);
    same(&named_by_the_binding::listener(), &Listener::new(bound, named_by_the_binding));
}

mod shop {
    pub(crate) mod returns {
        use messaging::{Message, listener};

        #[listener(queue = "returns")]
        pub(crate) async fn take_back(_message: Message) {}

        #[listener(queue = "refunds")]
        pub(in crate::shop) async fn refund(_message: Message) {}
    }

    pub(crate) fn own() -> Vec<messaging::Listener> {
        messaging::listeners![returns::refund]
    }
}

#[test]
fn listeners_are_found_by_path_use_and_rename() {
    use shop::returns::{self, take_back as receive};

    #[listener(queue = "orders", id = "within")]
    async fn local() {}

    let mounted = listeners![handle_order, returns::take_back, receive, crate::shop::returns::take_back, local,];
    let ids: Vec<String> = mounted.iter().chain(&shop::own()).map(Listener::id).collect();
    assert_eq!(ids, ["handle-order", "take-back", "take-back", "take-back", "within", "refund"]);
    let none: Vec<Listener> = listeners![];
    assert!(none.is_empty());
}

#[tokio::test]
async fn a_listener_can_be_called_like_any_function() {
    let empty = Message::builder("").build().unwrap();
    assert!(handle_order(empty).await.is_err());
}

mod platform {
    pub(crate) use messaging as bus;
}

#[listener(queue = "orders", requires(ttl), crate = crate::platform::bus)]
async fn re_exported(_message: Message) {}

/// Stays with its function: documentation, lints, and conditions that the companion shares.
#[listener(queue = "orders")]
#[cfg(any())]
async fn never_there(_of_no_type: Missing) {}

#[allow(unused_variables)]
#[listener(queue = "orders")]
#[tracing::instrument(skip_all)]
#[allow(clippy::unused_async)]
async fn instrumented(message: Message) {}

#[test]
fn attributes_stay() {
    assert_eq!(re_exported::listener().id(), "re-exported");
    assert_eq!(instrumented::listener().id(), "instrumented");
}
