//! Strict settings: every key is taken once, as what it has to be; a key that nobody takes is a fault.
//!
//! Faults are gathered instead of returned, so that a person sees all of them at once. No error shows a value of a driver's
//! option or of a URL's parameter: any of them may be a secret.

mod duration;
mod faults;
mod setting;
mod take;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

pub use self::duration::parse_duration;
pub use self::faults::Faults;
use self::setting::Table;
pub use self::setting::{Setting, flag_of, whole_of};
use crate::error::{ErrorKind, Result};
use crate::suggest::hint;

/// Keys and values of a configuration table or of the parameters of a URL, taken one by one.
///
/// A take returns `None` where the key is missing and where its value is wrong; [`finish`](Self::finish) reports every
/// fault. Text is also read as a number, `true` or `false` where one belongs, since URL parameters and environment
/// variables hold nothing but text.
///
/// ```
/// use messaging_core::Settings;
///
/// let mut settings = Settings::new("[brokers.main]", [("lanes", "100"), ("capcity", "1")]);
/// assert_eq!(settings.take_count::<usize>("capacity", 1..=1_000), None);
/// assert_eq!(settings.take_count::<usize>("lanes", 1..=8), None);
/// assert_eq!(
///     settings.finish().unwrap_err().text(),
///     "2 faults:\n  1. \"lanes\" in [brokers.main] has to be at most 8\n  \
///      2. unknown key \"capcity\" in [brokers.main]; did you mean \"capacity\"?"
/// );
/// ```
#[derive(Default)]
pub struct Settings {
    /// The table's name, such as `[brokers.main]`; empty for the table of everything.
    path: String,
    /// The layer that the table comes from, such as `in app.toml`; may be empty.
    origin: String,
    scope: Scope,
    entries: BTreeMap<String, Setting>,
    /// Keys that were asked for, and the origin of the value where it was not the table's own.
    known: Vec<(&'static str, Option<String>)>,
    /// Shared with the tables inside, so that faults stand in the order of the reading.
    faults: Arc<Mutex<Faults>>,
}

/// Kind of the table, which decides how its unknown keys are explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    /// A table with keys of this library.
    Table,
    /// A table of a thing with a name, which may have a dot.
    Named,
    /// Options that a driver takes.
    #[default]
    Driver,
}

/// Keys that people write among a driver's options, and where they belong.
const MISPLACED_KEYS: [(&str, &str); 8] = [
    ("topology", "[brokers.NAME] topology = …"),
    ("namespace", "namespace = … at the top of the configuration"),
    ("native", "[bindings.NAME] native = …"),
    ("order_by", "[bindings.NAME] order_by = …"),
    ("prefetch", "[listeners.ID] prefetch = …"),
    ("concurrency", "[listeners.ID] concurrency = …"),
    ("in_flight", "[publishers.BINDING] in_flight = …"),
    ("in_flight_bytes", "[publishers.BINDING] in_flight_bytes = …"),
];

impl Settings {
    /// Makes a driver's options of pairs; `place` says in errors where they stand, such as
    /// `[brokers.main.options] in app.toml`. No error shows a value.
    pub fn new<K: Into<String>, V: Into<Value>>(
        place: impl Into<String>,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), Setting::hidden(value))).collect();
        Self { path: place.into(), entries, ..Self::default() }
    }

    /// Makes the table of a whole configuration; `origin` says in errors where it comes from, such as `in app.toml`, and
    /// `faults` are those that were found before.
    #[must_use]
    pub fn root(origin: impl Into<String>, entries: BTreeMap<String, Setting>, faults: Faults) -> Self {
        let faults = Arc::new(Mutex::new(faults));
        Self { path: String::new(), origin: origin.into(), scope: Scope::Table, entries, known: Vec::new(), faults }
    }

    fn inner(&self, table: Table, scope: Scope) -> Self {
        let Table { path, origin, entries } = table;
        Self { path, origin, scope, entries, known: Vec::new(), faults: Arc::clone(&self.faults) }
    }

    /// The place of the table in errors, such as `[brokers.main] in app.toml`.
    #[must_use]
    pub fn place(&self) -> String {
        joined(&[&self.path, &self.origin])
    }

    /// The layer that the table comes from, such as `in app.toml`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The keys that were not taken yet.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The keys that were asked for so far, in the order of the takes.
    pub fn known(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|(key, _)| *key)
    }

    /// True if a key is there and was not taken yet.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// True if a key is missing or is a table of nothing.
    #[must_use]
    pub fn lacks(&self, key: &str) -> bool {
        self.entries.get(key).is_none_or(Setting::is_empty_table)
    }

    /// Reports a fault of the value of a key that was asked for, or of a key that is missing.
    pub fn invalid(&self, key: &str, why: impl fmt::Display) {
        self.invalid_as(ErrorKind::Config, key, why);
    }

    /// As [`invalid`](Self::invalid), with another kind than [`ErrorKind::Config`].
    pub fn invalid_as(&self, kind: ErrorKind, key: &str, why: impl fmt::Display) {
        let text = format!("{} {why}", self.at(key));
        self.faults.lock().add_as(kind, text);
    }

    /// Reports a fault of the table as a whole.
    pub fn fault(&self, why: impl fmt::Display) {
        self.note(format!("{} {why}", self.place()));
    }

    /// Reports a fault in words of its own.
    pub fn note(&self, text: impl Into<String>) {
        self.faults.lock().add(text);
    }

    /// Names a key and its place: `"url" in [brokers.main] in app.toml`.
    #[must_use]
    pub fn at(&self, key: &str) -> String {
        self.named(key, key)
    }

    fn named(&self, key: &str, shown: &str) -> String {
        let known = self.known.iter().rev().find(|(known, _)| *known == key).and_then(|(_, origin)| origin.as_deref());
        let origin = known.or_else(|| self.entries.get(key)?.origin.as_deref()).unwrap_or(&self.origin);
        let joint = if self.path.is_empty() { "" } else { "in" };
        joined(&[&format!("{shown:?}"), joint, &self.path, origin])
    }

    /// Ends the taking of a table inside another: a key that nobody took is a fault of the whole.
    pub fn close(mut self) {
        self.report_unknown();
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// One error with every fault: values that are wrong, and keys that nobody took, each with its place and the nearest known
    /// key. It is of kind [`ErrorKind::Config`] unless all faults are of another one.
    pub fn finish(self) -> Result<()> {
        let mut faults = Faults::default();
        self.finish_into(&mut faults);
        faults.into_result()
    }

    /// As [`finish`](Self::finish), with the faults added to others.
    pub fn finish_into(mut self, faults: &mut Faults) {
        self.report_unknown();
        faults.append(std::mem::take(&mut *self.faults.lock()));
    }

    fn report_unknown(&mut self) {
        for (key, setting) in &self.entries {
            let elsewhere = MISPLACED_KEYS.iter().find(|(known, _)| known == key && self.scope == Scope::Driver);
            let text = if let Some((_, place)) = elsewhere {
                format!("{} is no option of the driver: write it as {place}", self.at(key))
            } else {
                let dotted = if self.scope == Scope::Named && setting.is_table() {
                    "; a name with a dot needs quotes, as in [bindings.\"orders.eu\"]"
                } else {
                    ""
                };
                format!("unknown key {}{}{dotted}", self.named(key, &shorten(key)), hint(key, self.known()))
            };
            self.faults.lock().add(text);
        }
        self.entries.clear();
    }
}

/// A copy has the faults found so far, and gathers its own from there on.
impl Clone for Settings {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            origin: self.origin.clone(),
            scope: self.scope,
            entries: self.entries.clone(),
            known: self.known.clone(),
            faults: Arc::new(Mutex::new(self.faults.lock().clone())),
        }
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.entries == other.entries
    }
}

impl fmt::Debug for Settings {
    /// Prints keys only: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("place", &self.place()).field("keys", &self.entries.keys()).finish()
    }
}

/// The parts that are not empty, with spaces between.
fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests;
