//! The code of a valid listener: the function as it is, and beside it, under the same name, what mounts it.
//!
//! The companion is a type because types and functions have names of their own kinds: one `use` brings both, a rename
//! renames both, and `listeners![orders::handle]` finds it by the path of the function.

use std::time::Duration;

use messaging_core::{Order, RetryMode, Start};
use proc_macro2::{Literal, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Path, Result, parse2};

use crate::explain::explain;
use crate::fallback::fallback;
use crate::function::Function;
use crate::valid::{AckMode, DeadLetterPolicy, Membership, Retry, Source, Valid, validate};

/// Expansion of `#[listener(arguments)]` on an item.
pub(crate) fn listener(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match read(arguments, item.clone()) {
        Ok((valid, function)) => expand(&valid, &function),
        Err(fault) => fallback(item, fault),
    }
}

fn read(arguments: TokenStream, item: TokenStream) -> Result<(Valid, Function)> {
    let function = parse2(item)?;
    let valid = validate(parse2(arguments)?, &function)?;
    Ok((valid, function))
}

/// The function and its companion.
fn expand(valid: &Valid, function: &Function) -> TokenStream {
    let root = &valid.root;
    let name = &function.signature.ident;
    let listen = listen(valid);
    // Spanned at the name: if the function is no handler, the compiler says so there.
    let made = quote_spanned! { name.span() => #root::Listener::new(#listen, #name) };
    let companion = companion(
        function,
        &quote! {
            #[must_use]
            pub fn listener() -> #root::Listener {
                #made
            }
        },
    );
    let explain = explain(root, function);
    // Explained first: what only follows is told after it.
    quote! { #function #explain #companion }
}

/// The type beside the function that has the function `listener`.
pub(crate) fn companion(function: &Function, listener: &TokenStream) -> TokenStream {
    let name = &function.signature.ident;
    let visibility = &function.visibility;
    let conditions: Vec<_> = function.conditions().collect();
    // Shown at the name, and yet the macro's own, so that no lint of the application is about it.
    let at_name = name.span().resolved_at(Span::call_site());
    let namespace = quote_spanned! { at_name => #visibility enum #name {} };
    quote! {
        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_debug_implementations)]
        #namespace

        #(#conditions)*
        impl #name {
            #listener
        }
    }
}

fn listen(valid: &Valid) -> TokenStream {
    let Valid {
        root,
        source,
        id,
        concurrency,
        prefetch,
        retry,
        retry_mode,
        dead_letter,
        ack,
        order_by,
        timeout,
        requires,
    } = valid;
    let from = from(root, source);
    let concurrency = concurrency.map(Literal::u64_unsuffixed).map(|count| quote!(.concurrency(#count)));
    let prefetch = prefetch.map(Literal::u64_unsuffixed).map(|count| quote!(.prefetch(#count)));
    let retry = retry.as_ref().map(|policy| policy_of(root, policy)).map(|policy| quote!(.retry(#policy)));
    let retry_mode = retry_mode.map(|mode| match mode {
        RetryMode::Requeue => quote!(.retry_mode(#root::RetryMode::Requeue)),
        RetryMode::Hold => quote!(.retry_mode(#root::RetryMode::Hold)),
    });
    let dead_letter = dead_letter.map(|policy| match policy {
        DeadLetterPolicy::Keep => quote!(.dead_letter(#root::DeadLetterPolicy::Keep)),
        DeadLetterPolicy::Discard => quote!(.dead_letter(#root::DeadLetterPolicy::Discard)),
    });
    let ack = ack.map(|mode| match mode {
        AckMode::OnSuccess => quote!(.ack(#root::AckMode::OnSuccess)),
        AckMode::Manual => quote!(.ack(#root::AckMode::Manual)),
    });
    let order_by = order_by.map(|order| match order {
        Order::None => quote!(.order_by(#root::Order::None)),
        Order::ByKey => quote!(.order_by(#root::Order::ByKey)),
    });
    let timeout = timeout.map(duration).map(|limit| quote!(.timeout(#limit)));
    // A feature's variant is named by its `Debug`.
    let requires = requires.iter().map(|feature| format_ident!("{feature:?}"));
    quote! {
        #from.id(#id) #concurrency #prefetch #retry #retry_mode #dead_letter #ack #order_by #timeout
            #(.requires(#root::Feature::#requires))*
    }
}

fn from(root: &Path, source: &Source) -> TokenStream {
    match source {
        Source::Queue(name) => quote!(#root::Listen::queue(#name)),
        Source::Topic { name, membership, filter, start } => {
            let membership = match membership {
                Membership::Bound => quote!(),
                Membership::Durable(subscription) => quote!(.subscription(#subscription)),
                Membership::Ephemeral => quote!(.ephemeral()),
            };
            let filter = filter.as_ref().map(|filter| quote!(.filter(#filter)));
            let start = start.and_then(|start| match start {
                Start::New => Some(quote!(.start(#root::Start::New))),
                Start::Earliest => Some(quote!(.start(#root::Start::Earliest))),
                // Has no word in the attribute.
                Start::At(_) | Start::Offset(_) => None,
            });
            quote!(#root::Listen::topic(#name) #membership #filter #start)
        }
    }
}

fn policy_of(root: &Path, policy: &Retry) -> TokenStream {
    let Retry { attempts, initial, max, multiplier, jitter } = policy;
    let attempts = attempts.map(Literal::u64_unsuffixed).map(|count| quote!(.attempts(#count)));
    let initial = initial.map(duration).map(|wait| quote!(.initial(#wait)));
    let max = max.map(duration).map(|wait| quote!(.max(#wait)));
    let multiplier = multiplier.map(Literal::f64_unsuffixed).map(|factor| quote!(.multiplier(#factor)));
    let jitter = jitter.map(|on| quote!(.jitter(#on)));
    quote!(#root::Retry::default() #attempts #initial #max #multiplier #jitter)
}

/// In the largest unit that says it exactly.
fn duration(of: Duration) -> TokenStream {
    let seconds = Literal::u64_unsuffixed(of.as_secs());
    match of.subsec_nanos() {
        0 => quote!(::core::time::Duration::from_secs(#seconds)),
        nanos => match (u64::try_from(of.as_millis()), nanos % 1_000_000) {
            (Ok(millis), 0) => {
                let millis = Literal::u64_unsuffixed(millis);
                quote!(::core::time::Duration::from_millis(#millis))
            }
            _ => {
                let nanos = Literal::u32_unsuffixed(nanos);
                quote!(::core::time::Duration::new(#seconds, #nanos))
            }
        },
    }
}
