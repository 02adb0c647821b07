//! `docs/rabbitmq.md` says what is so: its examples load, and its tables have every key and no other.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use integration_tests::page;
use messaging_core::{BrokerUrl, ConnectOptions, DestinationSettings};

use super::{Config, DestinationOptions};

const PAGE: &str = include_str!("../../../docs/rabbitmq.md");

/// The keys that reading asks for.
fn keys_taken() -> BTreeSet<&'static str> {
    let address = ConnectOptions::new(BrokerUrl::parse("amqp://localhost").unwrap());
    let (mut config, mut settings) = (Config::new(&address).unwrap(), DestinationSettings::default());
    config.take(&mut settings.driver);
    DestinationOptions::default().take_destination(&mut settings);
    settings.driver.known().collect()
}

/// The page's files, with contents that pass for certificates.
fn folder() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| page::files("rabbitmq").unwrap())
}

/// Reads a part of a configuration as connecting does; without brokers of its own it gets one.
fn read(text: &str) {
    let text = text.replace("/etc/shop", folder()).replace("/run/secrets", folder());
    let main = if text.contains("[brokers.main]") { "" } else { "[brokers.main]\nurl = \"amqp://localhost\"\n" };
    let builder = messaging::Config::builder().toml(format!("{main}{text}"));
    let config = builder.environment([("RABBITMQ_PASSWORD", "s3cret")]).build();
    for broker in config.unwrap_or_else(|error| panic!("{text}\n{error}")).brokers().unwrap() {
        Config::new(&broker).unwrap_or_else(|error| panic!("{text}\n{error}"));
    }
}

#[test]
fn its_examples_load() {
    let blocks = page::examples(PAGE);
    assert!(blocks.len() > 4);
    blocks.into_iter().for_each(read);
}

#[test]
fn its_tables_have_every_key_and_no_other() {
    let written: BTreeSet<&str> = page::rows(PAGE).into_iter().flat_map(|(keys, _)| keys).collect();
    assert_eq!(written, keys_taken());
}

#[test]
fn its_examples_of_keys_are_taken() {
    // Those that only one destination can have.
    let single = ["arguments", "exchange_type", "routing_key", "binding_arguments"];
    for (keys, example) in page::rows(PAGE) {
        for key in &keys {
            assert!(example.contains(&format!("{key} = ")), "{key} is not in {example}");
        }
        read(&match single.contains(&keys[0]) {
            true => format!("[bindings.one]\ntopic = \"one\"\noptions = {{ {example} }}\n"),
            false => format!("[brokers.main]\nurl = \"amqp://localhost\"\noptions = {{ {example} }}\n"),
        });
    }
}
