//! The one error type of the whole project.
//!
//! It is opaque so that no client library's type becomes part of a public signature. Programs look at
//! [`kind`](Error::kind), [`is_retryable`](Error::is_retryable) and [`outcome`](Error::outcome); people read the text,
//! which names the thing, the cause and the next step.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of every fallible call in this project.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The fault in one word, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A configuration file, URL or option says something that cannot be followed.
    Config,
    /// A queue, topic, subscription, subject or header name is not well formed.
    InvalidName,
    /// A message has a part that no broker may be given: a reserved header, a header too long.
    InvalidMessage,
    /// A message or batch exceeds a declared limit.
    TooLarge,
    /// The broker cannot do this for this destination with these options. Nothing was attempted.
    Unsupported,
    /// A destination, subscription, binding, file or driver does not exist.
    NotFound,
    /// A destination exists already with other settings than asked for. Nothing was changed.
    Mismatch,
    /// The broker did not accept the credentials.
    Unauthenticated,
    /// The credentials are right and lack a permission.
    Forbidden,
    /// No broker answers at the address.
    Unreachable,
    /// The connection was lost while the call was under way.
    Disconnected,
    /// The call's time limit ran out.
    Timeout,
    /// A bounded store is full and its policy is to refuse.
    Full,
    /// The broker had nowhere to put the message.
    Unroutable,
    /// The delivery is no longer this holder's: it was handed to another, or settled already. Nothing was harmed.
    StaleDelivery,
    /// The handle, consumer or broker was closed.
    Closed,
    /// A payload could not be encoded or decoded.
    Codec,
    /// A listener's handler failed, panicked or ran out of time.
    Handler,
    /// The call cannot happen together with what is under way, such as committing past an unsettled delivery.
    Conflict,
    /// The peer said something that its protocol does not allow.
    Protocol,
    /// A defect of this library or of an adapter.
    Internal,
}

impl ErrorKind {
    /// True if an error of this kind is worth another try.
    const fn is_retryable(self) -> bool {
        matches!(self, Self::Unreachable | Self::Disconnected | Self::Timeout | Self::Full)
    }

    /// Outcome of a failed publish of this kind unless its maker says otherwise. Where it is not certain that nothing
    /// was sent, the default is the careful answer.
    const fn usual_outcome(self) -> ErrorOutcome {
        match self {
            Self::Disconnected | Self::Timeout | Self::Protocol | Self::Internal => ErrorOutcome::Unknown,
            _ => ErrorOutcome::NotSent,
        }
    }

    /// The kind in words, as it begins the text of an error.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::InvalidName => "invalid name",
            Self::InvalidMessage => "invalid message",
            Self::TooLarge => "too large",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not found",
            Self::Mismatch => "mismatch",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Unreachable => "unreachable",
            Self::Disconnected => "disconnected",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Unroutable => "unroutable",
            Self::StaleDelivery => "stale delivery",
            Self::Closed => "closed",
            Self::Codec => "codec",
            Self::Handler => "handler",
            Self::Conflict => "conflict",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State that a failed publish or settlement leaves behind at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorOutcome {
    /// The broker has not got it: trying again cannot duplicate.
    NotSent,
    /// It may or may not have arrived (a time limit or a lost connection after sending): trying again may duplicate.
    Unknown,
}

/// An error with its kind, its outcome, the place where it happened and its cause.
///
/// Neither [`Display`](fmt::Display) nor [`Debug`](fmt::Debug) ever shows a credential: makers pass redacted text, and
/// addresses are printed by types that redact.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: ErrorOutcome,
    text: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error; `text` is lower case, without a full stop, and names the thing and the next step.
    #[must_use]
    #[cold]
    pub fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            outcome: kind.usual_outcome(),
            text: text.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// Something was closed, such as "the broker" or "the publisher"; of kind [`ErrorKind::Closed`].
    #[must_use]
    #[cold]
    pub fn closed(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Closed, format!("{what} was closed: open it again"))
    }

    /// A delivery has moved on to another holder, for the reason `why`; of kind [`ErrorKind::StaleDelivery`].
    #[must_use]
    #[cold]
    pub fn stale(why: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::StaleDelivery,
            format!("the delivery is no longer this consumer's: {why}; nothing was changed"),
        )
    }

    /// Something such as `queue "orders"` is not at the broker under the name that it has there; of kind
    /// [`ErrorKind::NotFound`].
    #[must_use]
    #[cold]
    pub fn missing(what: impl fmt::Display, physical: &str) -> Self {
        Self::new(
            ErrorKind::NotFound,
            format!("{what} does not exist as {physical:?}: create it, or set topology = \"create\""),
        )
    }

    /// Something is at the broker with other settings than asked for, which `how` lists; of kind [`ErrorKind::Mismatch`].
    #[must_use]
    #[cold]
    pub fn differs(what: impl fmt::Display, how: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Mismatch, format!("{what} exists and differs: {how}; nothing was changed"))
    }

    /// The broker did not answer in time what is called `call`; of kind [`ErrorKind::Timeout`].
    #[must_use]
    #[cold]
    pub fn silent(call: impl fmt::Display, within: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("{call}: the broker did not answer within {within:?}"))
    }

    /// Adds where it happened, for example `("broker", "main")`. The first value of a key stays.
    #[must_use]
    #[cold]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.context.iter().any(|(known, _)| *known == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }

    /// Adds what caused it. The cause's text must not hold a credential.
    #[must_use]
    #[cold]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says what a failed publish or settlement leaves behind. By default it is unknown for [`ErrorKind::Disconnected`],
    /// [`ErrorKind::Timeout`], [`ErrorKind::Protocol`] and [`ErrorKind::Internal`], and not sent for all others.
    #[must_use]
    #[cold]
    pub fn with_outcome(mut self, outcome: ErrorOutcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// The fault in one word, for programs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// True if the same call may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }

    /// State that a failed publish or settlement leaves behind. It says nothing about other calls.
    #[must_use]
    pub fn outcome(&self) -> ErrorOutcome {
        self.0.outcome
    }

    /// The text without kind and context.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Where it happened: pairs such as `("broker", "main")`, outermost last.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// This error's text and those of its causes, outermost first.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.to_string()];
        let mut cause = self.source();
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        chain
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.text)?;
        for (index, (key, value)) in self.0.context.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{key} {value}")?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// The same text as for display and one line for each cause: `main() -> Result` prints errors so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain().join("\n  caused by: "))
    }
}

/// So that a value that is parsed already passes where text would be parsed.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_kind_thing_and_place_and_keeps_the_innermost_context() {
        let error = Error::new(ErrorKind::NotFound, "queue \"orders\" does not exist")
            .with_context("broker", "main")
            .with_context("broker", "outer")
            .with_context("operation", "publish");
        assert_eq!(error.to_string(), "not found: queue \"orders\" does not exist (broker main, operation publish)");
    }

    #[test]
    fn causes_are_a_chain_and_retry_follows_the_kind() {
        let error = Error::new(ErrorKind::Disconnected, "lost").with_source("reset by peer");
        assert_eq!(error.chain(), ["disconnected: lost", "reset by peer"]);
        assert_eq!(format!("{error:?}"), "disconnected: lost\n  caused by: reset by peer");
        assert!(error.is_retryable());
        assert_eq!(error.outcome(), ErrorOutcome::Unknown);
        assert!(!Error::new(ErrorKind::Unsupported, "no").is_retryable());
    }

    #[test]
    fn the_common_errors_have_one_wording() {
        for (error, kind, text) in [
            (Error::closed("the broker"), ErrorKind::Closed, "the broker was closed: open it again"),
            (
                Error::stale("its channel is gone"),
                ErrorKind::StaleDelivery,
                "the delivery is no longer this consumer's: its channel is gone; nothing was changed",
            ),
            (
                Error::missing("queue \"orders\"", "dev--orders"),
                ErrorKind::NotFound,
                "queue \"orders\" does not exist as \"dev--orders\": create it, or set topology = \"create\"",
            ),
            (
                Error::differs("queue \"orders\"", "lanes is 4, asked for is 8"),
                ErrorKind::Mismatch,
                "queue \"orders\" exists and differs: lanes is 4, asked for is 8; nothing was changed",
            ),
            (
                Error::silent("queue.declare", Duration::from_secs(15)),
                ErrorKind::Timeout,
                "queue.declare: the broker did not answer within 15s",
            ),
        ] {
            assert_eq!((error.kind(), error.text()), (kind, text));
        }
    }

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }
}
