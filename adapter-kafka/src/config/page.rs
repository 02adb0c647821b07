//! `docs/kafka.md` says what is so: its examples load, and its tables have every key and no other.

use std::collections::BTreeSet;

use integration_tests::page;
use messaging::Config;

use super::ConnectionOptions;

const PAGE: &str = include_str!("../../../docs/kafka.md");
const SOURCE: &str = include_str!("../config.rs");

/// Loads a part of a configuration; without brokers of its own it gets one.
fn load(text: &str) -> Config {
    let main = if text.contains("[brokers.main]") { "" } else { "[brokers.main]\nurl = \"kafka://localhost\"\n" };
    let builder = Config::builder().toml(format!("{main}{text}")).environment([("KAFKA_PASSWORD", "s3cret")]);
    builder.build().unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// Reads what it says of brokers and destinations, as connecting does.
fn read(text: &str) {
    for broker in load(text).brokers().unwrap() {
        let options =
            ConnectionOptions::read(&broker.url, broker.settings).unwrap_or_else(|error| panic!("{text}\n{error}"));
        for settings in broker.destinations.into_values() {
            options.destinations.clone().with_destination(settings).unwrap_or_else(|error| panic!("{text}\n{error}"));
        }
    }
}

#[test]
fn its_examples_load() {
    let blocks = page::examples(PAGE);
    assert!(blocks.len() > 2);
    blocks.into_iter().for_each(read);
}

#[test]
fn its_tables_have_every_key_and_no_other() {
    let written: BTreeSet<&str> = page::rows(PAGE).into_iter().flat_map(|(keys, _)| keys).collect();
    assert_eq!(written, page::keys_taken(SOURCE));
}

#[test]
fn its_examples_of_keys_are_taken() {
    for (keys, example) in page::rows(PAGE) {
        for key in keys {
            assert!(example.contains(&format!("{key} = ")), "{key} is not in {example}");
        }
        read(&format!("[brokers.main]\nurl = \"kafka://localhost\"\noptions = {{ {example} }}\n"));
    }
}
