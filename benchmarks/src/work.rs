//! One run of fixed length, to count instructions by.

use std::time::Duration;

use clap::ValueEnum;

use crate::flavour::Flavour;
use crate::memory::{batches, channels, listeners, one_by_one};

/// Which way the messages go; all on one thread, 1 producer and 1 consumer.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Way {
    /// Published, handled by a listener that takes Bytes, settled.
    Listener,
    /// The same with every message built anew: payload copied, two headers parsed.
    ListenerBuilt,
    /// Encoded as JSON, published, decoded, handled, settled.
    ListenerJson,
    /// Only built and dropped: what of a listener's cost is the message's.
    Build,
    /// Published, received and acknowledged one by one.
    OneByOne,
    /// In batches of 64.
    Batches,
    /// A bounded tokio channel.
    Channel,
}

pub(crate) fn work(messages: u64, way: Way) -> Duration {
    let flavour = Flavour::CurrentThread;
    match way {
        Way::Listener => listeners::bytes(flavour, messages),
        Way::ListenerBuilt => listeners::bytes_built(flavour, messages),
        Way::ListenerJson => listeners::json(flavour, messages),
        Way::Build => listeners::build_only(messages),
        Way::OneByOne => one_by_one::ours(flavour, 1, messages),
        Way::Batches => batches::ours(flavour, 1, messages),
        Way::Channel => channels::tokio(flavour, 1, messages),
    }
}
