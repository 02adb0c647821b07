//! A page of an adapter's options, read by the adapter's own tests: the page and the code have to say the same.

use std::fs;
use std::io;

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

/// Makes the files that a page's examples name, and returns their folder: certificates, a key, and a password in the file
/// `secret`.
///
/// # Errors
/// If a file cannot be written.
pub fn files(secret: &str) -> io::Result<String> {
    let folder = std::env::temp_dir().join(format!("messaging-page-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    for (name, kind) in [("ca.pem", "CERTIFICATE"), ("client.pem", "CERTIFICATE"), ("client.key", "PRIVATE KEY")] {
        fs::write(folder.join(name), format!("-----BEGIN {kind}-----\n-----END {kind}-----\n"))?;
    }
    fs::write(folder.join(secret), "s3cret\n")?;
    Ok(folder.display().to_string())
}
