//! Errors of decoding: where and what kind, never what the payload holds.
//!
//! Serde's texts quote values (`invalid type: string "…"`), and errors end up in logs and dead letters. The forms in which
//! serde itself writes are known and lose their values here; any other text is not repeated.

use std::fmt;

use messaging_core::{Error, ErrorKind, Message};
use serde_path_to_error::{Path, Segment};

/// Bound of a path in an error, in characters: segments may be keys of a map, which the author of the payload chose.
const PATH_MAX: usize = 120;

/// Bound of other foreign text in an error, in characters.
pub(super) const TEXT_MAX: usize = 80;

/// Writes where in the value decoding stopped; `None` at its top.
pub(super) fn path(path: &Path) -> Option<String> {
    if path.iter().all(|segment| matches!(segment, Segment::Unknown)) {
        return None;
    }
    Some(shorten(&path.to_string(), PATH_MAX))
}

/// A payload that cannot be decoded.
#[cold]
pub(super) fn undecodable(
    message: &Message,
    format: &str,
    why: impl fmt::Display,
    path: Option<String>,
    place: impl fmt::Display,
) -> Error {
    let path = path.map_or_else(String::new, |path| format!(" at {path}"));
    let mut error = Error::new(
        ErrorKind::Codec,
        format!("the payload cannot be decoded as {format}: {}{path}{place}", without_values(&why.to_string())),
    )
    .with_context("message", message.id());
    if let Some(content_type) = message.content_type() {
        error = error.with_context("content type", format_args!("{:?}", shorten(content_type, TEXT_MAX)));
    }
    error
}

/// A value that cannot be encoded.
#[cold]
pub(super) fn unencodable(format: &str, why: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Codec,
        format!("the value cannot be encoded as {format}: {}", without_values(&why.to_string())),
    )
}

/// Text for an error, with "…" in place of all beyond `max` characters.
pub(super) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Takes the values out of serde's own texts.
fn without_values(text: &str) -> String {
    for form in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = text.strip_prefix(form) {
            let Some((given, expected)) = rest.rsplit_once(", expected ") else { return GENERAL_FAULT.to_owned() };
            // `string "…"`, `integer `7``: the kind stands before the value.
            let kind = given.split(['"', '`']).next().unwrap_or_default().trim_end();
            return format!("{form}{}, expected {expected}", known_kind(kind));
        }
    }
    for form in ["unknown variant", "unknown field"] {
        if text.starts_with(form) && text[form.len()..].starts_with(" `") {
            return match text.rsplit_once("`, ") {
                // The last back-quoted word belongs to those that are expected, and these are the type's own.
                Some(_) => format!("{form}{}", expected_words(text)),
                None => form.to_owned(),
            };
        }
    }
    let own = ["missing field `", "duplicate field `", "invalid length "];
    // Texts of parsers about the form of the payload; none of these quotes it.
    let syntax = [
        "EOF while parsing",
        "expected ",
        "trailing ",
        "invalid escape",
        "invalid number",
        "number out of range",
        "invalid unicode code point",
        "control character",
        "key must be a string",
        "lone leading surrogate",
        "unexpected end of hex escape",
        "recursion limit exceeded",
        "bytes are left",
        "the codec did not use the seed",
    ];
    if own.iter().chain(&syntax).any(|form| text.starts_with(form)) {
        shorten(text, TEXT_MAX)
    } else {
        GENERAL_FAULT.to_owned()
    }
}

const GENERAL_FAULT: &str = "it is not well formed, or a value was refused by its type";

/// The list of what was expected, from a text such as ``unknown variant `x`, expected one of `a`, `b` ``.
fn expected_words(text: &str) -> &str {
    ["`, expected one of ", "`, expected ", "`, there are no "]
        .iter()
        .find_map(|form| text.rfind(form).map(|at| &text[at + 1..]))
        .unwrap_or_default()
}

fn known_kind(kind: &str) -> &'static str {
    let kinds = [
        "boolean",
        "integer",
        "floating point",
        "character",
        "string",
        "byte array",
        "unit value",
        "null",
        "Option value",
        "newtype struct",
        "sequence",
        "map",
        "enum",
        "unit variant",
        "newtype variant",
        "tuple variant",
        "struct variant",
    ];
    kinds.into_iter().find(|known| *known == kind).unwrap_or("a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_visible() {
        assert_eq!(shorten("käse", 4), "käse");
        assert_eq!(shorten("käsebrot", 4), "käse…");
    }

    #[test]
    fn the_values_in_serdes_texts_are_taken_out() {
        for (text, shown) in [
            ("invalid type: string \"s3cret\", expected u32", "invalid type: string, expected u32"),
            ("invalid type: string \"s3cret, expected s3cret\", expected u32", "invalid type: string, expected u32"),
            ("invalid type: integer `77`, expected a string", "invalid type: integer, expected a string"),
            ("invalid type: null, expected a map", "invalid type: null, expected a map"),
            ("invalid value: s3cret, expected x", "invalid value: a value, expected x"),
            ("invalid type: s3cret", GENERAL_FAULT),
            ("unknown variant `s3cret`, expected one of `a`, `b`", "unknown variant, expected one of `a`, `b`"),
            ("unknown variant `s3`, expected `x`, expected `a` or `b`", "unknown variant, expected `a` or `b`"),
            ("unknown field `s3cret`, there are no fields", "unknown field, there are no fields"),
            ("unknown field `s3cret`", "unknown field"),
            ("missing field `id`", "missing field `id`"),
            ("invalid length 3, expected a tuple of size 2", "invalid length 3, expected a tuple of size 2"),
            ("my own words about s3cret", GENERAL_FAULT),
            ("expected value", "expected value"),
        ] {
            assert_eq!(without_values(text), shown, "{text}");
        }
    }
}
