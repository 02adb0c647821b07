//! Headers: few, small, in order.

use std::fmt;

use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result};

/// The longest header name, in bytes.
pub const HEADER_NAME_MAX: usize = 128;

/// The most bytes that all names and values of one message may have together.
pub const HEADERS_MAX: usize = 32 * 1024;

/// The prefixes under which adapters carry typed properties where the broker has no place for them.
const RESERVED: [&str; 3] = ["messaging-", "ce-", "ce_"];

/// A header's value: any Unicode text. Up to 23 bytes are kept without an allocation.
pub type HeaderValue = SmolStr;

/// A header's name: a lower-case token of at most 128 bytes.
///
/// The characters are those of an HTTP token (RFC 9110, section 5.6.2) without upper-case letters. The prefixes
/// `messaging-`, `ce-` and `ce_` are reserved for the wire format.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(SmolStr);

impl HeaderName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] unless it is a token; [`ErrorKind::InvalidMessage`] if its prefix is reserved.
    pub fn parse(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if text.is_empty() || text.len() > HEADER_NAME_MAX || !text.bytes().all(is_token) {
            let shown: String = text.chars().take(80).collect();
            return Err(Error::new(
                ErrorKind::InvalidName,
                format!(
                    "header name {shown:?} is not valid: use 1 to {HEADER_NAME_MAX} lower-case letters, digits and any of !#$%&'*+-.^_`|~"
                ),
            ));
        }
        if let Some(prefix) = RESERVED.iter().find(|prefix| text.starts_with(**prefix)) {
            return Err(Error::new(
                ErrorKind::InvalidMessage,
                format!(
                    "header name {text:?} is reserved: names that begin with {prefix:?} belong to the wire format; choose another"
                ),
            ));
        }
        Ok(Self(SmolStr::new(text)))
    }

    /// Takes the name of a header that someone else's client set, whatever its form; ASCII letters become lower case.
    #[must_use]
    pub fn from_foreign(text: &str) -> Self {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Self(SmolStr::new(text.to_ascii_lowercase()))
        } else {
            Self(SmolStr::new(text))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which bytes may stand in a name. A table, because each published header is looked at.
const IS_TOKEN_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < allowed.len() {
        table[allowed[index] as usize] = true;
        index += 1;
    }
    table
};

fn is_token(byte: u8) -> bool {
    IS_TOKEN_BYTE[usize::from(byte)]
}

impl TryFrom<&str> for HeaderName {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for HeaderName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

/// So many headers take no allocation of their own: most messages have one or two.
const INLINE_HEADERS: usize = 2;

/// The headers of a message, in the order in which they were set; names are unique.
///
/// Messages have a handful, so that a search from the start is faster than a map and takes less room.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    entries: SmallVec<[(HeaderName, HeaderValue); INLINE_HEADERS]>,
}

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: SmallVec::new_const() }
    }

    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value.as_str())
    }

    /// Sets a header; of a name that is there already the last value wins.
    pub fn insert(&mut self, name: HeaderName, value: impl Into<HeaderValue>) {
        let value = value.into();
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = value,
            None => self.entries.push((name, value)),
        }
    }

    /// Removes a header and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<HeaderValue> {
        let index = self.entries.iter().position(|(known, _)| known.as_str() == name)?;
        Some(self.entries.remove(index).1)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// All names and values together, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    }

    pub(super) fn check_size(&self) -> Result<()> {
        let bytes = self.byte_len();
        if bytes <= HEADERS_MAX {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "the headers have {bytes} bytes together, at most {HEADERS_MAX} are allowed: move what is large into the payload"
            ),
        ))
    }
}

impl fmt::Debug for Headers {
    /// Prints names only: values may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_tokens_outside_the_reserved_prefixes() {
        for good in ["a", "x-trace_id", "a.b", "%"] {
            assert!(HeaderName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a b", "ä", "a:b", &"x".repeat(129)] {
            assert_eq!(HeaderName::parse(bad).unwrap_err().kind(), ErrorKind::InvalidName, "{bad}");
        }
        for reserved in ["messaging-attempt", "ce-id", "ce_id"] {
            assert_eq!(HeaderName::parse(reserved).unwrap_err().kind(), ErrorKind::InvalidMessage, "{reserved}");
        }
        assert_eq!(HeaderName::from_foreign("X-Ä").as_str(), "x-Ä");
    }

    #[test]
    fn the_last_value_of_a_name_wins_and_order_stays() {
        let mut headers = Headers::new();
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "3")] {
            headers.insert(HeaderName::parse(name).unwrap(), value);
        }
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("b", "3"), ("a", "2")]);
        assert_eq!(headers.byte_len(), 4);
        assert_eq!(headers.remove("b").as_deref(), Some("3"));
        assert_eq!(headers.get("b"), None);
    }

    #[test]
    fn together_they_are_bounded() {
        let mut headers = Headers::new();
        headers.insert(HeaderName::parse("a").unwrap(), "x".repeat(HEADERS_MAX - 1));
        assert!(headers.check_size().is_ok());
        headers.insert(HeaderName::parse("b").unwrap(), "");
        assert_eq!(headers.check_size().unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
