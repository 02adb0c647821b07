//! Every fault on every broker, its effect seen by the raw client.
//!
//! One server of each kind is started for all cases that may break it; they take turns, and each leaves it whole. Run with
//! `MESSAGING_REQUIRE_BROKERS=1`, a server that this machine lacks is a failure; else its cases are ignored with the reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says why"
)]

mod administration;
mod clusters;
mod containers;
mod doors;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod notifications;
mod site;

use std::{future::Future, pin::Pin, process::ExitCode};

use harness::{Verdict, block_on, case};
use integration_tests::{Kind, Way, child::Role};
use libtest_mimic::{Arguments, Trial};
use site::Site;

type Case = fn(&Site) -> Pin<Box<dyn Future<Output = Verdict> + Send + '_>>;

/// A case for each kind of broker for which the fault means something.
struct Row {
    name: &'static str,
    kinds: &'static [Kind],
    case: Case,
}

macro_rules! row {
    ($module:ident :: $case:ident, $kinds:expr) => {
        Row { name: stringify!($case), kinds: $kinds, case: |site| Box::pin($module::$case(site)) }
    };
}

const ALL: &[Kind] = &Kind::ALL;
/// Those that know users.
const LOGINS: &[Kind] = &[Kind::RabbitMq, Kind::Kafka, Kind::Redis, Kind::Valkey, Kind::ActiveMq];
/// Those with an encrypted door.
const TLS: &[Kind] = &[Kind::RabbitMq, Kind::Kafka, Kind::Redis, Kind::Valkey, Kind::Sqs, Kind::ActiveMq];

const ROWS: &[Row] = &[
    // Those for all kinds need nothing but the trait, and run on containers too.
    row!(faults::answers, ALL),
    row!(faults::killed_and_started_again, ALL),
    row!(faults::restarted, ALL),
    row!(faults::paused, ALL),
    row!(faults::cut, ALL),
    row!(faults::black_holed, ALL),
    row!(faults::answers_lost, ALL),
    row!(faults::delayed, ALL),
    row!(faults::throttled, ALL),
    row!(faults::refused, ALL),
    row!(doors::encrypted, TLS),
    row!(doors::wrong_certificates, TLS),
    row!(doors::logins, LOGINS),
    row!(notifications::topic_reaches_queues, &[Kind::Sqs]),
    row!(administration::command_line, &[Kind::RabbitMq, Kind::Kafka]),
    row!(administration::connections_closed, &[Kind::RabbitMq]),
];

const CLUSTERS: &[Kind] = &[Kind::RabbitMq, Kind::Kafka, Kind::Redis, Kind::Valkey];

fn main() -> ExitCode {
    match Role::current() {
        Ok(Some(role)) if role.name() == containers::HOST => inside_a_host(&role),
        _ => harness::main(cases, containers::abandoned),
    }
}

/// The fault cases once more, on containers.
fn inside_a_host(role: &Role) -> ExitCode {
    let arguments = Arguments { test_threads: Some(3), ..Arguments::default() };
    if let Err(error) = block_on(containers::start(role)) {
        return harness::run(&arguments, vec![case("containers::engine", || async { Err(error) })]);
    }
    let rows = ROWS.iter().filter(|row| row.kinds.len() == ALL.len());
    let mut cases: Vec<_> = rows.flat_map(|row| containers::KINDS.iter().map(|kind| on_site(*kind, row))).collect();
    let killed = case("killed_run_leaves_no_container", containers::killed_run_leaves_no_container);
    cases.push(killed.with_kind(Way::Container.to_string()));
    harness::run(&arguments, cases)
}

fn cases() -> Vec<Trial> {
    let sites = ROWS.iter().flat_map(|row| row.kinds.iter().map(|kind| on_site(*kind, row)));
    let clusters = CLUSTERS.iter().flat_map(|kind| {
        let kind = *kind;
        let moved = case(format!("{kind}::leader_moved"), move || clusters::leader_moved(kind));
        let behind = case(format!("{kind}::cluster_behind_proxies"), move || clusters::behind_proxies(kind));
        [moved, behind].map(|case| case.with_kind(Way::Native.to_string()))
    });
    sites.chain(clusters).chain([containers::trial()]).collect()
}

/// A case that names the way its broker comes.
fn on_site(kind: Kind, row: &'static Row) -> Trial {
    let body = move || async move {
        let site = Site::of(kind).await?;
        (row.case)(&site).await.map_err(|error| site.explain(error))
    };
    case(format!("{kind}::{}", row.name), body).with_kind(site::way().to_string())
}
