//! The conformance suite on a real RabbitMQ, with classic queues.

use std::process::ExitCode;

use integration_tests::Kind;
use integration_tests::suite::{Foreign, RealBroker};
use messaging_conformance::{Power, RawMessage};

fn main() -> ExitCode {
    RealBroker::new(Kind::RabbitMq, adapter_rabbitmq::DRIVER)
        .option("classic")
        .setting("type", "classic")
        .authority("ca_file")
        // A classic queue is on one node, and goes with it.
        .without(Power::LeaderLoss)
        .pinned(include_str!("conformance/classic.txt"))
        .unpack(unpack)
        .main(IGNORED)
}

/// What cannot be tried here. A change of this list is a diff.
const IGNORED: &[(&str, &str)] = &[
    ("D6_unreadable_is_dead_lettered", "every message of this broker can be read"),
    ("X7_leader_lost", "a classic queue is on one node, and goes with it"),
];

/// As `docs/wire-format.md` says: what begins with `messaging-` is not the application's.
fn unpack(message: Foreign) -> RawMessage {
    let mut raw = Foreign::plain(message);
    raw.headers.retain(|(name, _)| !name.starts_with("messaging-"));
    raw
}
