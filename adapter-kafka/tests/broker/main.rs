//! Tests of the adapter on a real Kafka, beyond what the conformance suite asks of every broker.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed, and says why")]

mod admin;
mod faults;
mod logins;
mod members;
mod recovery;
mod support;
mod wire;

use std::process::ExitCode;

use integration_tests::runner;

fn main() -> ExitCode {
    let cases = [admin::cases(), faults::cases(), logins::cases(), members::cases(), recovery::cases(), wire::cases()];
    runner::main(cases.into_iter().flatten().collect())
}
