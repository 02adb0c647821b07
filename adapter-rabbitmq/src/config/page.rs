//! `docs/rabbitmq.md` says what is so: its examples load, and its tables have every key and no other.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use integration_tests::page;

use super::Config;

const PAGE: &str = include_str!("../../../docs/rabbitmq.md");
const SOURCE: &str = include_str!("../config.rs");

/// A folder with the files that the page speaks of.
fn folder() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("messaging-page-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, kind) in [("ca.pem", "CERTIFICATE"), ("client.pem", "CERTIFICATE"), ("client.key", "PRIVATE KEY")] {
            fs::write(folder.join(name), format!("-----BEGIN {kind}-----\n-----END {kind}-----\n")).unwrap();
        }
        fs::write(folder.join("rabbitmq"), "s3cret\n").unwrap();
        folder.display().to_string()
    })
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
    assert_eq!(written, page::keys_taken(SOURCE));
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
