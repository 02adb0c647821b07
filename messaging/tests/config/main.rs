//! Configuration: what it reads, from where, and what it says when it cannot.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bindings;
mod errors;
mod every_key;
mod layers;
mod page;
mod property;
mod variables;

use std::fs;

use messaging::{Config, Error};
use tempfile::TempDir;

/// The least a configuration needs.
const BROKER: &str = "[brokers.main]\nurl = \"memory://shop\"\n";

/// Reads a text as the file `app.toml`, with the environment variables given and no others.
fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    load_as("app.toml", text, environment)
}

/// Reads a text as a file of this name. Errors come as text in which the file's directory is left out.
fn load_as(name: &str, text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    Config::builder()
        .file(&path)
        .environment(environment.iter().copied())
        .build()
        .map_err(|error| text_in(&error, &directory))
}

fn text_in(error: &Error, directory: &TempDir) -> String {
    let this_build = format!("(this build has {})", messaging::drivers().schemes());
    error
        .to_string()
        .replace(&format!("{}/", directory.path().display()), "")
        .replace(&this_build, "(this build has …)")
}

/// Reads a broker and more, which must work.
fn with_broker(more: &str) -> Config {
    load(&format!("{BROKER}{more}"), &[]).unwrap()
}
