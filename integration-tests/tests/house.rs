//! Rules of the whole house, read from its sources: words, rooms, and packages.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed, and says why")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders under the rule of words. A folder is added once nothing in it breaks the rule, and never leaves.
const WORDED: &[&str] = &["adapter-kit", "benchmarks", "examples", "integration-tests"];
/// Adapters whose rooms are compared with the table in CONTRIBUTING.md.
const ADAPTERS: &[&str] = &["adapter-memory", "adapter-rabbitmq", "adapter-kafka"];
/// Folders of the packages that are published.
const PUBLISHED: &[&str] = &[
    "adapter-kafka",
    "adapter-kit",
    "adapter-memory",
    "adapter-rabbitmq",
    "messaging",
    "messaging-conformance",
    "messaging-core",
    "messaging-macros",
];
/// Comparisons of an adapter's options with their page under `docs/`, which stand beside the options that they read.
const PAGE_TESTS: &str = "config/page.rs";
/// First words that begin a comment with a clause instead of with its subject.
const CLAUSES: &[&str] = &["What", "Who", "Whoever", "Whom", "Whatever", "Whether"];
/// A constant of one word up to this length says too little about the thing it bounds.
const SHORT_WORD: usize = 9;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// All Rust sources below a folder, without tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "target"].contains(&name.as_str()) {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The word after the slashes of a comment, if the line is one.
fn comment_word(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    text.trim_start_matches(['/', '!']).split_whitespace().next()
}

/// The name of a constant of one short word, if the line declares one.
fn short_constant(line: &str) -> Option<&str> {
    let declared = line.trim_start();
    let declared = match declared.strip_prefix("pub") {
        Some(rest) => rest.split_once(' ')?.1,
        None => declared,
    };
    let (name, _) = declared.strip_prefix("const ")?.split_once(':')?;
    let is_word = name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_word && name.len() <= SHORT_WORD).then_some(name)
}

/// Comments begin with their subject, and constants say what they bound.
#[test]
fn words() {
    let mut offences = Vec::new();
    for path in WORDED.iter().flat_map(|folder| sources(&root().join(folder))) {
        let text = fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            let at = format!("{}:{}", path.strip_prefix(root()).unwrap().display(), index + 1);
            if comment_word(line).is_some_and(|word| CLAUSES.contains(&word)) {
                offences.push(format!("{at}: a comment begins with its subject, not with a clause: {}", line.trim()));
            }
            if let Some(name) = short_constant(line) {
                offences.push(format!("{at}: the constant {name} does not say what it bounds"));
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn the_rule_of_words_finds_offences() {
    assert_eq!(comment_word("    /// What is kept."), Some("What"));
    assert_eq!(comment_word("//! Kept."), Some("Kept."));
    assert_eq!(comment_word("let what = 1; // What"), None);
    assert_eq!(short_constant("pub(crate) const SOON: Duration = X;"), Some("SOON"));
    assert_eq!(short_constant("const RETRY_DELAY: Duration = X;"), None);
}

/// The table of rooms in CONTRIBUTING.md: each room, and the adapters that have it by that table.
fn rooms() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let all = || ADAPTERS.iter().map(|adapter| (*adapter).to_owned()).collect::<BTreeSet<_>>();
    let mut rooms = BTreeMap::new();
    let table = page.split_once("<!-- rooms -->").expect("the table of rooms").1;
    for row in table.split("<!-- end -->").next().unwrap().lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [room, holders, held, ..] = cells.as_slice() else { panic!("a row with fewer than three cells: {row}") };
        let holders = if *holders == "all" {
            all()
        } else {
            assert!(!held.is_empty(), "a room of some adapters has a reason: {row}");
            holders.split(", ").map(|name| format!("adapter-{name}")).collect()
        };
        rooms.insert(room.trim_matches('`').to_owned(), holders);
    }
    rooms
}

/// Siblings: each adapter has the rooms of the table and no others, so that who knows one knows the files of all.
#[test]
fn rooms_of_the_adapters() {
    let table = rooms();
    let mut offences = Vec::new();
    for adapter in ADAPTERS {
        let folder = root().join(adapter).join("src");
        let found: BTreeSet<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir() || entry.path().extension().is_some_and(|ending| ending == "rs"))
            .map(|entry| entry.path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let expected: BTreeSet<String> =
            table.iter().filter(|(_, holders)| holders.contains(*adapter)).map(|(room, _)| room.clone()).collect();
        offences.extend(found.difference(&expected).map(|room| format!("{adapter} has {room}, which its table lacks")));
        offences.extend(expected.difference(&found).map(|room| format!("{adapter} lacks {room}, which its table has")));
    }
    assert!(offences.is_empty(), "compared with the table of rooms in CONTRIBUTING.md:\n{}", offences.join("\n"));
}

/// Unit tests of a published package read no file outside of it: they pass where the package was unpacked.
#[test]
fn packages_are_self_contained() {
    let mut offences = Vec::new();
    for folder in PUBLISHED {
        let folder = root().join(folder);
        assert!(folder.join("README.md").exists(), "{} has no README.md", folder.display());
        for path in sources(&folder.join("src")).into_iter().filter(|path| !path.ends_with(PAGE_TESTS)) {
            let text = fs::read_to_string(&path).unwrap();
            for (index, line) in text.lines().enumerate() {
                let Some((_, rest)) = line.split_once("include_str!(\"") else { continue };
                let included = path.parent().unwrap().join(rest.split('"').next().unwrap());
                let included = included.canonicalize().unwrap_or(included);
                if !included.starts_with(&folder) {
                    offences.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "files outside of the package:\n{}", offences.join("\n"));
}
