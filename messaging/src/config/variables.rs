//! Environment variables that override the files: `MESSAGING__BROKERS__MAIN__URL`.
//!
//! Upper or lower case after the prefix does not matter. In the name of a broker, binding, listener or publisher, and in a
//! driver's key, `_` stands for whatever the files have there (`-`, `.` or `_`), and for `-` where they have no such name.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use messaging_core::Faults;

use super::expand::Environment;
use super::listener;

/// Beginning of the names of all overriding variables.
pub(super) const PREFIX: &str = "MESSAGING__";

/// The most parts a path may have; trees are walked recursively.
pub(super) const PARTS_MAX: usize = 32;

/// One value to set, and the variable that says so.
pub(super) struct Override {
    pub(super) variable: String,
    pub(super) path: Vec<String>,
    pub(super) value: String,
}

/// Reads all overrides; `files` is what the layers before say, for the spelling of names.
pub(super) fn overrides(environment: &Environment, files: &Dict, faults: &mut Faults) -> Vec<Override> {
    let mut found: BTreeMap<Vec<String>, Override> = BTreeMap::new();
    for (variable, value) in environment.iter() {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let Some(value) = value else {
            faults.add(format!("the environment variable {variable} has a value that is not Unicode"));
            continue;
        };
        match path_of(rest, files) {
            Err(why) => {
                let variable: String = variable.chars().take(100).collect();
                faults.add(format!("the environment variable {variable} {why}"));
            }
            Ok(path) => {
                let new = Override { variable: variable.to_owned(), path: path.clone(), value: value.to_owned() };
                if let Some(old) = found.insert(path, new) {
                    faults.add(format!(
                        "the environment variables {} and {variable} set the same: remove one",
                        old.variable
                    ));
                }
            }
        }
    }
    // In the order of the paths a table stands right before what is in it.
    let found: Vec<Override> = found.into_values().collect();
    for (outer, inner) in found.iter().zip(found.iter().skip(1)) {
        if inner.path.starts_with(&outer.path) {
            faults.add(format!(
                "the environment variable {} sets as one value what {} sets a part of: remove one",
                outer.variable, inner.variable
            ));
        }
    }
    found
}

fn path_of(rest: &str, files: &Dict) -> Result<Vec<String>, String> {
    let words: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    if words.iter().any(String::is_empty) {
        return Err("has an empty part: write for example MESSAGING__BROKERS__MAIN__URL".to_owned());
    }
    if words.len() > PARTS_MAX {
        return Err(format!("has too many parts: {}, where {PARTS_MAX} are more than any key has", words.len()));
    }
    let section = words[0].clone();
    if words.len() == 1 || !["brokers", "bindings", "listeners", "publishers"].contains(&section.as_str()) {
        return Ok(words);
    }
    // A listener's id may hold "--", which reads as the end of a part here: the last key a listener has ends the id.
    let name_end = match section.as_str() {
        "listeners" => {
            words.iter().rposition(|word| listener::LISTENER_KEYS.contains(&word.as_str())).unwrap_or(2).max(2)
        }
        _ => 2,
    };
    let table = files.get(&section).and_then(Value::as_dict);
    // Publishers go by the names of bindings.
    let bindings = files.get("bindings").and_then(Value::as_dict).filter(|_| section == "publishers");
    let name_end = name_end.min(words.len());
    let name = known_as(&words[1..name_end].join("__"), table.into_iter().chain(bindings))?;
    let mut path = vec![section, name.clone()];
    path.extend_from_slice(&words[name_end..]);
    if let [_, _, key, options @ ..] = path.as_mut_slice()
        && key == "options"
    {
        // A driver's keys may have tables inside, such as a queue's arguments.
        let mut known = table.and_then(|table| table.get(&name)?.as_dict()?.get("options")?.as_dict());
        for option in options {
            if let Some(spelled) = spellings(option, known.into_iter()).first() {
                *option = (*spelled).to_owned();
            }
            known = known.and_then(|table| table.get(option.as_str())?.as_dict());
        }
    }
    Ok(path)
}

/// The name that is meant by the words of a variable.
fn known_as<'a>(word: &str, tables: impl Iterator<Item = &'a Dict>) -> Result<String, String> {
    let known = spellings(word, tables);
    match known.as_slice() {
        [] => Ok(word.replace('_', "-")),
        [one] => Ok((*one).to_owned()),
        several => Err(format!(
            "may mean {}: these names cannot be told apart there, so set them in the file",
            several.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
        )),
    }
}

/// The keys of the tables that read the same as `word` once `-` and `.` are `_`.
fn spellings<'a>(word: &str, tables: impl Iterator<Item = &'a Dict>) -> Vec<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '.'], "_");
    let mut names: Vec<&str> =
        tables.flat_map(Dict::keys).map(String::as_str).filter(|name| plain(name) == plain(word)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::*;

    const FILE: &str = r#"
        [brokers.main]
        options = { max-wait = 1, arguments = { x-max-length = 5 } }
        [bindings."orders.eu"]
        [bindings.stock-ticks]
        [listeners.handle-order]
        [listeners."a.b"]
        [listeners.a-b]
        [listeners.orders--audit]
    "#;

    fn path(rest: &str) -> Result<String, String> {
        path_of(rest, &Format::Toml.read(FILE).unwrap()).map(|path| path.join("/"))
    }

    #[test]
    fn names_are_found_by_their_words() {
        for (rest, expected) in [
            ("NAMESPACE", "namespace"),
            ("APP__SHUTDOWN_TIMEOUT", "app/shutdown_timeout"),
            ("BROKERS__MAIN__URL", "brokers/main/url"),
            ("Brokers__main__Url", "brokers/main/url"),
            ("BROKERS__MAIN__OPTIONS__MAX_WAIT", "brokers/main/options/max-wait"),
            ("BROKERS__MAIN__OPTIONS__OTHER_KEY", "brokers/main/options/other_key"),
            ("BROKERS__MAIN__OPTIONS__ARGUMENTS__X_MAX_LENGTH", "brokers/main/options/arguments/x-max-length"),
            ("BINDINGS__ORDERS_EU__QUEUE", "bindings/orders.eu/queue"),
            ("BINDINGS__NEW_ONE__QUEUE", "bindings/new-one/queue"),
            ("PUBLISHERS__STOCK_TICKS__IN_FLIGHT", "publishers/stock-ticks/in_flight"),
            ("LISTENERS__HANDLE_ORDER__DEAD_LETTER", "listeners/handle-order/dead_letter"),
            ("LISTENERS__HANDLE_ORDER__RETRY__ATTEMPTS", "listeners/handle-order/retry/attempts"),
            ("LISTENERS__ORDERS__AUDIT__CONCURRENCY", "listeners/orders--audit/concurrency"),
            ("LISTENERS__NEW__ONE__RETRY__MAX", "listeners/new--one/retry/max"),
            ("LISTENERS__ORDERS__RETRY__TIMEOUT", "listeners/orders--retry/timeout"),
            ("LISTENERS__HANDLE_ORDER__CONCURENCY", "listeners/handle-order/concurency"),
            ("LISTENERS__HANDLE_ORDER", "listeners/handle-order"),
            ("LISTENERS__TIMEOUT", "listeners/timeout"),
            ("OTHER__THING", "other/thing"),
        ] {
            assert_eq!(path(rest).unwrap(), expected, "{rest}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        assert!(path("LISTENERS__A_B__TIMEOUT").unwrap_err().contains("\"a-b\" or \"a.b\""));
        for empty in ["", "__", "BROKERS__", "BROKERS____URL"] {
            assert!(path(empty).unwrap_err().contains("empty part"), "{empty}");
        }
    }

    #[test]
    fn two_that_set_the_same_or_a_part_of_it_are_refused() {
        let environment = |names: [&str; 2]| Environment::of(names.map(|name| (name.to_owned(), "1".to_owned())));
        for names in [
            ["MESSAGING__NAMESPACE", "MESSAGING__namespace"],
            ["MESSAGING__BROKERS__MAIN", "MESSAGING__BROKERS__MAIN__URL"],
        ] {
            let mut faults = Faults::default();
            overrides(&environment(names), &Dict::new(), &mut faults);
            let error = faults.into_result().unwrap_err();
            assert!(names.iter().all(|name| error.text().contains(name)), "{error}");
            assert!(!error.text().contains("faults:"), "{error}");
        }
    }
}
