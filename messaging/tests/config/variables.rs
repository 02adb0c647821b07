//! Environment variables: as overrides, and inside values.

use std::time::Duration;

use messaging::{AckMode, Feature, Order, UsedAs};

use crate::{BROKER, load};

#[test]
fn every_key_can_be_overridden() {
    let file = format!(
        "{BROKER}options = {{ max-wait = \"1s\" }}\n[bindings.\"orders.eu\"]\nqueue = \"a\"\n[listeners.handle-order]\n"
    );
    let config = load(
        &file,
        &[
            ("MESSAGING__BROKERS__MAIN__URL", "memory://other"),
            ("MESSAGING__BROKERS__MAIN__OPTIONS__MAX_WAIT", "2s"),
            ("MESSAGING__BROKERS__MAIN__OPTIONS__CAPACITY", "7"),
            ("MESSAGING__BROKERS__SECOND_ONE__URL", "memory://second"),
            ("MESSAGING__BINDINGS__ORDERS_EU__ORDER_BY", "key"),
            ("MESSAGING__LISTENERS__HANDLE_ORDER__CONCURRENCY", "8"),
            ("MESSAGING__LISTENERS__HANDLE_ORDER__RETRY__MULTIPLIER", "1.5"),
            ("MESSAGING__LISTENERS__HANDLE_ORDER__RETRY__JITTER", "TRUE"),
            ("MESSAGING__LISTENERS__HANDLE_ORDER__REQUIRES", "key_order, delayed_retry"),
            ("MESSAGING__LISTENERS__HANDLE_ORDER__ACK", "manual"),
            ("MESSAGING__LISTENERS__ORDERS__AUDIT__TIMEOUT", "5s"),
            ("MESSAGING__PUBLISHERS__ORDERS_EU__IN_FLIGHT", "10"),
            ("MESSAGING__APP__SHUTDOWN_TIMEOUT", "5s"),
            // One underscore: this is somebody else's.
            ("MESSAGING_RABBITMQ_URL", "amqp://host"),
            ("OTHER__THING", "1"),
        ],
    )
    .unwrap();
    let mut brokers = config.brokers().unwrap();
    assert_eq!(brokers[0].url.to_string(), "memory://other");
    assert_eq!(brokers[0].settings.take_duration("max-wait"), Some(Duration::from_secs(2)));
    assert_eq!(brokers[0].settings.take_whole("capacity"), Some(7));
    assert_eq!(brokers[0].destinations.values().next().unwrap().order, Order::ByKey);
    assert_eq!(brokers[1].name.as_str(), "second-one");
    let listener = config.listener("handle-order");
    assert_eq!(listener.concurrency, Some(8));
    assert_eq!(listener.ack, Some(AckMode::Manual));
    assert_eq!(listener.requires.unwrap(), [Feature::KeyOrder, Feature::DelayedRetry]);
    let retry = listener.retry.unwrap();
    assert_eq!((retry.multiplier, retry.jitter, retry.attempts), (Some(1.5), Some(true), None));
    assert_eq!(config.listener("orders--audit").timeout, Some(Duration::from_secs(5)));
    assert_eq!(config.listener_ids().collect::<Vec<_>>(), ["handle-order", "orders--audit"]);
    assert_eq!(config.publisher("orders.eu").in_flight, 10);
    assert_eq!(config.shutdown_timeout(), Duration::from_secs(5));
}

#[test]
fn an_override_is_taken_as_it_is() {
    let config = load(
        &format!("{BROKER}[bindings.a]\nqueue = \"a\"\n"),
        &[("MESSAGING__BINDINGS__A__NATIVE", "a${B}$${C}"), ("B", "x")],
    )
    .unwrap();
    let native = config.brokers().unwrap()[0].destinations.values().next().unwrap().native.clone();
    assert_eq!(native.as_deref(), Some("a${B}$${C}"));
}

#[test]
fn an_override_frees_a_value_from_its_variable() {
    let text = "[brokers.main]\nurl = \"${SHOP_URL}\"";
    assert!(load(text, &[]).unwrap_err().contains("SHOP_URL"));
    assert!(load(text, &[("MESSAGING__BROKERS__MAIN__URL", "memory://")]).is_ok());
}

#[test]
fn values_are_expanded_everywhere_and_read_as_what_they_have_to_be() {
    let text = r#"
        namespace = "${STAGE:-dev}"
        [brokers.main]
        url = "amqp://${USER_NAME}:${PASSWORD}@${HOST:-localhost}:5672/"
        options = { nested = { list = ["${HOST:-h}", 1] }, literal = "$${HOST}", flag = "${FLAG:-true}" }
        [bindings.orders]
        queue = "${QUEUE:-orders}"
        [listeners.a]
        concurrency = "${N}"
        timeout = "${T:-30s}"
        enabled = "${ON:-false}"
        requires = ["${FEATURE:-ttl}"]
        retry = { multiplier = "${M:-1.5}" }
    "#;
    let config =
        load(text, &[("USER_NAME", "me"), ("PASSWORD", "s3cret"), ("N", "4"), ("QUEUE", "orders.eu")]).unwrap();
    assert_eq!(config.namespace().unwrap().as_str(), "dev");
    let mut broker = config.brokers().unwrap().remove(0);
    assert_eq!(broker.url.to_string(), "amqp://me:***@localhost:5672");
    let nested: serde_json::Value = broker.settings.take_value("nested").unwrap();
    assert_eq!(nested, serde_json::json!({ "list": ["h", 1] }));
    assert_eq!(broker.settings.take_text("literal").as_deref(), Some("${HOST}"));
    assert_eq!(broker.settings.take_flag("flag"), Some(true));
    assert_eq!(config.binding("orders", UsedAs::Queue).unwrap().destination.to_string(), "queue \"orders.eu\"");
    let listener = config.listener("a");
    assert_eq!((listener.concurrency, listener.enabled), (Some(4), Some(false)));
    assert_eq!(listener.timeout, Some(Duration::from_secs(30)));
    assert_eq!(listener.requires.unwrap(), [Feature::Ttl]);
    assert_eq!(listener.retry.unwrap().multiplier, Some(1.5));
}
