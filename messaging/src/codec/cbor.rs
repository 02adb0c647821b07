//! CBOR (RFC 8949).

use cbor4ii::core::dec::Read;
use cbor4ii::core::utils::SliceReader;
use cbor4ii::serde::Deserializer;
use messaging_core::Result;
use serde::de::DeserializeSeed;
use serde::ser::Serialize;

use super::own::{Codec, CodecError};

/// The codec for `application/cbor`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cbor;

impl Codec for Cbor {
    fn content_types(&self) -> &[&str] {
        &["application/cbor"]
    }

    fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError> {
        let mut deserializer = Deserializer::new(SliceReader::new(payload));
        let value = seed.deserialize(&mut deserializer)?;
        let is_at_end = deserializer.into_inner().fill(1)?.as_ref().is_empty();
        if is_at_end { Ok(value) } else { Err("bytes are left after the value".into()) }
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(cbor4ii::serde::to_vec(Vec::new(), &value)?)
    }
}
