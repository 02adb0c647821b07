//! `requires(…)`: features that the broker must have here, whatever else the listener asks for.

use messaging_core::Feature;
use messaging_core::suggest::hint;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, Token};

use super::Faults;
use super::values::bare_or_quoted;
use crate::ast::{Arg, Value};

const EXPECTED: &str = "`requires` lists features: write for example `requires(key_order, delayed_retry)`";

pub(super) fn read(arg: &Arg, faults: &mut Faults) -> Vec<Feature> {
    let list = match &arg.value {
        Value::List(list) if !list.stream().is_empty() => list.stream(),
        _ => {
            faults.add(arg.value_span(), EXPECTED);
            return Vec::new();
        }
    };
    let words = match Punctuated::<Expr, Token![,]>::parse_terminated.parse2(list) {
        Ok(words) => words,
        Err(fault) => {
            faults.join(fault);
            return Vec::new();
        }
    };
    let mut features = Vec::new();
    for word in &words {
        let Some(name) = bare_or_quoted(word) else {
            faults.add(word.span(), EXPECTED);
            continue;
        };
        match Feature::from_name(&name) {
            Some(feature) if features.contains(&feature) => {
                faults.add(word.span(), format!("`{name}` is listed twice: keep one"));
            }
            Some(feature) => features.push(feature),
            None => {
                let known = Feature::ALL.map(Feature::name);
                faults.add(word.span(), format!("unknown feature `{name}`{}", hint(&name, known)));
            }
        }
    }
    features
}
