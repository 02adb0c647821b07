//! `docs/kafka.md` says what is so: its examples load, and its tables have every key and no other.

use std::collections::BTreeSet;

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
        for settings in broker.destinations.values() {
            options.destinations.clone().with_destination(settings).unwrap_or_else(|error| panic!("{text}\n{error}"));
        }
    }
}

#[test]
fn its_examples_load() {
    let blocks: Vec<&str> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(blocks.len() > 2);
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
    for (keys, example) in rows() {
        for key in keys {
            assert!(example.contains(&format!("{key} = ")), "{key} is not in {example}");
        }
        read(&format!("[brokers.main]\nurl = \"kafka://localhost\"\noptions = {{ {example} }}\n"));
    }
}
