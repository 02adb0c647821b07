//! `${NAME}` and `${NAME:-default}` in values.

use std::collections::BTreeMap;

/// The environment, as taken when the configuration was built. `None`: a value that is not Unicode.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, Option<String>>);

impl Environment {
    /// That of this process. Variables whose names are not Unicode cannot be meant by anything written here.
    pub(super) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
                .collect(),
        )
    }

    pub(super) fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name, Some(value))).collect())
    }

    /// Names and values, in the order of the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Replaces what is written `${…}` in `text`. Returns the text, and whether anything came from a variable.
    pub(super) fn expand(&self, text: &str) -> Result<(String, bool), String> {
        let mut expanded = String::with_capacity(text.len());
        let mut from_variable = false;
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            expanded.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let Some(end) = inner.find('}') else {
                return Err("has \"${\" without \"}\": write \"$${\" for a literal \"${\"".to_owned());
            };
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            expanded.push_str(self.value_of(name, default, &mut from_variable)?);
            rest = &inner[end + 1..];
        }
        expanded.push_str(rest);
        Ok((expanded, from_variable))
    }

    fn value_of<'a>(
        &'a self,
        name: &str,
        default: Option<&'a str>,
        from_variable: &mut bool,
    ) -> Result<&'a str, String> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
            return Err(
                "has \"${…}\" around something that cannot be the name of an environment variable: use letters, \
                        digits and \"_\", or write \"$${\" for a literal \"${\""
                    .to_owned(),
            );
        }
        match (self.0.get(name), default) {
            (Some(None), _) => Err(format!("needs the environment variable {name}, whose value is not Unicode")),
            // As in a shell, `:-` also takes the default for a variable that is set to nothing.
            (Some(Some(value)), Some(default)) if value.is_empty() => Ok(default),
            (Some(Some(value)), _) => {
                *from_variable = true;
                Ok(value)
            }
            (None, Some(default)) => Ok(default),
            (None, None) => Err(format!(
                "needs the environment variable {name}, which is not set: set it, or give a default with ${{{name}:-…}}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<(String, bool), String> {
        let set = [("A", "one"), ("EMPTY", ""), ("NESTED", "${A}")];
        Environment::of(set.map(|(name, value)| (name.to_owned(), value.to_owned()))).expand(text)
    }

    #[test]
    fn variables_defaults_and_literals() {
        for (text, expected, from_variable) in [
            ("plain", "plain", false),
            ("$5 {x} $", "$5 {x} $", false),
            ("${A}", "one", true),
            ("x${A}y${A}z", "xoneyonez", true),
            ("${B:-two}", "two", false),
            ("${B:-}", "", false),
            ("${B:-a:-b}", "a:-b", false),
            ("${A:-two}", "one", true),
            ("${EMPTY}", "", true),
            ("${EMPTY:-two}", "two", false),
            ("$${A}", "${A}", false),
            ("$${A}${A}", "${A}one", true),
            ("$$${A}", "$${A}", false),
            ("$${", "${", false),
            ("ä${A}ö", "äoneö", true),
            ("${B:-amqp://u:p@h/%2F?x=1}", "amqp://u:p@h/%2F?x=1", false),
            // The value of a variable is taken as it is.
            ("${NESTED}", "${A}", true),
        ] {
            assert_eq!(expand(text).unwrap(), (expected.to_owned(), from_variable), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_told() {
        assert!(expand("${B}").unwrap_err().contains("variable B, which is not set"));
        for (text, fault) in [("${A", "without"), ("${}", "cannot be"), ("${a b}", "cannot be"), ("${1}", "cannot be")]
        {
            let error = expand(text).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
    }
}
