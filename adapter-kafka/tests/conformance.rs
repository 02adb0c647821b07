//! The conformance suite on a real Kafka: one node, and three where a leader is lost.

use std::process::ExitCode;

use integration_tests::Kind;
use integration_tests::suite::{Foreign, RealBroker};
use messaging_conformance::RawMessage;

/// Three copies where there are three nodes.
const COPIES: u64 = 3;

/// What cannot be tried, each with why. A change of this list is a diff.
const IGNORED: &[(&str, &str)] =
    &[("D6_unreadable_is_dead_lettered", "every record can be read: see docs/wire-format.md, foreign records")];

fn main() -> ExitCode {
    RealBroker::new(Kind::Kafka, adapter_kafka::DRIVER)
        .cluster_setting("replication", COPIES)
        .authority("ca_file")
        .pinned(include_str!("conformance/capabilities.txt"))
        .unpack(unpack)
        .main(IGNORED)
}

/// As `docs/wire-format.md` says: the application's headers are Kafka's, beside those of the adapter's own.
fn unpack(message: Foreign) -> RawMessage {
    let mut raw = message.plain();
    raw.headers.retain(|(name, _)| !name.starts_with("ce_") && !name.starts_with("messaging-"));
    raw
}
