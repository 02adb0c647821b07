//! rdkafka as well as we can use it, with the configuration that ours uses.
//!
//! *Equal* keeps the guarantees that ours keeps: an idempotent producer with `acks=all` and a look at every message's delivery
//! report; a consumer on a thread of its own that hands over whole messages, in batches, to a task, learns from it what is
//! acknowledged, in any order, and stores the lowest contiguous offset. *Floor* moves the same bytes and keeps nothing.

mod consumer;
mod producer;
mod topics;
mod window;

use rdkafka::ClientConfig;

pub(super) use self::consumer::{POLL_BATCH, Reader, consume, floor, listen};
pub(super) use self::producer::Sender;
pub(super) use self::topics::Topics;

/// Settings that all clients share.
fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("socket.nagle.disable", "true");
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
    config.set("allow.auto.create.topics", "false").set("topic.metadata.propagation.max.ms", "1000");
    config
}
