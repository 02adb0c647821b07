//! `docs/rabbitmq.md` says what is so: its examples load, and its tables have every key and no other.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

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
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() > 4);
    blocks.into_iter().for_each(read);
}

/// The keys in the first cell of each row of the tables of options, and the example in the last.
fn rows() -> Vec<(Vec<&'static str>, &'static str)> {
    let tables = PAGE.split("\n\n").filter(|part| part.starts_with("| key | meaning | default | example |"));
    let rows = tables.flat_map(|table| table.lines().skip(2));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        let keys = cells[0].split('`').skip(1).step_by(2).collect();
        (keys, cells[3].trim_end_matches('|').trim().trim_matches('`'))
    })
    .collect()
}

#[test]
fn its_tables_have_every_key_and_no_other() {
    let written: BTreeSet<&str> = rows().into_iter().flat_map(|(keys, _)| keys).collect();
    // Keys are taken by their name in the source: `take…("key")`, or a table of names and places.
    let (code, _) = SOURCE.split_once("#[cfg(test)]").unwrap();
    let pieces: Vec<&str> = code.split('"').collect();
    let taken = pieces.windows(3).filter(|window| {
        let before = window[0].trim_end();
        let is_taken = ["take(", "take_positive(", "take_duration(", ">("].iter().any(|call| before.ends_with(call));
        is_taken || window[2].starts_with(", &mut self.")
    });
    let taken: BTreeSet<&str> = taken.map(|window| window[1]).collect();
    assert_eq!(written, taken);
}

#[test]
fn its_examples_of_keys_are_taken() {
    // Those that only one destination can have.
    let single = ["arguments", "exchange_type", "routing_key", "binding_arguments"];
    for (keys, example) in rows() {
        for key in &keys {
            assert!(example.contains(&format!("{key} = ")), "{key} is not in {example}");
        }
        read(&match single.contains(&keys[0]) {
            true => format!("[bindings.one]\ntopic = \"one\"\noptions = {{ {example} }}\n"),
            false => format!("[brokers.main]\nurl = \"amqp://localhost\"\noptions = {{ {example} }}\n"),
        });
    }
}
