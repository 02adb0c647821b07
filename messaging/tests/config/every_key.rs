//! Every key of a listener and a publisher, with every word it takes.

use std::time::Duration;

use messaging::{
    AckMode, Config, DeadLetterPolicy, Feature, ListenerConfig, NoSubscriber, Order, PublishOptions, RetryMode, Start,
};

use crate::with_broker;

/// What one line says of a listener.
fn listener(line: &str) -> ListenerConfig {
    with_broker(&format!("[listeners.a]\n{line}")).listener("a")
}

#[test]
fn a_listener_that_is_not_mentioned_leaves_all_to_the_code() {
    let config = with_broker("[listeners.a]\n");
    assert_eq!(config.listener("a"), ListenerConfig::default());
    assert_eq!(config.listener("b"), ListenerConfig::default());
    assert_eq!(config.listener_ids().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn numbers_and_times() {
    assert_eq!(listener("concurrency = 1").concurrency, Some(1));
    assert_eq!(listener("prefetch = 64").prefetch, Some(64));
    assert_eq!(listener("timeout = \"1h 30min\"").timeout, Some(Duration::from_secs(5_400)));
    assert_eq!(listener("enabled = false").enabled, Some(false));
    assert_eq!(listener("filter = \"stock.*\"").filter.unwrap().as_str(), "stock.*");
    // Text where a number belongs is read as one, as the environment has nothing else.
    assert_eq!(listener("concurrency = \"8\"").concurrency, Some(8));
}

#[test]
fn words() {
    assert_eq!(listener("retry_mode = \"requeue\"").retry_mode, Some(RetryMode::Requeue));
    assert_eq!(listener("retry_mode = \"hold\"").retry_mode, Some(RetryMode::Hold));
    assert_eq!(listener("dead_letter = \"keep\"").dead_letter, Some(DeadLetterPolicy::Keep));
    assert_eq!(listener("dead_letter = \"discard\"").dead_letter, Some(DeadLetterPolicy::Discard));
    assert_eq!(listener("ack = \"on_success\"").ack, Some(AckMode::OnSuccess));
    assert_eq!(listener("ack = \"manual\"").ack, Some(AckMode::Manual));
    assert_eq!(listener("order_by = \"key\"").order_by, Some(Order::ByKey));
    assert_eq!(listener("order_by = \"none\"").order_by, Some(Order::None));
    assert_eq!(listener("start = \"new\"").start, Some(Start::New));
    assert_eq!(listener("start = \"earliest\"").start, Some(Start::Earliest));
}

#[test]
fn features() {
    for feature in Feature::ALL {
        assert_eq!(listener(&format!("requires = [{:?}]", feature.name())).requires.unwrap(), [feature]);
    }
    assert_eq!(listener("requires = []").requires, Some(Vec::new()));
    assert_eq!(listener("requires = \"ttl, lag\"").requires.unwrap(), [Feature::Ttl, Feature::Lag]);
}

#[test]
fn retries_field_by_field() {
    let retry = listener("retry = { attempts = 5, initial = \"200ms\", max = \"30s\", multiplier = 2, jitter = true }")
        .retry
        .unwrap();
    assert_eq!(retry.attempts, Some(5));
    assert_eq!(retry.initial, Some(Duration::from_millis(200)));
    assert_eq!(retry.max, Some(Duration::from_secs(30)));
    assert_eq!(retry.multiplier, Some(2.0));
    assert_eq!(retry.jitter, Some(true));
    let retry = listener("retry = { initial = \"0s\" }").retry.unwrap();
    assert_eq!((retry.initial, retry.attempts, retry.multiplier), (Some(Duration::ZERO), None, None));
}

#[test]
fn publishers() {
    let config = with_broker(
        "[publishers.orders]\nin_flight = 10\nin_flight_bytes = 1024\ntimeout = \"5s\"\nno_subscriber = \"refuse\"\n",
    );
    let options = config.publisher("orders");
    assert_eq!((options.in_flight, options.in_flight_bytes), (10, 1_024));
    assert_eq!((options.timeout, options.no_subscriber), (Duration::from_secs(5), NoSubscriber::Refuse));
    assert_eq!(config.publisher("other"), PublishOptions::default());
    let config = with_broker("[publishers.orders]\nno_subscriber = \"accept\"\n");
    assert_eq!(config.publisher("orders"), PublishOptions::default());
}

#[test]
fn a_configuration_can_be_cloned_and_shared() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    shared(&Config::memory());
}
