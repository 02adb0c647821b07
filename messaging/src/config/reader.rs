//! From the layers' tree of values to settings: variables expanded, each value with its origin.

use std::collections::BTreeMap;

use figment::value::{Dict, Num, Tag, Value};
use figment::{Figment, Metadata, Source};
use messaging_core::{Faults, Setting, Settings};

use super::expand::Environment;

/// Everything that is needed to turn a tree of values into settings.
pub(super) struct Reader<'a> {
    pub(super) figment: &'a Figment,
    pub(super) environment: &'a Environment,
    /// The origin of the whole, such as `in app.toml`.
    pub(super) origin: &'a str,
    pub(super) faults: Faults,
}

impl Reader<'_> {
    /// The table of everything.
    pub(super) fn read(mut self, tag: Tag, dict: Dict) -> Settings {
        let entries = self.entries("", dict);
        Settings::root(self.origin_of(tag), entries, self.faults)
    }

    /// The origin of a value: `in app.toml`, `from the environment variable …`.
    fn origin_of(&self, tag: Tag) -> String {
        match self.figment.get_metadata(tag) {
            None => self.origin.to_owned(),
            Some(metadata) => match metadata.source.as_ref().and_then(|source| source.file_path()) {
                Some(path) => format!("in {}", path.display()),
                None => metadata.name.clone().into_owned(),
            },
        }
    }

    fn entries(&mut self, path: &str, dict: Dict) -> BTreeMap<String, Setting> {
        dict.into_iter().map(|(key, value)| (key.clone(), self.setting(path, &key, value))).collect()
    }

    fn setting(&mut self, path: &str, key: &str, value: Value) -> Setting {
        let origin = self.origin_of(value.tag());
        let setting = match value {
            Value::Dict(tag, dict) => {
                let path = inner_path(path, key);
                Setting::table(format!("[{path}]"), self.origin_of(tag), self.entries(&path, dict))
            }
            value => {
                let table = if path.is_empty() { String::new() } else { format!("in [{path}] ") };
                let mut is_shown = true;
                match self.json(&value, &mut is_shown) {
                    Ok(value) if is_shown => Setting::shown(value),
                    Ok(value) => Setting::hidden(value),
                    Err(why) => {
                        self.faults.add(format!("{key:?} {table}{origin} {why}"));
                        Setting::faulty()
                    }
                }
            }
        };
        setting.from_origin(origin)
    }

    /// The value with all texts in it expanded. `is_shown` becomes false where no error may show it.
    fn json(&self, value: &Value, is_shown: &mut bool) -> Result<serde_json::Value, String> {
        Ok(match value {
            Value::String(tag, text) => self.expand(*tag, text, is_shown)?.into(),
            Value::Dict(_, dict) => {
                let entries = dict.iter().map(|(key, value)| Ok((key.clone(), self.json(value, is_shown)?)));
                entries.collect::<Result<serde_json::Map<_, _>, String>>()?.into()
            }
            Value::Array(_, list) => {
                list.iter().map(|value| self.json(value, is_shown)).collect::<Result<Vec<_>, String>>()?.into()
            }
            // JSON has no such numbers; as text they are refused wherever a number belongs.
            Value::Num(_, Num::F32(number)) if !number.is_finite() => number.to_string().into(),
            Value::Num(_, Num::F64(number)) if !number.is_finite() => number.to_string().into(),
            other => serde_json::to_value(other).map_err(|_| "has a number that is out of range".to_owned())?,
        })
    }

    /// Expands a text. Values from the environment are taken as they are.
    fn expand(&self, tag: Tag, text: &str, is_shown: &mut bool) -> Result<String, String> {
        if self.figment.get_metadata(tag).is_some_and(is_environment) {
            *is_shown = false;
            return Ok(text.to_owned());
        }
        let (value, from_variable) = self.environment.expand(text)?;
        // An address may have a login.
        *is_shown &= !(from_variable || value.contains("://") && value.contains('@'));
        Ok(value)
    }
}

/// The path of a table inside another; a key with a dot or a space stands in quotes, as in TOML.
fn inner_path(path: &str, key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let key = if key.chars().all(is_bare) && !key.is_empty() { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Names the layer of an environment variable; [`is_environment`] knows it again.
pub(super) fn environment_origin(variable: &str) -> Metadata {
    Metadata::from(format!("from the environment variable {variable}"), Source::Custom(ENVIRONMENT_SOURCE.to_owned()))
}

const ENVIRONMENT_SOURCE: &str = "environment";

fn is_environment(metadata: &Metadata) -> bool {
    matches!(&metadata.source, Some(Source::Custom(source)) if source == ENVIRONMENT_SOURCE)
}
