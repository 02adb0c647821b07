//! `listeners![…]`: the paths of listener functions to what is mounted.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Ident, Path, PathArguments, Result, Token, parse2};

/// A vector with the listener of each path.
pub(crate) fn listeners(input: TokenStream) -> TokenStream {
    match parse2::<Paths>(input) {
        Ok(Paths(paths)) => {
            let made = paths.iter().map(call);
            quote! { ::std::vec![#(#made),*] }
        }
        Err(fault) => {
            let fault = fault.into_compile_error();
            quote! { { #fault ::std::vec![] } }
        }
    }
}

/// `orders::handle` is `orders::handle::listener()`, spanned so that what cannot be found is shown at the path.
fn call(path: &Path) -> TokenStream {
    let listener = Ident::new("listener", path.segments.last().map_or_else(Span::call_site, Spanned::span));
    quote_spanned! { path.span() => #path::#listener() }
}

struct Paths(Vec<Path>);

impl Parse for Paths {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let paths: Vec<Path> = Punctuated::<Path, Token![,]>::parse_terminated_with(input, path)?.into_iter().collect();
        let mut seen: Vec<String> = Vec::new();
        for path in &paths {
            let shown = path.to_token_stream().to_string();
            if seen.contains(&shown) {
                return Err(Error::new_spanned(path, "listed twice: every listener is mounted once"));
            }
            seen.push(shown);
        }
        Ok(Self(paths))
    }
}

fn path(input: ParseStream<'_>) -> Result<Path> {
    const EXPECTED_PATHS: &str =
        "`listeners!` takes paths of functions that have `#[listener]`, such as `orders::handle`";
    let begin = input.span();
    let path: Path = input.parse().map_err(|_| Error::new(begin, EXPECTED_PATHS))?;
    if path.segments.iter().any(|segment| !matches!(segment.arguments, PathArguments::None)) {
        return Err(Error::new_spanned(path, EXPECTED_PATHS));
    }
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.error("expected `,` or the end: a listener is listed by its path, without calling it"));
    }
    Ok(path)
}
