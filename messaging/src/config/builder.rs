//! Layers, put on top of each other.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use messaging_core::{ErrorKind, Faults, Result};
use serde::Serialize;

use super::expand::Environment;
use super::format::Format;
use super::loaded::Config;
use super::reader::{Reader, environment_origin};
use super::{read, variables};

/// A configuration of several layers. However they are added, files come first, then environment variables, then what the
/// code sets; the later wins, key by key.
#[must_use = "a builder does nothing until `build` is called"]
#[derive(Default)]
pub struct ConfigBuilder {
    texts: Vec<Text>,
    environment: Option<Environment>,
    overrides: bool,
    set: Vec<(String, Result<Value, String>)>,
}

enum Text {
    File(PathBuf),
    Toml(String),
}

impl ConfigBuilder {
    /// Adds a file, whose format is told by its ending: `.toml`, `.yaml`, `.yml` or `.json`. Of several files the later wins.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        self.texts.push(Text::File(path.as_ref().to_owned()));
        self
    }

    /// Adds a text in TOML, in the order of the files.
    pub fn toml(mut self, text: impl Into<String>) -> Self {
        self.texts.push(Text::Toml(text.into()));
        self
    }

    /// Lets the environment variables `MESSAGING__…` of this process override the files.
    pub fn env(mut self) -> Self {
        self.overrides = true;
        self
    }

    /// As [`env`](Self::env), with the variables given here in place of this process's; `${NAME}` sees only these, too.
    pub fn environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        self.environment =
            Some(Environment::of(variables.into_iter().map(|(name, value)| (name.into(), value.into()))));
        self.overrides = true;
        self
    }

    /// Sets one key, over files and environment. The path is that of TOML: `brokers.main.url`, with quotes around a name
    /// that has a dot, as in `bindings."orders.eu".queue`.
    pub fn set(mut self, path: impl Into<String>, value: impl Serialize) -> Self {
        let value =
            Value::serialize(value).map_err(|_| "cannot be set: its type is not one of a configuration".to_owned());
        self.set.push((path.into(), value));
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a file is missing; [`ErrorKind::Config`] with every fault of what the layers say.
    pub fn build(self) -> Result<Config> {
        let environment = self.environment.unwrap_or_else(Environment::of_process);
        let origin = origin_of(&self.texts);
        let figment = read_texts(self.texts)?;
        let mut faults = Faults::default();
        let figment = if self.overrides { add_overrides(figment, &environment, &mut faults) } else { figment };
        let figment = add_set(figment, self.set, &mut faults);

        let reader = Reader { figment: &figment, environment: &environment, origin: &origin, faults };
        let (tag, entries) = root_of(&figment);
        Ok(Config(Arc::new(read::read(reader.read(tag, entries))?)))
    }
}

/// Where the whole comes from: `in app.toml and local.toml`.
fn origin_of(texts: &[Text]) -> String {
    let names: Vec<String> = texts
        .iter()
        .map(|text| match text {
            Text::File(path) => path.display().to_string(),
            Text::Toml(_) => "the TOML text".to_owned(),
        })
        .collect();
    if names.is_empty() { "in the code".to_owned() } else { format!("in {}", names.join(" and ")) }
}

/// Files and texts, in order. Nothing else is looked at if one cannot be read.
fn read_texts(texts: Vec<Text>) -> Result<Figment> {
    let mut figment = Figment::new();
    let mut faults = Faults::default();
    for text in texts {
        let (metadata, place, read) = match text {
            Text::File(path) => {
                let place = format!("the configuration file {}", path.display());
                let read = Format::of(&path).map_err(|why| (ErrorKind::Config, why)).and_then(|format| {
                    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
                    // Some editors begin a file with a byte order mark.
                    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                    format.read(text).map_err(|why| (ErrorKind::Config, why))
                });
                (Metadata::from("file", path.as_path()), place, read)
            }
            Text::Toml(text) => {
                let read = Format::Toml.read(&text).map_err(|why| (ErrorKind::Config, why));
                (Metadata::named("in the TOML text"), "the TOML text".to_owned(), read)
            }
        };
        match read {
            Ok(dict) => figment = figment.merge(Layer { metadata, dict }),
            Err((kind, why)) => faults.add_as(kind, format!("{place} cannot be read: {why}")),
        }
    }
    faults.into_result().map(|()| figment)
}

fn unreadable(error: &io::Error) -> (ErrorKind, String) {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let directory = std::env::current_dir().map_or_else(
                |_| String::new(),
                |directory| format!("; the working directory is {}", directory.display()),
            );
            (ErrorKind::NotFound, format!("there is no such file{directory}"))
        }
        io::ErrorKind::InvalidData => (ErrorKind::Config, "it is not UTF-8 text".to_owned()),
        _ => (ErrorKind::Config, error.to_string()),
    }
}

fn add_overrides(mut figment: Figment, environment: &Environment, faults: &mut Faults) -> Figment {
    let (_, files) = root_of(&figment);
    for found in variables::overrides(environment, &files, faults) {
        let metadata = environment_origin(&found.variable);
        figment = figment.merge(Layer { metadata, dict: nest(&found.path, Value::from(found.value)) });
    }
    figment
}

fn add_set(mut figment: Figment, set: Vec<(String, Result<Value, String>)>, faults: &mut Faults) -> Figment {
    for (path, value) in set {
        match (split_path(&path), value) {
            (None, _) => faults.add(format!(
                "the path {path:?} set in the code is not valid: write for example brokers.main.url or bindings.\"orders.eu\".queue"
            )),
            (_, Err(why)) => faults.add(format!("{path:?} {why}")),
            (Some(path), Ok(value)) => {
                let metadata = Metadata::named("set in the code");
                figment = figment.merge(Layer { metadata, dict: nest(&path, value) });
            }
        }
    }
    figment
}

/// Keys joined by dots, those with a dot in quotes. `None` if it is not well formed.
fn split_path(path: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let mut rest = path;
    loop {
        let (key, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if key.is_empty() || key.contains('"') {
            return None;
        }
        if keys.len() == variables::PARTS_MAX {
            return None;
        }
        keys.push(key.to_owned());
        if after.is_empty() {
            return Some(keys);
        }
        rest = after.strip_prefix('.')?;
    }
}

/// A tree that holds one value at a path of at least one key.
fn nest(path: &[String], value: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [key] => Dict::from([(key.clone(), value)]),
        [key, rest @ ..] => Dict::from([(key.clone(), Value::Dict(Tag::Default, nest(rest, value)))]),
    }
}

fn root_of(figment: &Figment) -> (Tag, Dict) {
    match figment.find_value("") {
        Ok(Value::Dict(tag, dict)) => (tag, dict),
        // Layers are tables, so that their sum is one.
        _ => (Tag::Default, Dict::new()),
    }
}

/// One layer, with its origin.
struct Layer {
    metadata: Metadata,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

impl fmt::Debug for ConfigBuilder {
    /// Shows where values come from and none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder")
            .field("texts", &origin_of(&self.texts))
            .field("overrides", &self.overrides)
            .field("set", &self.set.iter().map(|(path, _)| path).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
