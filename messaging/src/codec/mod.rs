//! Codecs: payloads to values and back, chosen by the message's content type.
//!
//! JSON is always there and is what a message without a content type is read as. MessagePack and CBOR are behind the
//! features `msgpack` and `cbor`; a format of one's own implements [`Codec`].
//!
//! ```
//! use messaging::{Codecs, Json, Named};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Order {
//!     id: u32,
//! }
//!
//! // What consumers go by is this name, which stays when the type is renamed or moved.
//! impl Named for Order {
//!     const TYPE: &'static str = "order.placed";
//! }
//!
//! # fn main() -> messaging::Result<()> {
//! let message = Json(Order { id: 7 }).into_named_message()?.key("customer-1").build()?;
//! assert_eq!(message.content_type(), Some("application/json"));
//! assert_eq!(message.message_type(), Some("order.placed"));
//!
//! let order: Order = Codecs::default().decode(&message)?;
//! assert_eq!(order, Order { id: 7 });
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cbor")]
mod cbor;
mod codecs;
mod fault;
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
mod named;
mod own;

#[cfg(feature = "cbor")]
pub use self::cbor::Cbor;
pub use self::codecs::Codecs;
pub use self::json::{JSON, Json, JsonCodec};
#[cfg(feature = "msgpack")]
pub use self::msgpack::MsgPack;
pub use self::named::Named;
pub use self::own::{Codec, CodecError};
