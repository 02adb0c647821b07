//! Subjects and the filters over them: `eu.created`, `eu.*`, `#`.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind, Result};
use crate::parsed_text::parsed_text;

/// The longest subject or filter, in bytes: AMQP 0-9-1 routing keys are short strings of at most 255 bytes.
pub const SUBJECT_MAX: usize = 255;

/// Dot-separated routing words such as `eu.created`; subscriptions may filter on them.
///
/// A word is one or more characters other than `.`, `*`, `#`, white space and control characters. At most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(SmolStr);

impl Subject {
    /// Parses a subject.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] if it is empty, longer than 255 bytes, or has an empty or ill-formed word.
    pub fn parse(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check("subject", text, word_is_plain)?;
        Ok(Self(SmolStr::new(text)))
    }

    /// Takes a subject that someone else's client chose, whatever its form.
    #[must_use]
    pub fn from_foreign(text: &str) -> Self {
        Self(SmolStr::new(text))
    }

    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A pattern over subjects: `*` matches exactly one word, `#` zero or more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectFilter(SmolStr);

impl SubjectFilter {
    /// Parses a filter.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] if it is empty, longer than 255 bytes, or has an empty or ill-formed word; `*` and `#`
    /// stand alone between dots.
    pub fn parse(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check("subject filter", text, |word| word == "*" || word == "#" || word_is_plain(word))?;
        Ok(Self(SmolStr::new(text)))
    }

    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the filter lets a message of this subject pass. Only a filter of nothing but `#` takes a message
    /// without a subject.
    #[must_use]
    pub fn matches(&self, subject: Option<&Subject>) -> bool {
        match subject {
            None => self.0.split('.').all(|word| word == "#"),
            Some(subject) => matches_words(&self.0, &subject.0),
        }
    }
}

/// Matches word by word; on a mismatch the last `#` takes one word more. Linear in practice, without recursion.
fn matches_words(pattern: &str, subject: &str) -> bool {
    let mut pattern_rest = Some(pattern);
    let mut subject_rest = Some(subject);
    let mut backtrack: Option<(Option<&str>, &str)> = None;
    loop {
        let (word, after_pattern) = split(pattern_rest);
        if word == Some("#") {
            if let Some(rest) = subject_rest {
                backtrack = Some((after_pattern, rest));
            }
            pattern_rest = after_pattern;
            continue;
        }
        let (given, after_subject) = split(subject_rest);
        match (word, given) {
            (None, None) => return true,
            (Some(word), Some(given)) if word == "*" || word == given => {
                pattern_rest = after_pattern;
                subject_rest = after_subject;
            }
            _ => {
                let Some((pattern_after_hash, from)) = backtrack else { return false };
                let (_, shorter) = split(Some(from));
                pattern_rest = pattern_after_hash;
                subject_rest = shorter;
                backtrack = shorter.map(|rest| (pattern_after_hash, rest));
            }
        }
    }
}

fn split(text: Option<&str>) -> (Option<&str>, Option<&str>) {
    match text {
        None => (None, None),
        Some(text) => match text.split_once('.') {
            Some((word, rest)) => (Some(word), Some(rest)),
            None => (Some(text), None),
        },
    }
}

fn word_is_plain(word: &str) -> bool {
    !word.is_empty() && !word.contains(|c: char| matches!(c, '*' | '#') || c.is_whitespace() || c.is_control())
}

fn check(what: &str, text: &str, allowed: impl Fn(&str) -> bool) -> Result<()> {
    let fault = if text.is_empty() {
        "it is empty".to_owned()
    } else if text.len() > SUBJECT_MAX {
        format!("it has {} bytes, at most {SUBJECT_MAX} are allowed", text.len())
    } else if let Some(word) = text.split('.').find(|word| !allowed(word)) {
        format!("the word {word:?} is not allowed")
    } else {
        return Ok(());
    };
    let shown: String = text.chars().take(80).collect();
    Err(Error::new(
        ErrorKind::InvalidName,
        format!(
            "{what} {shown:?} is not valid: {fault}; write words joined by \".\", in filters \"*\" for one word and \"#\" for any number"
        ),
    ))
}

parsed_text!(Subject);
parsed_text!(SubjectFilter);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passes(filter: &str, subject: &str) -> bool {
        SubjectFilter::parse(filter).unwrap().matches(Some(&Subject::parse(subject).unwrap()))
    }

    #[test]
    fn one_table_of_patterns() {
        for (filter, subject, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.b", "a", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("a.#", "b", false),
            ("#.c", "a.b.c", true),
            ("#.c", "c", true),
            ("#.c", "a.c.b", false),
            ("a.#.c", "a.c", true),
            ("a.#.c", "a.b.b.c", true),
            ("a.#.c", "a.c.c", true),
            ("a.*.c", "a.c", false),
            ("*.#", "a", true),
            ("#.*", "a", true),
            ("#.a.#", "b.a.c", true),
            ("#.a.#.b", "a.a.b.a.b", true),
            ("stock.AAPL", "stock.AAPL", true),
        ] {
            assert_eq!(passes(filter, subject), expected, "{filter} over {subject}");
        }
    }

    #[test]
    fn ill_formed_ones_are_refused() {
        for bad in ["", ".", "a..b", "a b", "a.*b"] {
            assert!(SubjectFilter::parse(bad).is_err(), "{bad}");
            assert!(Subject::parse(bad).is_err(), "{bad}");
        }
        assert!(Subject::parse("a.*").is_err());
        assert!(!SubjectFilter::parse("*").unwrap().matches(None));
        assert!(SubjectFilter::parse("#").unwrap().matches(None));
    }

    /// The obvious definition, exponential and short.
    fn naive(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern.first(), subject.first()) {
            (None, None) => true,
            (Some(&"#"), _) => naive(&pattern[1..], subject) || (!subject.is_empty() && naive(pattern, &subject[1..])),
            (Some(&word), Some(&given)) => (word == "*" || word == given) && naive(&pattern[1..], &subject[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_definition(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "#"]), 1..6),
            subject in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..7),
        ) {
            prop_assert_eq!(passes(&pattern.join("."), &subject.join(".")), naive(&pattern, &subject));
        }
    }
}
