//! Lengths of time as people write them.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

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
