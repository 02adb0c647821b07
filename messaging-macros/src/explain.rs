//! Code that never runs and makes the compiler explain itself.
//!
//! Of a function that is no handler, the compiler says that and no more: not which argument is no extractor, not which
//! value held over an `.await` keeps the future from being sent. Asked one by one it says so, each at its place.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, ReturnType, Type};

use crate::function::{Function, mentions_impl};

/// One question for each argument, one for what is returned and one for the future.
pub(crate) fn explain(root: &Path, function: &Function) -> TokenStream {
    let name = &function.signature.ident;
    let types: Vec<_> = function.argument_types().collect();
    let arguments: Vec<_> = (0..types.len()).map(|index| format_ident!("argument_{index}")).collect();
    let extractors = types.iter().map(|of| quote_spanned! { of.span() => __extractor::<#of>(); });
    let returned = returned(function).map(|of| quote_spanned! { of.span() => __returned::<#of>(); });
    let sent = quote_spanned! { name.span() => __sent(#name(#(#arguments),*)) };
    let conditions: Vec<_> = function.conditions().collect();
    quote! {
        #(#conditions)*
        const _: () = {
            fn __extractor<T: #root::FromDelivery>() {}
            fn __returned<T: #root::IntoHandled>() {}
            fn __sent<T: ::core::marker::Send>(_: T) {}
            fn __explain(#(#arguments: #types),*) {
                #(#extractors)*
                #returned
                #sent
            }
        };
    }
}

/// The type after the arrow, unless it has no name.
fn returned(function: &Function) -> Option<&Type> {
    match &function.signature.output {
        ReturnType::Type(_, of) if mentions_impl(of).is_none() => Some(of),
        _ => None,
    }
}
