//! Taking values: each as what it has to be.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::setting::{Content, Setting, Table, flag_of, kind_of};
use super::{Scope, Settings, parse_duration, shorten};
use crate::error::Error;
use crate::suggest::{hint, nearest};

/// Addition to a fault whose value is kept back.
const NOT_SHOWN: &str = "(the value is not shown: it may be a secret)";

impl Settings {
    /// Takes a value as it stands.
    fn take(&mut self, key: &'static str) -> Option<Setting> {
        let setting = self.entries.remove(key);
        self.known.push((key, setting.as_ref().and_then(|setting| setting.origin.clone())));
        setting.filter(|setting| setting.content != Content::Faulty)
    }

    fn wrong(&self, key: &str, wanted: &str, given: &Setting) {
        self.invalid(key, format_args!("has to be {wanted}, not {}", given.kind()));
    }

    fn take_shown_text(&mut self, key: &'static str) -> Option<(String, bool)> {
        let setting = self.take(key)?;
        let text = setting.as_text().map(|text| (text.to_owned(), setting.shown));
        if text.is_none() {
            self.wrong(key, "text in quotes", &setting);
        }
        text
    }

    /// Takes a text.
    pub fn take_text(&mut self, key: &'static str) -> Option<String> {
        self.take_shown_text(key).map(|(text, _)| text)
    }

    /// Takes a text that is kept out of every output.
    pub fn take_secret(&mut self, key: &'static str) -> Option<SecretString> {
        self.take_text(key).map(SecretString::from)
    }

    /// Takes a text that a parser turns into something; `what` says in errors what it has to be. The parser's error is reported
    /// only where the value may be shown.
    pub fn take_parsed<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Error>,
    ) -> Option<T> {
        let (text, shown) = self.take_shown_text(key)?;
        match parse(&text) {
            Ok(parsed) => return Some(parsed),
            Err(error) if shown => self.explain(key, &error),
            Err(_) => self.invalid(key, format_args!("is not a valid {what} {NOT_SHOWN}")),
        }
        None
    }

    fn explain(&self, key: &str, error: &Error) {
        self.note(format!("{}: {}", self.at(key), error.text()));
    }

    /// Takes a name; `what` says which.
    pub fn take_name<T>(
        &mut self,
        key: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, Error>,
    ) -> Option<T> {
        let what = format!("{what} of lower-case letters and digits, joined by single \".\" or \"-\"");
        self.take_parsed(key, &what, parse)
    }

    /// Takes a text whose parser never repeats it, so that its errors are reported in full.
    pub fn take_address<T>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, Error>) -> Option<T> {
        let text = self.take_text(key)?;
        parse(&text).map_err(|error| self.explain(key, &error)).ok()
    }

    /// Takes one of a few words.
    pub fn take_word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let (text, shown) = self.take_shown_text(key)?;
        self.meant(key, &text, shown, words)
    }

    fn meant<T: Copy>(&self, key: &str, text: &str, shown: bool, words: &[(&'static str, T)]) -> Option<T> {
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meant);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        if shown {
            self.invalid(key, format_args!("cannot be {:?}{}", shorten(text), hint(text, known)));
        } else {
            // A near word is the slip of a finger, and no secret.
            let near = nearest(text, known.iter().copied()).map(|word| format!("; did you mean {word:?}?"));
            let near = near.unwrap_or_default();
            self.invalid(key, format_args!("is none of {}{near} {NOT_SHOWN}", known.join(", ")));
        }
        None
    }

    /// Takes several of a set of words: a list, or one text with commas as the environment has it.
    pub fn take_words<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<Vec<T>> {
        let setting = self.take(key)?;
        let texts: Option<Vec<&str>> = match &setting.content {
            Content::Value(Value::String(text)) => {
                Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect())
            }
            Content::Value(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let Some(texts) = texts else {
            let kind = match &setting.content {
                Content::Value(Value::Array(list)) => list.iter().find(|item| !item.is_string()).map(kind_of),
                _ => None,
            };
            let kind = kind.unwrap_or(setting.kind());
            self.invalid(key, format_args!("has to be a list of texts in quotes, not {kind}"));
            return None;
        };
        // Every word is tried before giving up, so that all wrong ones are reported.
        let meant: Vec<Option<T>> = texts.iter().map(|text| self.meant(key, text, setting.shown, words)).collect();
        meant.into_iter().collect()
    }

    /// Takes a whole number, of any sign and size.
    pub fn take_whole(&mut self, key: &'static str) -> Option<i128> {
        let setting = self.take(key)?;
        let number = setting.as_whole();
        if number.is_none() {
            self.wrong(key, "a whole number", &setting);
        }
        number
    }

    /// Takes a whole number within bounds.
    pub fn take_count<N: TryFrom<i128>>(&mut self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<N> {
        let number = self.take_whole(key)?;
        let (least, most) = (*bounds.start(), *bounds.end());
        if number < i128::from(least) {
            self.invalid(key, format_args!("has to be at least {least}"));
            return None;
        }
        let counted =
            Some(number).filter(|number| *number <= i128::from(most)).and_then(|number| N::try_from(number).ok());
        if counted.is_none() {
            self.invalid(key, format_args!("has to be at most {most}"));
        }
        counted
    }

    /// Takes a number that is at least `least`.
    pub fn take_factor(&mut self, key: &'static str, least: f64) -> Option<f64> {
        let setting = self.take(key)?;
        let number = match &setting.content {
            Content::Value(Value::Number(number)) => number.as_f64(),
            Content::Value(Value::String(text)) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() && number >= least => return Some(number),
            Some(_) => self.invalid(key, format_args!("has to be at least {least}")),
            None => self.wrong(key, "a number", &setting),
        }
        None
    }

    /// Takes `true` or `false`.
    pub fn take_flag(&mut self, key: &'static str) -> Option<bool> {
        let setting = self.take(key)?;
        let flag = match &setting.content {
            Content::Value(value) => flag_of(value),
            _ => None,
        };
        if flag.is_none() {
            self.wrong(key, "true or false", &setting);
        }
        flag
    }

    /// Takes a length of time such as `"1500ms"`, `"30s"` or `"1h 30min"`. A number has no unit, and is refused for that.
    pub fn take_duration(&mut self, key: &'static str) -> Option<Duration> {
        let setting = self.take(key)?;
        let Some(text) = setting.as_text() else {
            self.wrong(key, "a length of time such as \"500ms\", \"30s\" or \"5min\"", &setting);
            return None;
        };
        match parse_duration(text.trim()) {
            Ok(duration) => return Some(duration),
            Err(error) if setting.shown => self.explain(key, &error),
            Err(_) => {
                self.invalid(key, format_args!("is not a valid length of time such as \"500ms\" {NOT_SHOWN}"));
            }
        }
        None
    }

    /// Takes a length of time that is at least `least`.
    pub fn take_at_least(&mut self, key: &'static str, least: Duration) -> Option<Duration> {
        let duration = self.take_duration(key)?;
        if duration >= least {
            return Some(duration);
        }
        self.invalid(key, format_args!("has to be at least {least:?}"));
        None
    }

    /// Takes a length of time that is longer than nothing.
    pub fn take_time_limit(&mut self, key: &'static str) -> Option<Duration> {
        let duration = self.take_duration(key)?;
        if duration.is_zero() {
            self.invalid(key, "has to be longer than nothing");
        }
        Some(duration).filter(|duration| !duration.is_zero())
    }

    fn take_entries(&mut self, key: &'static str) -> Option<Table> {
        let setting = self.take(key)?;
        match setting.content {
            Content::Table(table) => Some(table),
            Content::Value(Value::Object(map)) => {
                let entries = map.into_iter().map(|(key, value)| (key, Setting::hidden(value))).collect();
                Some(Table { path: self.at(key), origin: String::new(), entries })
            }
            _ => {
                self.wrong(key, "a table", &setting);
                None
            }
        }
    }

    /// Takes a table with keys that are known. Its faults are reported with those of this one; [`close`](Self::close) it.
    pub fn take_table(&mut self, key: &'static str) -> Option<Self> {
        let table = self.take_entries(key)?;
        Some(self.inner(table, Scope::Table))
    }

    /// Takes a table of tables with names, such as `[brokers.main]` and `[brokers.other]`.
    pub fn take_named(&mut self, key: &'static str) -> Option<Vec<(String, Self)>> {
        let table = self.take_table(key)?;
        let mut tables = Vec::with_capacity(table.entries.len());
        for (name, setting) in &table.entries {
            match &setting.content {
                Content::Table(inner) => tables.push((name.clone(), self.inner(inner.clone(), Scope::Named))),
                Content::Faulty => {}
                Content::Value(_) => table.wrong(name, "a table", setting),
            }
        }
        Some(tables)
    }

    /// Takes a driver's options, with faults of their own; none where the key is missing.
    pub fn take_options(&mut self, key: &'static str) -> Self {
        let Some(Table { path, origin, mut entries }) = self.take_entries(key) else { return Self::default() };
        entries.values_mut().for_each(Setting::hide);
        Self { path, origin, scope: Scope::Driver, entries, known: Vec::new(), faults: Arc::default() }
    }

    /// Takes a value of any kind, as it stands.
    pub fn take_value(&mut self, key: &'static str) -> Option<Value> {
        self.take(key).map(Setting::into_json)
    }

    /// Takes a table whose keys are not known, as it stands.
    pub fn take_values(&mut self, key: &'static str) -> Option<BTreeMap<String, Value>> {
        let table = self.take_entries(key)?;
        Some(table.entries.into_iter().map(|(key, setting)| (key, setting.into_json())).collect())
    }
}
