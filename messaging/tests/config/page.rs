//! `docs/configuration.md` says what is so: its example loads, every line of its tables is tried, and no key is missing.

use std::collections::BTreeSet;
use std::fs;

use messaging::{Config, Feature, PublishOptions, UsedAs};

use crate::load;

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap()
}

fn example() -> String {
    let page = page();
    let (_, after) = page.split_once("```toml\n").unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

/// Key, default, example and variable of each row.
fn rows() -> Vec<[String; 4]> {
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<[String; 4]> = rows
        .map(|row| {
            let cells: Vec<String> =
                row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()).collect();
            let [key, _, default, example, variable] = cells.try_into().unwrap();
            [key, default, example, variable]
        })
        .collect();
    assert!(rows.len() > 30);
    rows
}

#[test]
fn its_example_loads() {
    let config = load(&example(), &[]).unwrap();
    assert_eq!(config.namespace().unwrap().as_str(), "dev");
    assert_eq!(config.brokers().unwrap().len(), 2);
    assert_eq!(config.binding_names().collect::<Vec<_>>(), ["old-orders", "orders", "weather"]);
    assert_eq!(config.binding("weather", UsedAs::Queue).unwrap().subscription.unwrap().as_str(), "dashboard");
    let listener = config.listener("handle-order");
    assert_eq!((listener.concurrency, listener.retry.unwrap().attempts), (Some(8), Some(5)));
}

#[cfg(feature = "memory")]
#[tokio::test]
async fn the_brokers_of_its_example_open() {
    for options in load(&example(), &[]).unwrap().brokers().unwrap() {
        messaging::drivers().connect(options).await.unwrap();
    }
}

#[test]
fn each_of_its_variables_sets_its_key_to_its_example() {
    for [key, _, example, variable] in rows() {
        // What a binding needs besides the key that is tried.
        let rest = match key.as_str() {
            "bindings.BINDING.queue" | "bindings.BINDING.topic" => "[bindings.binding]",
            "bindings.BINDING.subscription" => "[bindings.binding]\ntopic = \"a\"",
            _ => "[bindings.binding]\nqueue = \"a\"",
        };
        let text = format!("[brokers.main]\nurl = \"memory://\"\n[brokers.broker]\nurl = \"memory://\"\n{rest}\n");
        let without = load(&text, &[]).map(|config| format!("{config:?} {:?}", config.listener("listener")));
        let with = load(&text, &[(&variable, &example)]).unwrap_or_else(|error| panic!("{key}: {error}"));
        let with = format!("{with:?} {:?}", with.listener("listener"));
        assert_ne!(without.ok(), Some(with), "{variable} changes nothing");
        // The key is the variable, in the form of a path.
        let path = key.to_lowercase();
        let by_path = Config::builder().toml(&text).set(path.clone(), &example).build();
        assert!(by_path.is_ok() || path.ends_with(".options"), "{path}: {by_path:?}");
        let spelled = variable.strip_prefix("MESSAGING__").unwrap().to_lowercase().replace("__", ".");
        assert_eq!(spelled.strip_suffix(".capacity").unwrap_or(&spelled), path);
    }
}

/// The keys known to a table, as the error about an unknown one lists them.
fn known_in(table: &str) -> Vec<String> {
    let text = format!("{table}.zzzzzzzzzzzzzzzzzzzz = 1\n[brokers.main]\nurl = \"memory://\"\n");
    let error = load(text.trim_start_matches('.'), &[]).unwrap_err();
    let line = error.lines().find(|line| line.contains("zzzzzzzz")).unwrap();
    line.split_once("known here: ").unwrap().1.split(", ").map(str::to_owned).collect()
}

#[test]
fn no_key_is_missing_and_none_is_made_up() {
    let mut known = BTreeSet::new();
    for (table, prefix) in [
        ("", ""),
        ("app", "app."),
        ("brokers.other", "brokers.BROKER."),
        ("bindings.a", "bindings.BINDING."),
        ("listeners.a", "listeners.LISTENER."),
        ("listeners.a.retry", "listeners.LISTENER.retry."),
        ("publishers.a", "publishers.BINDING."),
    ] {
        let tables = ["brokers", "bindings", "listeners", "publishers", "app", "retry"];
        known.extend(
            known_in(table).iter().filter(|key| !tables.contains(&key.as_str())).map(|key| format!("{prefix}{key}")),
        );
    }
    let written: BTreeSet<String> = rows().into_iter().map(|[key, ..]| key).collect();
    assert_eq!(written, known);
}

#[test]
fn its_defaults_of_publishers_are_so() {
    let defaults = PublishOptions::default();
    let default_of = |key: &str| {
        let row = rows().into_iter().find(|[known, ..]| known == key).unwrap();
        row[1].split('`').next().unwrap().to_owned()
    };
    assert_eq!(default_of("publishers.BINDING.in_flight"), defaults.in_flight.to_string());
    assert_eq!(default_of("publishers.BINDING.in_flight_bytes"), defaults.in_flight_bytes.to_string());
    assert_eq!(default_of("publishers.BINDING.timeout"), format!("{:?}", defaults.timeout));
    assert_eq!(default_of("app.shutdown_timeout"), format!("{:?}", Config::memory().shutdown_timeout()));
}

#[test]
fn it_lists_every_feature() {
    let page = page();
    let (_, listed) = page.split_once("The features: ").unwrap();
    let listed = listed.split_once('.').unwrap().0;
    let listed: Vec<&str> =
        listed.split(", ").flat_map(|part| part.split(",\n")).map(|word| word.trim_matches(['`', ' ', '\n'])).collect();
    assert_eq!(listed, Feature::ALL.map(Feature::name));
}
