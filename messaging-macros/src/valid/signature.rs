//! Rules for the function that its signature shows: an `async fn` of extractors.
//!
//! Types are known by their last word alone, since a macro sees no further. Where that word decides nothing (an alias, an
//! extractor of the application's own) the check at start does.

use syn::spanned::Spanned;
use syn::{FnArg, Safety, Signature, Type};

use super::values::At;
use super::{AckMode, Faults};
use crate::function::{Function, mentions_impl};

/// The most arguments of a listener.
const ARGUMENTS_MAX: usize = 8;

/// The extractors that leave the settlement alone.
const NOT_SETTLING: [&str; 9] =
    ["Json", "Payload", "Bytes", "Message", "Headers", "Header", "Attempt", "State", "Publishers"];

/// Checks the rules that hold with any arguments of the attribute.
pub(super) fn check(function: &Function, faults: &mut Faults) {
    is_one_listener(function, faults);
    is_plain_async(&function.signature, faults);
    is_not_generic(function, faults);
    takes_values(function, faults);
}

fn is_one_listener(function: &Function, faults: &mut Faults) {
    for other in function.other_listeners() {
        faults.add(other.path().span(), "a function is one listener: write a second one that calls it");
    }
}

fn is_plain_async(signature: &Signature, faults: &mut Faults) {
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        faults.add(signature.fn_token.span, format!("a listener is asynchronous: write `async fn {name}`"));
    }
    if let Safety::Unsafe(word) = &signature.safety {
        faults.add(word.span, "a listener cannot be `unsafe`: nobody would be there to keep its promise");
    }
    if let Some(abi) = &signature.abi {
        faults.add(abi.extern_token.span, "a listener cannot be `extern`");
    }
    if let Some(variadic) = &signature.variadic {
        faults.add(variadic.dots.span(), "a listener has a fixed number of arguments");
    }
}

fn is_not_generic(function: &Function, faults: &mut Faults) {
    const GENERIC_LISTENER: &str = "a listener cannot be generic, since nobody would say for which types it is mounted: write one \
                           for each, and share the code in a function";
    if !function.signature.generics.params.is_empty() {
        faults.add(function.signature.generics.params.span(), GENERIC_LISTENER);
    }
    for span in function.argument_types().filter_map(mentions_impl) {
        faults.add(span, GENERIC_LISTENER);
    }
}

fn takes_values(function: &Function, faults: &mut Faults) {
    if let Some(receiver) = function.signature.receiver() {
        faults.add(
            receiver.self_token.span,
            "a listener is a free function, not a method: take what it shares as an argument `State<T>`",
        );
    }
    for of in function.argument_types() {
        if let Type::Reference(of) = of {
            faults.add(of.and_token.span, "a listener's arguments are extractors, taken by value: leave out the `&`");
        }
    }
    if let Some(over) = function.signature.inputs.iter().nth(ARGUMENTS_MAX) {
        faults.add(
            over.span(),
            format!("a listener has at most {ARGUMENTS_MAX} arguments: put several values into one `State<T>`"),
        );
    }
}

/// `Settle` and `ack = manual` need each other.
pub(super) fn settles_once(function: &Function, ack: Option<At<AckMode>>, faults: &mut Faults) {
    let settle = function.argument_types().find(|of| last_word(of).is_some_and(|word| word == "Settle"));
    let manual = ack.filter(|at| at.value == AckMode::Manual);
    match (settle, manual) {
        (Some(of), None) => faults.add(
            of.span(),
            "`Settle` is for `ack = manual`; without it the delivery is settled by what the function returns: add \
             `ack = manual`, or leave `Settle` out",
        ),
        (None, Some(manual)) if function.signature.inputs.iter().all(surely_not_settling) => faults.add(
            manual.span,
            "with `ack = manual` nothing settles the delivery but the function: add an argument of type `Settle`, or \
             leave `ack` out",
        ),
        _ => {}
    }
}

fn surely_not_settling(argument: &FnArg) -> bool {
    match argument {
        FnArg::Typed(argument) => last_word(&argument.ty).is_some_and(|word| NOT_SETTLING.contains(&word.as_str())),
        FnArg::Receiver(_) => false,
    }
}

fn last_word(of: &Type) -> Option<String> {
    match of {
        Type::Path(of) => of.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Group(of) => last_word(&of.elem),
        Type::Paren(of) => last_word(&of.elem),
        _ => None,
    }
}
