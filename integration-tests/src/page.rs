//! A page of an adapter's options, read by the adapter's own tests: the page and the code have to say the same.

use std::collections::BTreeSet;

/// The examples in TOML.
#[must_use]
pub fn examples(page: &str) -> Vec<&str> {
    page.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect()
}

/// Of each row of the tables of options, the keys and the example.
///
/// # Panics
/// If a row has another number of cells than four.
#[must_use]
pub fn rows(page: &str) -> Vec<(Vec<&str>, &str)> {
    let tables = page.split("\n\n").filter(|part| part.starts_with("| key | meaning | default | example |"));
    let rows = tables.flat_map(|table| table.lines().skip(2));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        let keys = cells[0].split('`').skip(1).step_by(2).collect();
        (keys, cells[3].trim_end_matches('|').trim().trim_matches('`'))
    })
    .collect()
}

/// The keys that a module reads. They stand in it by name: `take…("key")`, or in a table of names and places.
#[must_use]
pub fn keys_taken(source: &str) -> BTreeSet<&str> {
    let code = source.split_once("#[cfg(test)]").map_or(source, |(code, _)| code);
    let pieces: Vec<&str> = code.split('"').collect();
    let taken = pieces.windows(3).filter(|window| {
        let before = window[0].trim_end();
        let is_taken = ["take(", "take_positive(", "take_duration(", ">("].iter().any(|call| before.ends_with(call));
        is_taken || window[2].starts_with(", &mut self.")
    });
    taken.map(|window| window[1]).collect()
}
