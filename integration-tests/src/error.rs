//! Failures in one type: a program asks [`Error::kind`], a person reads the text.

use std::error::Error as StdError;
use std::path::Path;
use std::{fmt, io};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing on this machine can provide the broker: a test may be ignored for it, with this reason, unless
    /// `MESSAGING_REQUIRE_BROKERS=1`.
    Missing,
    /// The broker, as it was obtained, cannot do this: nobody can kill a broker that is only an address.
    Unsupported,
    /// It was there, and it failed.
    Failed,
    /// A condition did not come true in its time.
    TimedOut,
}

/// A failure, naming the resource and the next step. Never holds a password.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    text: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of this kind with this text.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), source: None }
    }

    /// A broker that this machine lacks.
    pub fn missing(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Missing, text)
    }

    /// A call that this broker, as obtained, has no means for.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, text)
    }

    /// A failure of something that was there.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, text)
    }

    /// A failure with its cause.
    pub fn caused(text: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind: ErrorKind::Failed, text: text.into(), source: Some(source.into()) }
    }

    /// Turns an I/O error on a path into one that names the path.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let text = format!("cannot use {}", path.display());
        move |error| Self::caused(text, error)
    }

    /// Kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// True if a case that failed so may end as ignored: a broker is missing, and need not be there.
    pub fn may_be_ignored(&self) -> bool {
        self.kind == ErrorKind::Missing && !crate::brokers_are_required()
    }

    /// The same failure, seen from further out: `context` comes first in its text.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Self {
        self.text = format!("{context}: {}", self.text);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(source) = cause {
            write!(to, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}

// `source` is not exposed: the text already holds the whole chain, and printing it twice helps nobody.
impl StdError for Error {}
