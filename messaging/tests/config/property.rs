//! Whatever is written, reading ends with a configuration or an error.

use messaging::{Config, UsedAs};
use proptest::prelude::*;

use crate::{BROKER, load_as};

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

    /// A file that one slip of the pen made unreadable is not quoted.
    #[test]
    fn a_spoilt_file_is_not_quoted(
        (name, text) in prop::sample::select(vec![
            ("app.toml", "[brokers.main]\nurl = \"amqp://me:hunter2@host\"\noptions = { token = 'hunter2' }\n"),
            ("app.json", r#"{"brokers":{"main":{"url":"amqp://me:hunter2@host","options":{"token":"hunter2"}}}}"#),
            ("app.yaml", "brokers:\n  main:\n    url: amqp://me:hunter2@host\n    options: { token: hunter2 }\n"),
        ]),
        at in any::<prop::sample::Index>(),
        slip in prop::sample::select(vec![None, Some('"'), Some('['), Some('}'), Some('\n'), Some('\u{0}'), Some('&')]),
    ) {
        let at = at.index(text.len());
        let spoilt = match slip {
            None => text[..at].to_owned(),
            Some(slip) => format!("{}{slip}{}", &text[..at], &text[at..]),
        };
        // What was meant as a value and now stands as a key is told as one.
        let is_key = |shown: &str| shown.contains("unknown key") || shown.contains("stands twice in one table");
        if let Err(shown) = load_as(name, &spoilt, &[]) {
            prop_assert!(!shown.contains("hunter2") || is_key(&shown), "{}", shown);
        }
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

#[test]
fn depth_is_bounded() {
    let deep = 20_000;
    let dotted = format!("{} = 1", vec!["a"; deep].join("."));
    let header = format!("[{}]", vec!["a"; deep].join("."));
    let list = format!("a = {}{}", "[".repeat(deep), "]".repeat(deep));
    let inline = format!("a = {}1{}", "{ a = ".repeat(deep), " }".repeat(deep));
    for text in [dotted, header, list, inline] {
        assert!(load_as("app.toml", &text, &[]).is_err());
    }
    assert!(load_as("app.json", &format!("{}{}", "{\"a\":".repeat(deep), "}".repeat(deep)), &[]).is_err());
    assert!(load_as("app.yaml", &"[".repeat(deep), &[]).is_err());
    assert!(load_as("app.yaml", &format!("{}1{}", "{ a: ".repeat(deep), "}".repeat(deep)), &[]).is_err());
    let variable = format!("MESSAGING__{}", vec!["A"; deep].join("__"));
    let error = Config::builder().toml(BROKER).environment([(variable, "1")]).build().unwrap_err();
    assert!(error.text().contains("too many parts"), "{error}");
    assert!(error.text().len() < 1_000);
    assert!(Config::builder().toml(BROKER).set(vec!["a"; deep].join("."), 1).build().is_err());
}

#[cfg(feature = "yaml")]
#[test]
fn aliases_do_not_blow_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{list}]\n");
    }
    assert!(load_as("app.yaml", &text, &[]).is_err());
}
