//! Configuration: a TOML, YAML or JSON file, then environment variables, then code. Strict.
//!
//! An unknown key is an error that names the key, its place and the nearest key that is known; all faults of a
//! configuration are reported at once. `docs/configuration.md` lists every key.
//!
//! ```
//! use messaging::{Config, UsedAs};
//!
//! # fn main() -> messaging::Result<()> {
//! let config = Config::from_toml(
//!     r#"
//!     [brokers.main]
//!     url = "memory://shop"
//!
//!     [bindings.orders]
//!     queue = "orders.eu"
//!     "#,
//! )?;
//! assert_eq!(config.binding("orders", UsedAs::Publish)?.destination.to_string(), "queue \"orders.eu\"");
//! let error = config.binding("oders", UsedAs::Publish).unwrap_err();
//! assert!(error.text().contains("did you mean \"orders\"?"));
//! # Ok(())
//! # }
//! ```

mod binding;
mod builder;
mod expand;
mod format;
mod listener;
mod loaded;
mod read;
mod reader;
mod variables;

pub use self::binding::{Binding, UsedAs};
pub use self::builder::ConfigBuilder;
pub use self::listener::{ListenerConfig, RetryConfig};
pub use self::loaded::Config;
