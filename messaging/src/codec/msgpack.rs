//! MessagePack.

use messaging_core::Result;
use serde::de::DeserializeSeed;
use serde::ser::Serialize;

use super::own::{Codec, CodecError};

/// The codec for `application/msgpack`, `application/vnd.msgpack` and `application/x-msgpack`.
///
/// Structs are written as maps with the names of their fields, so that fields can be added and reordered.
#[derive(Clone, Copy, Debug, Default)]
pub struct MsgPack;

impl Codec for MsgPack {
    fn content_types(&self) -> &[&str] {
        &["application/msgpack", "application/vnd.msgpack", "application/x-msgpack"]
    }

    fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError> {
        let mut rest = payload;
        let value = seed.deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
        if rest.is_empty() { Ok(value) } else { Err(format!("bytes are left after the value: {}", rest.len()).into()) }
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(rmp_serde::to_vec_named(value)?)
    }
}
