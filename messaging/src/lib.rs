//! What an application depends on: configuration, codecs, drivers and the runtime for listeners, over any broker.

mod app;
pub mod codec;
pub mod config;
mod drivers;
pub mod extract;

pub use bytes::Bytes;
pub use messaging_core::*;
#[cfg(feature = "macros")]
pub use messaging_macros::{listener, listeners};

pub use self::app::*;
pub use self::codec::{Codec, Codecs, Json, Named};
pub use self::config::{Binding, Config, ConfigBuilder, ListenerConfig, RetryConfig, UsedAs};
pub use self::drivers::{connect, drivers};
pub use self::extract::{Attempt, FromDelivery, Header, Incoming, NamedHeader, Payload, Settle, State};
