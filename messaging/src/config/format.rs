//! Files and texts: TOML, YAML or JSON read into a tree of values.
//!
//! No text of an error quotes the file, since the faulty line may hold a password: line and column must do.

use std::fmt;
use std::path::Path;

use figment::value::{Dict, Empty, Tag, Value};
use messaging_core::suggest::hint;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// How a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
    Yaml,
}

impl Format {
    /// The format of a file, by the ending of its name.
    pub(super) fn of(path: &Path) -> Result<Self, String> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "toml" => Ok(Self::Toml),
            "json" => Ok(Self::Json),
            "yaml" | "yml" => Ok(Self::Yaml),
            "" => Err("its name has no ending that tells its format: use .toml, .yaml, .yml or .json".to_owned()),
            other => Err(format!(
                "its format is not known by the ending {other:?}{}",
                hint(other, ["toml", "yaml", "yml", "json"])
            )),
        }
    }

    /// Reads a text; the tree is a table.
    pub(super) fn read(self, text: &str) -> Result<Dict, String> {
        let tree = match self {
            Self::Toml => read_toml(text),
            Self::Json => read_json(text),
            Self::Yaml => read_yaml(text),
        }?;
        match tree.0 {
            Value::Dict(_, dict) => Ok(dict),
            // An empty YAML file.
            Value::Empty(..) => Ok(Dict::new()),
            _ => Err("it has to be a table of keys and values".to_owned()),
        }
    }
}

fn read_toml(text: &str) -> Result<Tree, String> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("it is not valid TOML: {} at line {line}, column {column}", first_line(error.message()))
    })
}

fn read_json(text: &str) -> Result<Tree, String> {
    serde_json::from_str(text).map_err(|error| {
        let text = error.to_string();
        let (line, column) = (error.line(), error.column());
        let why = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
        format!("it is not valid JSON: {} at line {line}, column {column}", first_line(why))
    })
}

#[cfg(feature = "yaml")]
fn read_yaml(text: &str) -> Result<Tree, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        // Its texts may quote a value, unlike those of the other two.
        let place =
            error.location().map_or_else(String::new, |at| format!(" at line {}, column {}", at.line(), at.column()));
        format!("it is not valid YAML, or a key stands twice,{place}")
    })
}

#[cfg(not(feature = "yaml"))]
fn read_yaml(_: &str) -> Result<Tree, String> {
    Err("this build reads no YAML: enable the feature \"yaml\" of the crate \"messaging\"".to_owned())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A tree of values in which no key stands twice: JSON parsers take the last one without a word.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Self)
    }
}

struct TreeVisitor;

/// How the `toml` crate hands over a date: a map with this one key.
const TOML_DATE: &str = "$__toml_private_datetime";

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Empty(Tag::Default, Empty::None))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Empty(Tag::Default, Empty::None))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Tree(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(Tag::Default, list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut dict = Dict::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == TOML_DATE {
                return Ok(Value::from(entries.next_value::<String>()?));
            }
            let Tree(value) = entries.next_value()?;
            if dict.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice in one table")));
            }
            dict.insert(key, value);
        }
        Ok(Value::Dict(Tag::Default, dict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_formats_say_the_same() {
        let toml = Format::Toml.read("a = 1\n[b]\nc = \"x\"\nd = [true, 1.5]\n").unwrap();
        let json = Format::Json.read(r#"{"a":1,"b":{"c":"x","d":[true,1.5]}}"#).unwrap();
        // Signed or not is the parser's choice.
        let shown = |dict: &Dict| serde_json::to_string(dict).unwrap();
        assert_eq!(shown(&toml), shown(&json));
        #[cfg(feature = "yaml")]
        assert_eq!(shown(&toml), shown(&Format::Yaml.read("a: 1\nb:\n  c: x\n  d: [true, 1.5]\n").unwrap()));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        for (format, text) in [
            (Format::Toml, "a = 1\na = 2"),
            (Format::Json, r#"{"a":1,"a":2}"#),
            #[cfg(feature = "yaml")]
            (Format::Yaml, "a: 1\na: 2"),
        ] {
            let fault = format.read(text).unwrap_err();
            assert!(fault.contains("line"), "{fault}");
        }
    }

    #[test]
    fn faults_name_line_and_column_and_quote_nothing() {
        for (format, text) in [
            (Format::Toml, "a = 1\nb = \"s3cret"),
            (Format::Toml, "a = 1\nb = s3cret"),
            (Format::Json, "{\"a\":1,\n\"b\": s3cret}"),
            (Format::Json, "{\"a\":1,\n\"b\": \"s3cret"),
            #[cfg(feature = "yaml")]
            (Format::Yaml, "a: 1\nb: [s3cret"),
            #[cfg(feature = "yaml")]
            (Format::Yaml, "a: 1\nb: *s3cret"),
        ] {
            let fault = format.read(text).unwrap_err();
            assert!(fault.contains("line 2") || fault.contains("line 3"), "{fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
        }
    }

    #[test]
    fn a_text_that_is_no_table_is_refused() {
        assert!(Format::Json.read("[1]").unwrap_err().contains("a table"));
        assert!(Format::Toml.read("").unwrap().is_empty());
        #[cfg(feature = "yaml")]
        assert!(Format::Yaml.read("").unwrap().is_empty());
    }

    #[test]
    fn dates_are_text() {
        let dict = Format::Toml.read("a = 1979-05-27").unwrap();
        assert_eq!(dict["a"].as_str(), Some("1979-05-27"));
    }
}
