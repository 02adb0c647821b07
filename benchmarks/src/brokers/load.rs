//! The messages that are moved, and the clock that they carry.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use messaging::{Json, Message};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::order::Order;

/// The two headers of a message that is not said to have none.
pub(crate) const MESSAGE_HEADERS: [(&str, &str); 2] = [("tenant", "acme"), ("region", "eu-west")];

/// The usual payload, in bytes.
pub(crate) const USUAL_PAYLOAD_BYTES: usize = 256;

/// Parts of a message. Each message is built anew, as an application does; only the payload's bytes are shared.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) payload: Bytes,
}

impl Load {
    /// Letters drawn at random, always the same: something that compresses about as well as text.
    pub(crate) fn of(size: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(size as u64);
        Self { payload: (0..size).map(|_| random.random_range(b'A'..=b'Z')).collect() }
    }

    /// An order as JSON, about as large as usual.
    pub(crate) fn order() -> Self {
        Self { payload: Json(&Order::numbered(42)).into_message().unwrap().build().unwrap().payload().clone() }
    }

    pub(crate) fn message(&self) -> Message {
        with_headers(self.payload.clone())
    }

    /// As a person reads it.
    pub(crate) fn size(&self) -> String {
        match self.payload.len() {
            size if size >= 1_024 => format!("{} KiB", size / 1_024),
            size => format!("{size} B"),
        }
    }
}

/// A message of the usual size that says when it was made.
pub(crate) fn stamped() -> Message {
    with_headers(stamp())
}

pub(crate) fn stamp() -> Bytes {
    let mut payload = vec![7; USUAL_PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&now().to_le_bytes());
    Bytes::from(payload)
}

/// How long ago the message of this payload was made.
pub(crate) fn age(payload: &[u8]) -> Duration {
    let made = payload.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Duration::from_nanos(now().saturating_sub(made))
}

fn with_headers(payload: Bytes) -> Message {
    let builder = Message::builder(payload);
    MESSAGE_HEADERS.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).build().unwrap()
}

/// Nanoseconds since this process first asked.
fn now() -> u64 {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGINNING.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
