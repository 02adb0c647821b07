//! One value of a table, with its place and with what an error may say of it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// One value of a table.
#[derive(Clone, PartialEq)]
pub struct Setting {
    pub(super) content: Content,
    /// The layer that the value comes from, such as `in app.toml`, where it is not the table's own.
    pub(super) origin: Option<String>,
    /// True if an error may show the value.
    pub(super) shown: bool,
}

#[derive(Clone, PartialEq)]
pub(super) enum Content {
    Value(Value),
    Table(Table),
    /// A fault of the value is reported already.
    Faulty,
}

#[derive(Clone, PartialEq)]
pub(super) struct Table {
    pub(super) path: String,
    pub(super) origin: String,
    pub(super) entries: BTreeMap<String, Setting>,
}

impl Setting {
    /// A value that no error shows: it may be a secret.
    #[must_use]
    pub fn hidden(value: impl Into<Value>) -> Self {
        Self { content: Content::Value(value.into()), origin: None, shown: false }
    }

    /// A value that errors may show.
    #[must_use]
    pub fn shown(value: impl Into<Value>) -> Self {
        Self { shown: true, ..Self::hidden(value) }
    }

    /// A table; in errors it is called by its path, such as `[brokers.main]`, and its origin, such as `in app.toml`.
    #[must_use]
    pub fn table(path: impl Into<String>, origin: impl Into<String>, entries: BTreeMap<String, Self>) -> Self {
        Self {
            content: Content::Table(Table { path: path.into(), origin: origin.into(), entries }),
            origin: None,
            shown: false,
        }
    }

    /// A value of which a fault is reported already; taking it reports nothing more.
    #[must_use]
    pub const fn faulty() -> Self {
        Self { content: Content::Faulty, origin: None, shown: false }
    }

    /// Sets the layer that the value comes from, such as `in app.toml`, where it is not the table's own.
    #[must_use]
    pub fn from_origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// The value and all in it are hidden from errors.
    pub(super) fn hide(&mut self) {
        self.shown = false;
        if let Content::Table(table) = &mut self.content {
            table.entries.values_mut().for_each(Self::hide);
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.content, Content::Table(_))
    }

    pub(super) fn is_empty_table(&self) -> bool {
        matches!(&self.content, Content::Table(table) if table.entries.is_empty())
    }

    /// The kind of the value in words, which says nothing of the value.
    pub(super) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Table(_) => "a table",
            Content::Value(value) => kind_of(value),
            Content::Faulty => "nothing",
        }
    }

    /// The text, where the value is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Value(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The whole number, where the value is one or is text that reads as one.
    pub(super) fn as_whole(&self) -> Option<i128> {
        match &self.content {
            Content::Value(value) => whole_of(value),
            Content::Table(_) | Content::Faulty => None,
        }
    }

    /// The value as JSON.
    pub(super) fn into_json(self) -> Value {
        match self.content {
            Content::Value(value) => value,
            Content::Table(table) => table
                .entries
                .into_iter()
                .map(|(key, value)| (key, value.into_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Content::Faulty => Value::Null,
        }
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "a table",
        Value::Array(_) => "a list",
        Value::String(_) => "text",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::Null => "nothing",
    }
}

impl fmt::Debug for Setting {
    /// Prints the kind: the value may be a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Setting").field(&self.kind()).finish()
    }
}

/// The whole number that a value is, or that text reads as: URL parameters and environment variables hold nothing but text.
#[must_use]
pub fn whole_of(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `true` or `false` that a value is, or that text reads as.
#[must_use]
pub fn flag_of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}
