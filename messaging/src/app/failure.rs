//! How a handler fails: the error it returns, and what a listener's service fails with.
//!
//! They are two types for one reason: a type that any error converts into by `?` cannot be an error itself (the
//! conversion would overlap with that of a type into itself), and layers need one that is.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use messaging_core::DeadLetterReason;

use super::caught::Described;

/// Any error, as layers pass it on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What a handler returns when it fails; `?` makes one of any error.
///
/// A plain error is retried as the listener's [`Retry`](crate::Retry) says. [`reject`](Self::reject) sends the message
/// to the dead letter at once, [`retry_after`](Self::retry_after) chooses the delay.
///
/// Handlers need not return it: `Result<(), E>` does for every `E` that converts into a boxed error, such as the types of
/// `thiserror`, `anyhow::Error` and `String`.
///
/// ```
/// use messaging::HandlerError;
///
/// async fn handle(text: &str) -> Result<(), HandlerError> {
///     let count: u32 = text.parse()?; // retried
///     if count == 0 {
///         return Err(HandlerError::reject("nothing was ordered")); // never worth another try
///     }
///     Ok(())
/// }
/// ```
pub struct HandlerError(Failure);

impl HandlerError {
    /// A failure that is retried, of any error or text.
    #[cold]
    pub fn new(cause: impl Into<BoxError>) -> Self {
        Self(Failure::from_boxed(cause.into()))
    }

    /// A failure that no retry can mend: the message goes to the dead letter at once, with the code `rejected`.
    #[cold]
    pub fn reject(cause: impl Into<BoxError>) -> Self {
        Self::reject_as(DeadLetterReason::REJECTED, cause)
    }

    /// As [`reject`](Self::reject), with a code of the application's own, such as `unknown_customer`.
    #[cold]
    pub fn reject_as(code: impl Into<Cow<'static, str>>, cause: impl Into<BoxError>) -> Self {
        Self(Failure::new(FailureKind::Handler, Course::Bury(code.into()), cause.into()))
    }

    /// A failure that is retried no earlier than `after`; it counts as an attempt, and after the last one the message goes
    /// to the dead letter as usual. More than the broker's longest delay is cut to it.
    #[cold]
    #[must_use]
    pub fn retry_after(after: Duration) -> Self {
        Self::new(format!("the handler asked to be called again after {after:?}")).after(after)
    }

    /// Chooses the delay before the retry of this failure.
    #[cold]
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.0.0.course = Course::RetryAfter(after);
        self
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    #[cold]
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        Box::new(error.0)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// In what way a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The handler, or a layer around it, returned an error.
    Handler,
    /// An extractor could not read the message; the handler did not run.
    Undecodable,
    /// The handler panicked.
    Panicked,
    /// The handler took longer than the listener's timeout, and was cancelled.
    TimedOut,
    /// The message had more attempts already than it may have; the handler did not run.
    Exhausted,
}

/// What a listener's [`tower::Service`] fails with: layers see it, and may pass on any other error instead.
pub struct Failure(Box<Inner>);

struct Inner {
    kind: FailureKind,
    course: Course,
    cause: BoxError,
}

/// What a failure asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Course {
    Retry,
    RetryAfter(Duration),
    Bury(Cow<'static, str>),
}

impl Failure {
    #[cold]
    pub(crate) fn new(kind: FailureKind, course: Course, cause: BoxError) -> Self {
        Self(Box::new(Inner { kind, course, cause }))
    }

    /// A failure that was boxed on its way keeps its kind and course; any other error is one that is retried.
    #[cold]
    pub(crate) fn from_boxed(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => *failure,
            Err(error) => Self::new(FailureKind::Handler, Course::Retry, error),
        }
    }

    /// In what way the delivery failed.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// What caused it.
    #[must_use]
    pub fn cause(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.cause
    }

    pub(crate) fn course(&self) -> &Course {
        &self.0.course
    }

    /// The cause and its own causes in words. The error is the application's: it may panic while it is read.
    #[cold]
    pub(crate) fn describe(&self) -> Described {
        Described::of(&*self.0.cause)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.cause, f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("kind", &self.0.kind)
            .field("course", &self.0.course)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_being_boxed_by_layers() {
        let boxed: BoxError = HandlerError::reject("no").into();
        let failure = Failure::from_boxed(boxed);
        assert_eq!(failure.course(), &Course::Bury(DeadLetterReason::REJECTED.into()));
        let plain = Failure::from_boxed("down".into());
        assert_eq!((plain.kind(), plain.course()), (FailureKind::Handler, &Course::Retry));
    }

    #[test]
    fn the_chain_lists_causes_outermost_first() {
        let error = messaging_core::Error::new(messaging_core::ErrorKind::Codec, "bad").with_source("eof");
        assert_eq!(HandlerError::from(error).0.describe().chain, ["codec: bad", "eof"]);
    }
}
