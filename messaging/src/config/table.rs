//! Reading tables strictly: each key is taken once, as what it has to be; whatever was not taken is a fault.
//!
//! Faults are gathered instead of returned, so that a person sees all of them at once.

use std::fmt::Display;
use std::time::Duration;

use figment::value::{Dict, Num, Tag, Value};
use messaging_core::suggest::hint;
use messaging_core::{Error, Settings, parse_duration};

use super::reader::{Reader, Text};

/// One table while it is read.
pub(super) struct Table<'r> {
    reader: &'r Reader<'r>,
    path: String,
    tag: Tag,
    entries: Dict,
    known: Vec<&'static str>,
    /// Whether the table stands for a thing with a name, which may have a dot.
    named: bool,
}

impl<'r> Table<'r> {
    /// The table of everything.
    pub(super) fn root(reader: &'r Reader<'r>, tag: Tag, entries: Dict) -> Self {
        Self { reader, path: String::new(), tag, entries, known: Vec::new(), named: false }
    }

    /// Where the table stands: `[brokers.main] in app.toml`.
    pub(super) fn place(&self) -> String {
        self.place_at(self.tag)
    }

    /// Where the table comes from: `in app.toml`.
    pub(super) fn origin(&self) -> String {
        self.reader.origin(self.tag)
    }

    fn place_at(&self, tag: Tag) -> String {
        let origin = self.reader.origin(tag);
        if self.path.is_empty() { origin } else { format!("[{}] {origin}", self.path) }
    }

    /// Names a key and where it stands: `"url" in [brokers.main] in app.toml`.
    fn at(&self, key: &str, tag: Tag) -> String {
        let joint = if self.path.is_empty() { " " } else { " in " };
        format!("{key:?}{joint}{}", self.place_at(tag))
    }

    /// What all tables share.
    pub(super) fn reader(&self) -> &'r Reader<'r> {
        self.reader
    }

    /// Whether a key is missing, or is a table of nothing.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.entries.get(key).is_none_or(|value| value.as_dict().is_some_and(Dict::is_empty))
    }

    /// Whether a key is there and was not taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps a fault about the table as a whole.
    pub(super) fn fault(&self, why: impl Display) {
        self.reader.fault(format!("{} {why}", self.place()));
    }

    /// Keeps what a parser says about the name of the table.
    pub(super) fn fault_of_name(&self, error: &Error) {
        self.reader.fault(format!("{}: {}", self.place(), error.text()));
    }

    /// Keeps a fault about a key that is there or missing.
    pub(super) fn fault_at(&self, key: &str, why: impl Display) {
        self.reader.fault(format!("{} {why}", self.at(key, self.tag)));
    }

    fn take(&mut self, key: &'static str) -> Option<(String, Value)> {
        self.known.push(key);
        let value = self.entries.remove(key)?;
        Some((self.at(key, value.tag()), value))
    }

    fn wrong(&self, place: &str, wanted: &str, given: &Value) {
        self.reader.fault(format!("{place} has to be {wanted}, not {}", kind_of(given)));
    }

    /// A text in which variables are expanded, and its place for further faults.
    pub(super) fn text(&mut self, key: &'static str) -> Option<(String, Text)> {
        let (place, value) = self.take(key)?;
        match &value {
            Value::String(tag, text) => Some((place.clone(), self.reader.expand(&place, *tag, text)?)),
            other => {
                self.wrong(&place, "text in quotes", other);
                None
            }
        }
    }

    /// A text that a parser turns into something.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Error>,
    ) -> Option<T> {
        let (place, text) = self.text(key)?;
        self.checked(&place, &text, what, parse(&text.value))
    }

    /// A name. The rule is told even where the value is not shown.
    pub(super) fn name<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Error>,
    ) -> Option<T> {
        let what = format!("{what} of lower-case letters and digits, joined by single \".\" or \"-\"");
        self.parsed(key, &what, parse)
    }

    fn checked<T>(&self, place: &str, text: &Text, what: &str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(parsed) => return Some(parsed),
            Err(_) if text.confidential => {
                self.reader
                    .fault(format!("{place} is not a valid {what} (the value is not shown: it may be a secret)"));
            }
            Err(error) => self.reader.fault(format!("{place}: {}", error.text())),
        }
        None
    }

    /// An address. Its errors never repeat it, so they are told in full.
    pub(super) fn address<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Error>) -> Option<T> {
        let (place, text) = self.text(key)?;
        parse(&text.value).map_err(|error| self.reader.fault(format!("{place}: {}", error.text()))).ok()
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let (place, text) = self.text(key)?;
        self.one_of(&place, &text, words)
    }

    fn one_of<T: Copy>(&self, place: &str, text: &Text, words: &[(&'static str, T)]) -> Option<T> {
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*meant);
        }
        let known = words.iter().map(|(word, _)| *word);
        if text.confidential {
            let known: Vec<&str> = known.collect();
            self.reader
                .fault(format!("{place} is none of {} (the value is not shown: it may be a secret)", known.join(", ")));
        } else {
            self.reader.fault(format!("{place} cannot be {:?}{}", shorten(&text.value), hint(&text.value, known)));
        }
        None
    }

    /// Several of a set of words: a list, or one text with commas as the environment has it.
    pub(super) fn words<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<Vec<T>> {
        let (place, value) = self.take(key)?;
        let mut texts = Vec::new();
        match &value {
            Value::Array(_, list) => {
                for item in list {
                    match item {
                        Value::String(tag, text) => texts.push(self.reader.expand(&place, *tag, text)?),
                        other => {
                            self.wrong(&place, "a list of texts in quotes", other);
                            return None;
                        }
                    }
                }
            }
            Value::String(tag, text) => {
                let Text { value, confidential } = self.reader.expand(&place, *tag, text)?;
                let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
                texts.extend(parts.map(|part| Text { value: part.to_owned(), confidential }));
            }
            other => {
                self.wrong(&place, "a list of texts in quotes", other);
                return None;
            }
        }
        // Every word is looked at before giving up, so that all wrong ones are told.
        let meant: Vec<Option<T>> = texts.iter().map(|text| self.one_of(&place, text, words)).collect();
        meant.into_iter().collect()
    }

    /// A whole number from 1 to `max`.
    pub(super) fn count(&mut self, key: &'static str, max: usize) -> Option<usize> {
        let (place, value) = self.take(key)?;
        let number = match &value {
            Value::Num(_, number) => whole(*number),
            Value::String(tag, text) => self.reader.expand(&place, *tag, text)?.value.trim().parse::<i128>().ok(),
            _ => None,
        };
        let fault = match number {
            None => format!("{place} has to be a whole number, not {}", kind_of(&value)),
            Some(number) if number < 1 => format!("{place} has to be at least 1"),
            Some(number) => match usize::try_from(number) {
                Ok(number) if number <= max => return Some(number),
                _ => format!("{place} has to be at most {max}"),
            },
        };
        self.reader.fault(fault);
        None
    }

    /// A number that is at least `min`.
    pub(super) fn factor(&mut self, key: &'static str, min: f64) -> Option<f64> {
        let (place, value) = self.take(key)?;
        let number = match &value {
            Value::Num(_, number) => number.to_f64().or_else(|| Some(whole(*number)? as f64)),
            Value::String(tag, text) => self.reader.expand(&place, *tag, text)?.value.trim().parse::<f64>().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() && number >= min => Some(number),
            Some(_) => {
                self.reader.fault(format!("{place} has to be at least {min}"));
                None
            }
            None => {
                self.wrong(&place, "a number", &value);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let (place, value) = self.take(key)?;
        let flag = match &value {
            Value::Bool(_, flag) => Some(*flag),
            Value::String(tag, text) => {
                self.reader.expand(&place, *tag, text)?.value.trim().to_ascii_lowercase().parse().ok()
            }
            _ => None,
        };
        if flag.is_none() {
            self.wrong(&place, "true or false", &value);
        }
        flag
    }

    /// A length of time; a number has no unit, and is refused for that.
    pub(super) fn duration(&mut self, key: &'static str, zero: Zero) -> Option<Duration> {
        let (place, value) = self.take(key)?;
        let Value::String(tag, text) = &value else {
            self.wrong(&place, "a length of time such as \"500ms\", \"30s\" or \"5min\"", &value);
            return None;
        };
        let text = self.reader.expand(&place, *tag, text)?;
        let duration =
            self.checked(&place, &text, "length of time such as \"500ms\"", parse_duration(text.value.trim()))?;
        if duration.is_zero() && zero == Zero::Refused {
            self.reader.fault(format!("{place} has to be longer than nothing"));
            return None;
        }
        Some(duration)
    }

    /// A table with keys that are known.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'r>> {
        let (place, value) = self.take(key)?;
        match value {
            Value::Dict(tag, entries) => Some(self.inner(key, tag, entries, false)),
            other => {
                self.wrong(&place, "a table", &other);
                None
            }
        }
    }

    /// A table of tables with names: `[brokers.main]`, `[brokers.other]`.
    pub(super) fn named(&mut self, key: &'static str) -> Option<Vec<(String, Table<'r>)>> {
        let table = self.table(key)?;
        let mut tables = Vec::with_capacity(table.entries.len());
        for (name, value) in &table.entries {
            match value {
                Value::Dict(tag, entries) => {
                    tables.push((name.clone(), table.inner(name, *tag, entries.clone(), true)));
                }
                other => self.wrong(&table.at(name, other.tag()), "a table", other),
            }
        }
        Some(tables)
    }

    fn inner(&self, key: &str, tag: Tag, entries: Dict, named: bool) -> Table<'r> {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let key = if key.chars().all(bare) && !key.is_empty() { key.to_owned() } else { format!("{key:?}") };
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Table { reader: self.reader, path, tag, entries, known: Vec::new(), named }
    }

    /// What only the driver knows; the default where the key is missing.
    pub(super) fn settings(&mut self, key: &'static str) -> Settings {
        let Some(table) = self.table(key) else { return Settings::default() };
        let entries: Vec<(String, serde_json::Value)> = table
            .entries
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), self.reader.json(&table.at(name, value.tag()), value)?)))
            .collect();
        Settings::new(table.place(), entries)
    }

    /// Ends the reading: every key that was not taken is a fault.
    pub(super) fn finish(self) {
        for (key, value) in &self.entries {
            let dotted = if self.named && matches!(value, Value::Dict(..)) {
                "; a name with a dot needs quotes, as in [bindings.\"orders.eu\"]"
            } else {
                ""
            };
            let place = self.at(&shorten(key), value.tag());
            self.reader.fault(format!("unknown key {place}{}{dotted}", hint(key, self.known.iter().copied())));
        }
    }
}

/// Whether no time at all is a length of time here.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

fn whole(number: Num) -> Option<i128> {
    number.to_i128().or_else(|| number.to_u128().map(|number| i128::try_from(number).unwrap_or(i128::MAX)))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(_, number) if whole(*number).is_none() => "a fraction",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}
