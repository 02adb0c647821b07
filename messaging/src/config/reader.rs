//! What all tables of one configuration share: where values come from, the environment, and the faults found so far.

use std::cell::RefCell;

use figment::value::{Tag, Value};
use figment::{Figment, Metadata, Source};
use messaging_core::{Error, ErrorKind};

use super::expand::Environment;

/// What all tables of one configuration share.
pub(super) struct Reader<'a> {
    pub(super) figment: &'a Figment,
    pub(super) environment: &'a Environment,
    /// Where the whole comes from: `in app.toml`.
    pub(super) origin: &'a str,
    pub(super) faults: RefCell<Vec<String>>,
}

impl Reader<'_> {
    /// Keeps a fault.
    pub(super) fn fault(&self, text: impl Into<String>) {
        self.faults.borrow_mut().push(text.into());
    }

    /// Where a value comes from: `in app.toml`, `from the environment variable …`.
    pub(super) fn origin(&self, tag: Tag) -> String {
        match self.figment.get_metadata(tag) {
            None => self.origin.to_owned(),
            Some(metadata) => match metadata.source.as_ref().and_then(|source| source.file_path()) {
                Some(path) => format!("in {}", path.display()),
                None => metadata.name.clone().into_owned(),
            },
        }
    }

    /// Expands a text; `None` after a fault. Values from the environment are taken as they are.
    pub(super) fn expand(&self, place: &str, tag: Tag, text: &str) -> Option<Text> {
        let from_environment = self.figment.get_metadata(tag).is_some_and(is_environment);
        if from_environment {
            return Some(Text { value: text.to_owned(), confidential: true });
        }
        match self.environment.expand(text) {
            Ok((value, from_variable)) => {
                let confidential = from_variable || (value.contains("://") && value.contains('@'));
                Some(Text { value, confidential })
            }
            Err(why) => {
                self.fault(format!("{place} {why}"));
                None
            }
        }
    }

    /// Makes what only the driver reads of a value, with all texts in it expanded.
    pub(super) fn json(&self, place: &str, value: &Value) -> Option<serde_json::Value> {
        Some(match value {
            Value::String(tag, text) => self.expand(place, *tag, text)?.value.into(),
            Value::Dict(_, dict) => dict
                .iter()
                .map(|(key, value)| Some((key.clone(), self.json(place, value)?)))
                .collect::<Option<serde_json::Map<_, _>>>()?
                .into(),
            Value::Array(_, list) => {
                list.iter().map(|value| self.json(place, value)).collect::<Option<Vec<_>>>()?.into()
            }
            other => match serde_json::to_value(other) {
                Ok(value) => value,
                Err(_) => {
                    self.fault(format!("{place} has a number that is out of range"));
                    return None;
                }
            },
        })
    }
}

/// Names the layer of an environment variable; [`is_environment`] knows it again.
pub(super) fn environment_origin(variable: &str) -> Metadata {
    Metadata::from(format!("from the environment variable {variable}"), Source::Custom(ENVIRONMENT.to_owned()))
}

const ENVIRONMENT: &str = "environment";

fn is_environment(metadata: &Metadata) -> bool {
    matches!(&metadata.source, Some(Source::Custom(source)) if source == ENVIRONMENT)
}

/// A text after expansion.
pub(super) struct Text {
    pub(super) value: String,
    /// It came from the environment, or looks like an address with a login: no error shows it.
    pub(super) confidential: bool,
}

/// One error out of all faults.
pub(super) fn into_error(kind: ErrorKind, faults: Vec<String>) -> Error {
    match <[String; 1]>::try_from(faults) {
        Ok([fault]) => Error::new(kind, fault),
        Err(faults) => {
            let list: Vec<String> =
                faults.iter().enumerate().map(|(index, fault)| format!("\n  {}. {fault}", index + 1)).collect();
            Error::new(kind, format!("{} faults:{}", faults.len(), list.concat()))
        }
    }
}
