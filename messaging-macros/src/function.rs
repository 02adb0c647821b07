//! The function under the attribute. Its body stays unread: the compiler reads it anyway, and a half-written body must
//! not take the listener away while it is being edited.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, FnArg, Result, Signature, Token, Type, Visibility, token};

/// A free function.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    body: TokenStream,
}

impl Function {
    /// The conditions under which the function exists, which the listener made of it shares.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
    }

    /// Other `#[listener]`s on the same function.
    pub(crate) fn other_listeners(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|attribute| is_listener(attribute))
    }

    /// The function without other `#[listener]`s, each of which would make a companion of the same name.
    pub(crate) fn without_other_listeners(mut self) -> Self {
        self.attributes.retain(|attribute| !is_listener(attribute));
        self
    }

    /// The types of the arguments.
    pub(crate) fn argument_types(&self) -> impl Iterator<Item = &Type> {
        self.signature.inputs.iter().filter_map(|argument| match argument {
            FnArg::Typed(argument) => Some(&*argument.ty),
            FnArg::Receiver(_) => None,
        })
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !begins_function(input) {
            return Err(not_a_function(input));
        }
        let signature: Signature = input.parse()?;
        if !input.peek(token::Brace) {
            return Err(Error::new(signature.ident.span(), "a listener is a function with a body"));
        }
        Ok(Self { attributes, visibility, signature, body: input.parse()? })
    }
}

/// Where a type says `impl`, at any depth.
pub(crate) fn mentions_impl(of: &Type) -> Option<Span> {
    fn find(tokens: TokenStream) -> Option<Span> {
        tokens.into_iter().find_map(|token| match token {
            TokenTree::Ident(word) if word == "impl" => Some(word.span()),
            TokenTree::Group(group) => find(group.stream()),
            _ => None,
        })
    }
    find(of.to_token_stream())
}

fn is_listener(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "listener")
}

fn begins_function(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    loop {
        if ahead.peek(Token![fn]) {
            return true;
        }
        let modifier = ahead.peek(Token![async]) || ahead.peek(Token![unsafe]) || ahead.peek(Token![const]);
        let abi = ahead.peek(Token![extern]) || ahead.peek(syn::LitStr);
        if !(modifier || abi) || ahead.parse::<TokenTree>().is_err() {
            return false;
        }
    }
}

fn not_a_function(input: ParseStream<'_>) -> Error {
    match input.fork().parse::<TokenTree>() {
        Ok(word) => {
            let message = format!("`#[listener]` goes on an `async fn`, it cannot be used on `{word}`");
            Error::new(word.span(), message)
        }
        Err(_) => Error::new(Span::call_site(), "`#[listener]` goes on an `async fn`"),
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attributes, visibility, signature, body } = self;
        tokens.append_all(attributes);
        visibility.to_tokens(tokens);
        signature.to_tokens(tokens);
        body.to_tokens(tokens);
    }
}
