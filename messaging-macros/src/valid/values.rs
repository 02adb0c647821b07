//! Reads one value each: the right type within its bounds, or a fault that points at it and says what is allowed.

use std::str::FromStr;
use std::time::Duration;

use messaging_core::suggest::nearest;
use messaging_core::{Error, parse_duration};
use proc_macro2::Span;
use syn::{Expr, ExprLit, ExprPath, Lit};

use super::Faults;
use crate::ast::{Arg, Value};

/// The most of anything that is counted: fits a `usize` of every target.
const COUNT_MAX: u64 = u32::MAX as u64;

/// A value and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// Text in quotes that is a `T` of the core.
pub(crate) fn parsed<T: FromStr<Err = Error>>(arg: &Arg, example: &str, faults: &mut Faults) -> Option<At<String>> {
    let text = text(arg, "text in quotes", example, faults)?;
    match T::from_str(&text.value) {
        Ok(_) => Some(text),
        Err(error) => {
            faults.add(text.span, error.text());
            None
        }
    }
}

/// A length of time.
pub(crate) fn duration(arg: &Arg, example: &str, faults: &mut Faults) -> Option<At<Duration>> {
    let text = text(arg, "a length of time in quotes", example, faults)?;
    match parse_duration(&text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(error) => {
            faults.add(text.span, error.text());
            None
        }
    }
}

/// A whole number from 1; `zero` says what to write instead of 0.
pub(crate) fn count(arg: &Arg, example: &str, zero: &str, faults: &mut Faults) -> Option<At<u64>> {
    let name = &arg.name;
    let span = arg.value_span();
    let Some(Lit::Int(number)) = literal(arg) else {
        faults.add(span, format!("`{name}` takes a whole number of at least 1: write `{name} = {example}`"));
        return None;
    };
    match number.base10_parse::<u64>() {
        Ok(0) => faults.add(span, format!("`{name}` must be at least 1: {zero}")),
        Ok(value) if value <= COUNT_MAX => return Some(At { value, span }),
        _ => faults.add(span, format!("`{name}` must be at most {COUNT_MAX}")),
    }
    None
}

/// A number of at least 1, with or without a fraction.
pub(crate) fn factor(arg: &Arg, example: &str, faults: &mut Faults) -> Option<At<f64>> {
    let value = match literal(arg) {
        Some(Lit::Int(number)) => number.base10_parse::<f64>().ok(),
        Some(Lit::Float(number)) => number.base10_parse::<f64>().ok(),
        _ => None,
    };
    let span = arg.value_span();
    match value {
        Some(value) if value >= 1.0 && value.is_finite() => Some(At { value, span }),
        _ => {
            let name = &arg.name;
            faults.add(span, format!("`{name}` takes a number of at least 1: write `{name} = {example}`"));
            None
        }
    }
}

/// `true` or `false`.
pub(crate) fn flag(arg: &Arg, faults: &mut Faults) -> Option<At<bool>> {
    let span = arg.value_span();
    match literal(arg) {
        Some(Lit::Bool(flag)) => Some(At { value: flag.value(), span }),
        _ => {
            let name = &arg.name;
            faults.add(span, format!("`{name}` takes `true` or `false`: write `{name} = true`"));
            None
        }
    }
}

/// One of a few words, bare or in quotes.
pub(crate) fn word<T: Copy>(arg: &Arg, known: &[(&str, T)], faults: &mut Faults) -> Option<At<T>> {
    let Arg { name, value } = arg;
    let span = arg.value_span();
    let given = match value {
        Value::Is(value) => bare_or_quoted(value),
        Value::Absent | Value::List(_) => None,
    };
    let allowed = alternatives(known.iter().map(|(word, _)| *word));
    let Some(given) = given else {
        faults.add(span, format!("`{name}` is {allowed}: write `{name} = {}`", known[0].0));
        return None;
    };
    match known.iter().find(|(word, _)| *word == given) {
        Some((_, value)) => Some(At { value: *value, span }),
        None => {
            let near = nearest(&given, known.iter().map(|(word, _)| *word));
            let meant = near.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
            faults.add(span, format!("unknown `{name}` \"{given}\"{meant}; `{name}` is {allowed}"));
            None
        }
    }
}

/// A word, bare or in quotes.
pub(crate) fn bare_or_quoted(value: &Expr) -> Option<String> {
    match value {
        Expr::Path(ExprPath { qself: None, path, .. }) => path.get_ident().map(ToString::to_string),
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        // A fragment of `macro_rules!`.
        Expr::Group(group) => bare_or_quoted(&group.expr),
        _ => None,
    }
}

/// Text in quotes.
pub(crate) fn text(arg: &Arg, what: &str, example: &str, faults: &mut Faults) -> Option<At<String>> {
    let span = arg.value_span();
    match literal(arg) {
        Some(Lit::Str(text)) => Some(At { value: text.value(), span }),
        _ => {
            let name = &arg.name;
            faults.add(span, format!("`{name}` takes {what}: write `{name} = \"{example}\"`"));
            None
        }
    }
}

fn literal(arg: &Arg) -> Option<&Lit> {
    match &arg.value {
        Value::Is(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
        _ => None,
    }
}

/// `` `a` or `b` ``, `` `a`, `b` or `c` ``.
fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
