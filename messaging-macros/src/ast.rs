//! Syntax of `#[listener(…)]`: names with or without a value. Their meaning is decided in `valid`.
//!
//! Values are read as any expression and lists as any tokens, so that one wrong value does not hide what is wrong after it.

use proc_macro2::{Group, Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, Result, Token, parenthesized, token};

/// The arguments of the attribute, or of a list such as `retry(…)` in it.
pub(crate) struct Args(pub(crate) Vec<Arg>);

/// One argument.
pub(crate) struct Arg {
    pub(crate) name: Ident,
    pub(crate) value: Value,
}

/// Value of an argument, as it follows the name.
pub(crate) enum Value {
    /// Nothing: `ephemeral`.
    Absent,
    /// `= expression`.
    Is(Expr),
    /// `(…)`.
    List(Group),
}

impl Arg {
    /// Where a fault of the value is shown: at the value, or at the name where there is none.
    pub(crate) fn value_span(&self) -> Span {
        match &self.value {
            Value::Absent => self.name.span(),
            Value::Is(value) => value.span(),
            Value::List(list) => list.span(),
        }
    }
}

/// The expression inside groups without delimiters, in which `macro_rules!` wraps a fragment such as `$queue:literal`.
fn ungrouped(value: Expr) -> Expr {
    match value {
        Expr::Group(group) => ungrouped(*group.expr),
        other => other,
    }
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Self(Punctuated::<Arg, Token![,]>::parse_terminated(input)?.into_iter().collect()))
    }
}

impl Parse for Arg {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error("an argument begins with its name: write for example `queue = \"orders\"`"));
        }
        let name = input.call(Ident::parse_any)?;
        let value = input.parse()?;
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error(format!("expected `,` or the end after `{name}`")));
        }
        Ok(Self { name, value })
    }
}

impl Parse for Value {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() || input.peek(Token![,]) {
            return Ok(Self::Absent);
        }
        if input.peek(token::Paren) {
            let content;
            let parentheses = parenthesized!(content in input);
            let mut list = Group::new(proc_macro2::Delimiter::Parenthesis, content.parse::<TokenStream>()?);
            list.set_span(parentheses.span.join());
            return Ok(Self::List(list));
        }
        if !input.peek(Token![=]) {
            return Err(Error::new(input.span(), "expected `=`, `(…)` or `,` after the name of an argument"));
        }
        input.parse::<Token![=]>()?;
        if input.is_empty() || input.peek(Token![,]) {
            return Err(input.error("expected a value after `=`"));
        }
        input.parse().map(ungrouped).map(Self::Is)
    }
}
