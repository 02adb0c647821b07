//! Whatever is written, reading ends with a configuration or an error.

use messaging::{Config, UsedAs};
use proptest::prelude::*;

use crate::BROKER;

/// Keys and names near enough to real ones that reading gets far.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "namespace",
            "brokers",
            "main",
            "url",
            "topology",
            "options",
            "bindings",
            "orders",
            "broker",
            "queue",
            "topic",
            "subscription",
            "native",
            "order_by",
            "listeners",
            "concurrency",
            "prefetch",
            "retry",
            "attempts",
            "initial",
            "max",
            "multiplier",
            "jitter",
            "retry_mode",
            "dead_letter",
            "ack",
            "filter",
            "start",
            "timeout",
            "requires",
            "enabled",
            "publishers",
            "in_flight",
            "in_flight_bytes",
            "no_subscriber",
            "app",
            "shutdown_timeout",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9.-]{0,8}",
        ".{0,6}",
    ]
}

fn value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(toml::Value::Integer),
        (0_i64..3).prop_map(toml::Value::Integer),
        any::<f64>().prop_map(toml::Value::Float),
        any::<bool>().prop_map(toml::Value::Boolean),
        prop::sample::select(vec![
            "memory://x",
            "create",
            "30s",
            "key",
            "a.*",
            "${A}",
            "${A:-b}",
            "$${",
            "${",
            "orders"
        ])
        .prop_map(|text| toml::Value::String(text.to_owned())),
        ".{0,12}".prop_map(toml::Value::String),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(toml::Value::Array),
            prop::collection::btree_map(key(), inner, 0..6)
                .prop_map(|map| toml::Value::Table(map.into_iter().collect())),
        ]
    })
}

/// Uses everything of a configuration that was read.
fn use_all(config: &Config) {
    assert!(!config.brokers().unwrap().is_empty());
    for name in config.binding_names() {
        for used_as in [UsedAs::Queue, UsedAs::Topic, UsedAs::Publish] {
            let _ = config.binding(name, used_as);
        }
        let _ = config.publisher(name);
    }
    let _ = config.binding("any Thing", UsedAs::Queue);
    for id in config.listener_ids() {
        let _ = config.listener(id);
    }
    let _ = format!("{config:?}");
}

proptest! {
    #[test]
    fn any_tree_is_read_or_refused(tree in prop::collection::btree_map(key(), value(), 0..6)) {
        let text = toml::to_string(&tree).unwrap();
        if let Ok(config) = Config::builder().toml(text).environment::<&str, &str>([]).build() {
            use_all(&config);
        }
    }

    #[test]
    fn any_tree_below_a_broker_is_read_or_refused(
        section in prop::sample::select(vec!["bindings", "listeners", "publishers", "app"]),
        name in key(),
        tree in prop::collection::btree_map(key(), value(), 0..6),
    ) {
        let tree = toml::Table::from_iter([(section.to_owned(), toml::Value::Table(
            toml::Table::from_iter([(name, toml::Value::Table(tree.into_iter().collect()))]),
        ))]);
        let text = format!("{BROKER}{}", toml::to_string(&tree).unwrap());
        if let Ok(config) = Config::builder().toml(text).environment::<&str, &str>([]).build() {
            use_all(&config);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}=\".a-z0-9$\\n ]{0,80}") {
        let _ = Config::builder().toml(text).environment::<&str, &str>([]).build();
    }

    #[test]
    fn any_variable_is_read_or_refused(name in "[A-Z_]{0,30}", value in ".{0,10}") {
        let variables = [(format!("MESSAGING__{name}"), value.clone()), ("A".to_owned(), value)];
        let _ = Config::builder().toml(BROKER).environment(variables).set("namespace", "${A}").build();
    }

    /// What comes from the environment is in no error; of what is printed, addresses and options do not show it.
    #[test]
    fn secrets_stay_secret(
        path in prop::sample::select(vec![
            "namespace", "brokers.main.url", "brokers.main.topology", "brokers.main.options.x", "bindings.a.queue",
            "bindings.a.topic", "bindings.a.subscription", "bindings.a.broker", "bindings.a.order_by",
            "bindings.a.options.x", "listeners.a.concurrency", "listeners.a.timeout", "listeners.a.filter",
            "listeners.a.requires", "listeners.a.ack", "listeners.a.retry.multiplier", "listeners.a.enabled",
            "publishers.a.in_flight", "app.shutdown_timeout",
        ]),
        written in prop::sample::select(vec![
            "${SECRET}", "amqp://me:${SECRET}@host:x", "amqp://me:${SECRET}@host", "a, ${SECRET}", "Not ${SECRET}",
        ]),
    ) {
        let by_reference = Config::builder().toml(BROKER).environment([("SECRET", "hunter2")]).set(path, written);
        let variable = format!("MESSAGING__{}", path.replace('.', "__").to_uppercase());
        let value = written.replace("${SECRET}", "hunter2");
        let by_variable = Config::builder().toml(BROKER).environment([(variable, value)]);
        for builder in [by_reference, by_variable] {
            let shown = match builder.build() {
                Ok(config) => {
                    let broker = config.brokers().unwrap().remove(0);
                    let options: Vec<_> = broker.destinations.values().map(|settings| &settings.driver).collect();
                    format!("{:?} {:?} {options:?}", broker.url, broker.settings)
                }
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
        }
    }
}
