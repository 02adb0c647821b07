//! Files of three formats, environment and code, on top of each other.

use std::fs;
use std::time::Duration;

use messaging::{Config, Order, TopologyMode, UsedAs};
use tempfile::TempDir;

use crate::{BROKER, load, load_as};

const TOML: &str = r#"
namespace = "dev"
[brokers.main]
url = "memory://shop"
topology = "verify"
options = { capacity = 5, names = ["a", "b"], "max-wait" = "1s" }
[bindings.orders]
queue = "orders"
order_by = "key"
[listeners.handle-order]
concurrency = 4
retry = { attempts = 3, multiplier = 1.5, jitter = false }
requires = ["key_order"]
[app]
shutdown_timeout = "1min"
"#;

#[cfg(feature = "yaml")]
const YAML: &str = r#"
namespace: dev
brokers:
  main:
    url: memory://shop
    topology: verify
    options: { capacity: 5, names: [a, b], max-wait: 1s }
bindings:
  orders: { queue: orders, order_by: key }
listeners:
  handle-order:
    concurrency: 4
    retry: { attempts: 3, multiplier: 1.5, jitter: false }
    requires: [key_order]
app: { shutdown_timeout: 1min }
"#;

const JSON: &str = r#"{
    "namespace": "dev",
    "brokers": { "main": {
        "url": "memory://shop", "topology": "verify",
        "options": { "capacity": 5, "names": ["a", "b"], "max-wait": "1s" }
    } },
    "bindings": { "orders": { "queue": "orders", "order_by": "key" } },
    "listeners": { "handle-order": {
        "concurrency": 4, "retry": { "attempts": 3, "multiplier": 1.5, "jitter": false }, "requires": ["key_order"]
    } },
    "app": { "shutdown_timeout": "1min" }
}"#;

#[test]
fn toml_yaml_and_json_say_the_same() {
    for (name, text) in [
        ("app.toml", TOML),
        #[cfg(feature = "yaml")]
        ("app.yaml", YAML),
        #[cfg(feature = "yaml")]
        ("app.yml", YAML),
        ("app.json", JSON),
        ("app.JSON", JSON),
    ] {
        let config = load_as(name, text, &[]).unwrap();
        assert_eq!(config.namespace().unwrap().as_str(), "dev", "{name}");
        let mut brokers = config.brokers().unwrap();
        assert_eq!(brokers.len(), 1, "{name}");
        let broker = brokers.remove(0);
        assert_eq!((broker.name.as_str(), broker.url.to_string().as_str()), ("main", "memory://shop"));
        assert_eq!(broker.namespace.as_ref(), config.namespace());
        assert_eq!(broker.topology, TopologyMode::Verify);
        let (destination, settings) = broker.destinations.iter().next().unwrap();
        assert_eq!(*destination, config.binding("orders", UsedAs::Queue).unwrap().destination);
        assert_eq!(settings.order, Order::ByKey);
        let mut options = broker.settings;
        assert!(options.place().starts_with("[brokers.main.options] in "), "{}", options.place());
        assert!(options.place().ends_with(name), "{}", options.place());
        assert_eq!(options.take_whole("capacity"), Some(5));
        assert_eq!(options.take_value("names").unwrap(), serde_json::json!(["a", "b"]));
        assert_eq!(options.take_duration("max-wait"), Some(Duration::from_secs(1)));
        options.finish().unwrap();
        let listener = config.listener("handle-order");
        assert_eq!((listener.concurrency, listener.retry.unwrap().attempts), (Some(4), Some(3)));
        assert_eq!(config.shutdown_timeout(), Duration::from_secs(60));
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    assert!(load(&format!("\u{feff}{BROKER}"), &[]).is_ok());
}

#[test]
fn environment_wins_over_files_and_code_over_both() {
    let file =
        format!("namespace = \"file\"\n{BROKER}[listeners.a]\nconcurrency = 1\nprefetch = 1\ntimeout = \"1s\"\n");
    let variables = [
        ("MESSAGING__NAMESPACE", "environment"),
        ("MESSAGING__LISTENERS__A__PREFETCH", "2"),
        ("MESSAGING__LISTENERS__A__CONCURRENCY", "2"),
    ];
    // The order of the calls does not matter.
    let config = Config::builder().set("listeners.a.concurrency", 3).environment(variables).toml(file).build().unwrap();
    assert_eq!(config.namespace().unwrap().as_str(), "environment");
    let listener = config.listener("a");
    assert_eq!(listener.timeout, Some(Duration::from_secs(1)));
    assert_eq!(listener.prefetch, Some(2));
    assert_eq!(listener.concurrency, Some(3));
}

#[test]
fn of_several_files_the_later_wins_key_by_key() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (directory.path().join("app.toml"), directory.path().join("local.json"));
    fs::write(&first, format!("{BROKER}[listeners.a]\nconcurrency = 1\nprefetch = 10\nrequires = [\"ttl\", \"hold\"]"))
        .unwrap();
    fs::write(&second, r#"{"listeners":{"a":{"concurrency":2,"requires":["lag"]}}}"#).unwrap();
    let config = Config::builder().file(&first).file(&second).build().unwrap();
    let listener = config.listener("a");
    assert_eq!((listener.concurrency, listener.prefetch), (Some(2), Some(10)));
    // A list is one value: it is replaced, not added to.
    assert_eq!(listener.requires.unwrap(), [messaging::Feature::Lag]);

    fs::write(&second, r#"{"listeners":{"a":{"concurrency":0,"prefech":2}}}"#).unwrap();
    let error = Config::builder().file(&first).file(&second).build().unwrap_err();
    assert!(error.text().contains("local.json has to be at least 1"), "{error}");
    fs::write(&first, "").unwrap();
    fs::write(&second, "{}").unwrap();
    let error = Config::builder().file(&first).file(&second).build().unwrap_err();
    assert!(error.text().contains("app.toml and "), "{error}");
}

#[test]
fn code_alone_is_enough() {
    let config = Config::builder()
        .set("brokers.main.url", "memory://shop")
        .set("brokers.main.options", std::collections::BTreeMap::from([("capacity", 7)]))
        .set("bindings.\"orders.eu\".queue", "orders")
        .set("listeners.a.requires", ["ttl"])
        .set("listeners.a.enabled", false)
        .set("listeners.a.retry.multiplier", 2.5)
        .build()
        .unwrap();
    let mut broker = config.brokers().unwrap().remove(0);
    assert_eq!(broker.settings.place(), "[brokers.main.options] set in the code");
    assert_eq!(broker.settings.take_whole("capacity"), Some(7));
    assert_eq!(config.binding("orders.eu", UsedAs::Queue).unwrap().destination.to_string(), "queue \"orders\"");
    assert_eq!(config.listener("a").enabled, Some(false));
}

#[test]
fn a_file_is_loaded_together_with_the_environment_of_the_process() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.toml");
    // No test may set a variable of the process; PATH is there everywhere.
    fs::write(&path, format!("{BROKER}[bindings.a]\nqueue = \"a\"\nnative = \"${{PATH}}\"")).unwrap();
    let config = Config::load(&path).unwrap();
    let native = config.brokers().unwrap()[0].destinations.values().next().unwrap().native.clone();
    assert_eq!(native, std::env::var("PATH").ok());
}

#[test]
fn memory_is_one_broker_and_maps_names_to_themselves() {
    let config = Config::memory();
    let brokers = config.brokers().unwrap();
    assert_eq!((brokers.len(), brokers[0].name.as_str()), (1, "main"));
    assert_eq!(brokers[0].url.to_string(), "memory://");
    assert_eq!(config.binding("a.b", UsedAs::Topic).unwrap().destination.to_string(), "topic \"a.b\"");
    assert_eq!(config.shutdown_timeout(), Duration::from_secs(30));
    assert_eq!(config.listener_ids().count() + config.binding_names().count(), 0);
}

#[test]
fn printing_shows_no_credentials() {
    let text = "[brokers.main]\nurl = \"amqp://me:s3cret@host/v?token=s3cret\"\noptions = { password = \"s3cret\" }";
    let config = load(text, &[]).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("amqp://me:***@host/v") && shown.contains("password"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    let builder = Config::builder().toml(text).set("brokers.main.url", "amqp://me:s3cret@host");
    let shown = format!("{builder:?}");
    assert!(shown.contains("brokers.main.url") && !shown.contains("s3cret"), "{shown}");
}

#[cfg(not(feature = "yaml"))]
#[test]
fn without_its_feature_yaml_says_which_to_enable() {
    assert!(load_as("app.yaml", "a: 1", &[]).unwrap_err().contains("enable the feature \"yaml\""));
}
