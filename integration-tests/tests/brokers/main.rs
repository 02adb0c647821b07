//! Tests of this crate itself: every fault on every broker with its effect seen by the raw client, the proxy, child processes, the
//! command, the harness of the conformance suite, and that nothing is left behind.
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
mod certificates;
mod clusters;
mod command;
mod containers;
mod doors;
mod faults;
mod leftovers;
mod notifications;
mod processes;
mod proxy;
mod site;
mod suite;

use std::env;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use integration_tests::child::Role;
use integration_tests::runner::{self, Case, Verdict};
use integration_tests::{Kind, Way};
use libtest_mimic::Arguments;
use site::Site;

type Body = fn(&Site) -> Pin<Box<dyn Future<Output = Verdict> + Send + '_>>;

/// A case for each kind of broker for which the fault means something.
struct Row {
    name: &'static str,
    kinds: &'static [Kind],
    case: Body,
}

macro_rules! row {
    ($module:ident :: $case:ident, $kinds:expr) => {
        Row { name: stringify!($case), kinds: $kinds, case: |site| Box::pin($module::$case(site)) }
    };
}

const ALL: &[Kind] = &Kind::ALL_KINDS;
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
        _ => runner::main_or_role(cases(), play),
    }
}

/// Roles in which this program starts itself again.
async fn play(role: Role) -> Verdict {
    match role.name() {
        containers::ABANDONED => containers::abandoned(role).await,
        processes::PUBLISHER | processes::CONSUMER => processes::play(role).await,
        command::ASKS => command::ask_for_the_broker_of_the_environment(role).await,
        _ => leftovers::play(role).await,
    }
}

/// Cases of faults on containers: one for each kind of broker, or with `MESSAGING_CONTAINERS=full` all of them.
fn inside_a_host(role: &Role) -> ExitCode {
    let arguments = Arguments { test_threads: Some(3), ..Arguments::default() };
    if let Err(error) = runner::block_on(containers::start(role)) {
        return runner::run(&arguments, vec![Case::new("containers::engine", || async { Err(error) })]);
    }
    let is_full = env::var("MESSAGING_CONTAINERS").is_ok_and(|value| value == "full");
    let rows = ROWS.iter().filter(|row| row.kinds.len() == ALL.len());
    let rows = rows.take(if is_full { ROWS.len() } else { 1 });
    let mut cases: Vec<_> = rows.flat_map(|row| containers::KINDS.iter().map(|kind| on_site(*kind, row))).collect();
    let killed = Case::new("killed_run_leaves_no_container", containers::killed_run_leaves_no_container);
    cases.push(killed.of_kind(Way::Container));
    runner::run(&arguments, cases)
}

fn cases() -> Vec<Case> {
    let sites = ROWS.iter().flat_map(|row| row.kinds.iter().map(|kind| on_site(*kind, row)));
    let clusters = CLUSTERS.iter().flat_map(|kind| {
        let kind = *kind;
        let moved = Case::new(format!("{kind}::leader_moved"), move || clusters::leader_moved(kind));
        let behind = Case::new(format!("{kind}::cluster_behind_proxies"), move || clusters::behind_proxies(kind));
        [moved, behind].map(|case| case.of_kind(Way::Native))
    });
    let apart = [
        certificates::cases(),
        command::cases(),
        leftovers::cases(),
        processes::cases(),
        proxy::cases(),
        suite::cases(),
        vec![containers::case()],
    ];
    sites.chain(clusters).chain(apart.into_iter().flatten()).collect()
}

/// A case that names the way by which its broker is obtained.
fn on_site(kind: Kind, row: &'static Row) -> Case {
    let body = move || async move {
        let site = Site::of(kind).await?;
        (row.case)(&site).await.map_err(|error| site.explain(error))
    };
    Case::new(format!("{kind}::{}", row.name), body).of_kind(site::way())
}
