//! What stands in for a listener that is not valid, so that the compiler shows what is wrong and nothing that only follows
//! from it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, parse2};

use crate::expand::companion;
use crate::function::Function;

/// The item as it is, a companion that is never run, and the faults.
pub(crate) fn fallback(item: TokenStream, fault: Error) -> TokenStream {
    let faults = fault.into_compile_error();
    let stand_in = parse2::<Function>(item.clone()).ok().filter(|function| function.signature.receiver().is_none());
    let stand_in = stand_in.map(|function| {
        let listener = quote! {
            pub fn listener<L>() -> L {
                ::core::unreachable!()
            }
        };
        companion(&function, &listener)
    });
    quote! { #item #stand_in #faults }
}
