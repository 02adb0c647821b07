//! Conversions of every type that is text parsed at the edge: to be parsed from text in each of Rust's ways, and be text again.

/// For tuple structs over `SmolStr` that have a `parse` function.
macro_rules! parsed_text {
    ($type:ident) => {
        impl std::str::FromStr for $type {
            type Err = $crate::Error;
            fn from_str(text: &str) -> $crate::Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = $crate::Error;
            fn try_from(text: &str) -> $crate::Result<Self> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = $crate::Error;
            fn try_from(text: String) -> $crate::Result<Self> {
                Self::parse(text)
            }
        }

        impl From<$type> for String {
            fn from(parsed: $type) -> Self {
                parsed.0.into()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use parsed_text;
