//! `docs/kafka.md` says what is so: its examples load, and its tables have every key and no other.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use integration_tests::page;
use messaging::Config;
use messaging_core::{BrokerUrl, ConnectOptions, DestinationSettings};

use super::{ConnectionOptions, DestinationOptions};

const PAGE: &str = include_str!("../../../docs/kafka.md");

/// The keys that reading asks for.
fn keys_taken() -> BTreeSet<&'static str> {
    let address = ConnectOptions::new(BrokerUrl::parse("kafka://localhost").unwrap());
    let (mut options, mut settings) = (ConnectionOptions::read(&address).unwrap(), DestinationSettings::default());
    options.take(&mut settings.driver);
    DestinationOptions::default().take_destination(&mut settings);
    settings.driver.known().collect()
}

/// The page's files, with contents that pass for certificates.
fn folder() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| page::files("kafka").unwrap())
}

/// Loads a part of a configuration; without brokers of its own it gets one.
fn load(text: &str) -> Config {
    let main = if text.contains("[brokers.main]") { "" } else { "[brokers.main]\nurl = \"kafka://localhost\"\n" };
    let text = text.replace("/etc/kafka", folder()).replace("/run/secrets", folder());
    let builder = Config::builder().toml(format!("{main}{text}")).environment([("KAFKA_PASSWORD", "s3cret")]);
    builder.build().unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// Reads what it says of brokers and destinations, as connecting does.
fn read(text: &str) {
    for broker in load(text).brokers().unwrap() {
        ConnectionOptions::read(&broker).unwrap_or_else(|error| panic!("{text}\n{error}"));
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
    assert_eq!(written, keys_taken());
}

#[test]
fn its_examples_of_keys_are_taken() {
    for (keys, example) in page::rows(PAGE) {
        for key in keys {
            assert!(example.contains(&format!("{key} = ")), "{key} is not in {example}");
        }
        read(&format!("[brokers.main]\nurl = \"kafka://shop@localhost\"\noptions = {{ {example} }}\n"));
    }
}
