//! Strict settings: whatever is not taken is an error that names it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::suggest::hint;

/// Keys and values from a configuration table or the parameters of a URL, taken one by one.
///
/// ```
/// use messaging_core::Settings;
///
/// # fn main() -> messaging_core::Result<()> {
/// let mut settings = Settings::new("[brokers.main]", [("capacity", "100"), ("capcity", "1")]);
/// assert_eq!(settings.take::<usize>("capacity")?, Some(100));
/// let error = settings.finish().unwrap_err();
/// assert!(error.text().contains("unknown key \"capcity\" in [brokers.main]; did you mean \"capacity\"?"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Settings {
    place: String,
    entries: BTreeMap<String, Value>,
    known: Vec<&'static str>,
}

impl Settings {
    /// Makes settings of pairs; `place` says in errors where they stand, such as `[brokers.main.options] in app.toml`.
    pub fn new<K: Into<String>, V: Into<Value>>(
        place: impl Into<String>,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { place: place.into(), entries, known: Vec::new() }
    }

    /// Where these stand.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The keys that were not taken yet.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Takes the value of a key. Text that should be a number or `true` or `false` is read as such, since URL parameters
    /// and environment variables have nothing but text.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key, if the value is not of the type.
    pub fn take<T: DeserializeOwned>(&mut self, key: &'static str) -> Result<Option<T>> {
        self.known.push(key);
        let Some(value) = self.entries.remove(key) else { return Ok(None) };
        let text = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        match T::deserialize(&value) {
            Ok(taken) => Ok(Some(taken)),
            Err(error) => match text.and_then(|value| T::deserialize(value).ok()) {
                Some(taken) => Ok(Some(taken)),
                None => Err(self.invalid(key, error)),
            },
        }
    }

    /// Takes a length of time such as `"1500ms"`, `"30s"` or `"1h 30min"`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key, if the value is not one.
    pub fn take_duration(&mut self, key: &'static str) -> Result<Option<Duration>> {
        let Some(text) = self.take::<String>(key)? else { return Ok(None) };
        parse_duration(&text).map(Some).map_err(|error| self.invalid(key, error.text()))
    }

    /// Takes a number that must be at least 1.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key, if the value is not one.
    pub fn take_positive(&mut self, key: &'static str) -> Result<Option<usize>> {
        match self.take::<usize>(key)? {
            Some(0) => Err(self.invalid(key, "it must be at least 1")),
            other => Ok(other),
        }
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names every key that was not taken, where it stands and the nearest known one.
    pub fn finish(self) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let faults: Vec<String> = self
            .entries
            .keys()
            .map(|key| format!("unknown key {key:?} in {}{}", self.place, hint(key, self.known.iter().copied())))
            .collect();
        Err(Error::new(ErrorKind::Config, faults.join("; ")))
    }

    fn invalid(&self, key: &str, why: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Config, format!("the value of {key:?} in {} is not valid: {why}", self.place))
    }
}

impl fmt::Debug for Settings {
    /// Prints keys only: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("place", &self.place).field("keys", &self.entries.keys()).finish()
    }
}

/// Reads a length of time such as `1500ms`, `30s`, `5min` or `1h 30min`.
///
/// # Errors
/// [`ErrorKind::Config`] if the text is not one.
pub fn parse_duration(text: &str) -> Result<Duration> {
    humantime::parse_duration(text).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Error::new(
            ErrorKind::Config,
            format!("{shown:?} is not a length of time: write for example \"500ms\", \"30s\" or \"5min\""),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_what_is_asked_for() {
        let mut settings = Settings::new("here", [("n", "7"), ("flag", "true"), ("text", "7"), ("wait", "1500ms")]);
        assert_eq!(settings.take::<u16>("n").unwrap(), Some(7));
        assert_eq!(settings.take::<bool>("flag").unwrap(), Some(true));
        assert_eq!(settings.take::<String>("text").unwrap().as_deref(), Some("7"));
        assert_eq!(settings.take_duration("wait").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(settings.take::<u16>("absent").unwrap(), None);
        settings.finish().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut settings = Settings::new("here", [("n", "x"), ("zero", "0"), ("wait", "soon")]);
        assert!(settings.take::<u16>("n").unwrap_err().text().contains("\"n\" in here"));
        assert!(settings.take_positive("zero").unwrap_err().text().contains("at least 1"));
        assert!(settings.take_duration("wait").unwrap_err().text().contains("not a length of time"));
    }
}
