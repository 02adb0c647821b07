//! Stand-in for a listener that is not valid, so that the compiler shows the fault and nothing that only follows
//! from it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, parse2};

use crate::expand::companion;
use crate::function::Function;

/// The item as it is, a companion that is never run, and the faults.
pub(crate) fn fallback(item: TokenStream, fault: Error) -> TokenStream {
    let faults = fault.into_compile_error();
    match parse2::<Function>(item.clone()) {
        // A type cannot stand among methods.
        Ok(function) if function.signature.receiver().is_none() => {
            let function = function.without_other_listeners();
            let stand_in = stand_in(&function);
            quote! { #function #stand_in #faults }
        }
        _ => quote! { #item #faults },
    }
}

/// Of any type, so that it can be mounted where the crate `messaging` cannot be found.
fn stand_in(function: &Function) -> TokenStream {
    let listener = quote! {
        pub fn listener<L>() -> L {
            ::core::unreachable!()
        }
    };
    companion(function, &listener)
}
