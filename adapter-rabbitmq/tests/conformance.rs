//! The conformance suite on a real RabbitMQ, with quorum queues.

use std::process::ExitCode;

use integration_tests::Kind;
use integration_tests::suite::{Foreign, RealBroker};
use messaging_conformance::RawMessage;

fn main() -> ExitCode {
    RealBroker::new(Kind::RabbitMq, adapter_rabbitmq::DRIVER)
        .option("quorum")
        .authority("ca_file")
        .pinned(include_str!("conformance/quorum.txt"))
        .unpack(unpack)
        .main(IGNORED)
}

/// What cannot be tried here. A change of this list is a diff.
const IGNORED: &[(&str, &str)] = &[("D6_unreadable_is_dead_lettered", "every message of this broker can be read")];

/// As `docs/wire-format.md` says: what begins with `messaging-` is not the application's.
fn unpack(message: Foreign) -> RawMessage {
    let mut raw = Foreign::plain(message);
    raw.headers.retain(|(name, _)| !name.starts_with("messaging-"));
    raw
}
