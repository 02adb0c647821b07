//! Tests of the adapter on a real RabbitMQ, beyond what the conformance suite asks of every broker.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed, and says why")]

mod cancel;
mod delays;
mod logins;
mod support;
mod topology;
mod wire;

use std::process::ExitCode;

use integration_tests::runner;

fn main() -> ExitCode {
    let cases = [cancel::cases(), delays::cases(), logins::cases(), topology::cases(), wire::cases()];
    runner::main(cases.into_iter().flatten().collect())
}
