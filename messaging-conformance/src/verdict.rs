//! What a case comes to.

use std::fmt;
use std::panic::Location;

use messaging_core::Error;

/// The result of a case: passed, or why not.
pub type Verdict<T = ()> = Result<T, Stop>;

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The broker broke a promise.
    Failed(String),
    /// The case cannot run here, and why.
    Ignored(String),
}

impl Stop {
    /// A broken promise, told with the place in the suite that noticed.
    #[track_caller]
    #[must_use]
    pub fn failed(text: impl fmt::Display) -> Self {
        let place = Location::caller();
        let file = place.file().rsplit_once("src/").map_or(place.file(), |(_, file)| file);
        Self::Failed(format!("{text} [{file}:{}]", place.line()))
    }
}

impl From<Error> for Stop {
    /// An error that the case did not expect.
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::failed(format_args!("unexpected error: {}", error.chain().join(": ")))
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Ignored(text) => f.write_str(text),
        }
    }
}

/// Ends the case as failed unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::verdict::Stop::failed(format_args!($($text)+)));
        }
    };
}

/// Ends the case as failed unless both are equal, showing both.
macro_rules! ensure_eq {
    ($is:expr, $should:expr, $($text:tt)+) => {
        match (&$is, &$should) {
            (is, should) => {
                if *is != *should {
                    let what = format!($($text)+);
                    return Err($crate::verdict::Stop::failed(format_args!("{what}: expected {should:?}, got {is:?}")));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};
