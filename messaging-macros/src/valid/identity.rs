//! The id of a listener: by it the configuration, the ledger and the log know it.

use messaging_core::{JOINT, QueueName, Result};
use syn::Ident;
use syn::ext::IdentExt;

use super::Faults;
use super::values::text;
use crate::ast::Arg;

/// The id given, or one made of the function's name.
pub(super) fn read(id: Option<Arg>, function: &Ident, faults: &mut Faults) -> Option<String> {
    if let Some(arg) = id {
        let id = text(&arg, "text in quotes", "handle-order", faults)?;
        return match parse(&id.value) {
            Ok(()) => Some(id.value),
            Err(error) => {
                faults.add(id.span, error.text().replacen("queue name", "listener id", 1));
                None
            }
        };
    }
    let id = of_function(&function.unraw().to_string());
    if parse(&id).is_err() {
        faults.add(
            function.span(),
            format!(
                "no id can be made of the function's name `{function}`: write one, such as `id = \"handle-order\"`"
            ),
        );
        return None;
    }
    Some(id)
}

/// `handle_order` is `handle-order`; underscores at the ends or in a row add nothing.
fn of_function(name: &str) -> String {
    name.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// A name, or several joined by `--`. Of the kinds of name any would do: they have one grammar.
fn parse(id: &str) -> Result<()> {
    id.split(JOINT).try_for_each(|part| QueueName::parse(part).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_name_becomes_an_id() {
        assert_eq!(of_function("handle_order"), "handle-order");
        assert_eq!(of_function("_audit__all_2"), "audit-all-2");
        assert!(parse(&of_function("_")).is_err());
        assert!(parse("weather--dashboard").is_ok());
    }
}
