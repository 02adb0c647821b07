//! Every fault on every broker, its effect seen by the raw client.
//!
//! One server of each kind is started for all cases that may break it; they take turns, and each leaves it whole. Run with
//! `MESSAGING_REQUIRE_BROKERS=1`, a server that this machine lacks is a failure; else its cases are ignored, and doctor says why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says why"
)]

mod clusters;
mod containers;
mod doors;
mod faults;
mod notifications;
mod site;

use std::{future::Future, pin::Pin, process::ExitCode, time::Duration};

use integration_tests::{Kind, available, brokers_are_required, child::Role};
use libtest_mimic::{Arguments, Failed, Trial};
use site::Site;

/// No case takes a third of this; one that hangs must not hang the run.
const LIMIT: Duration = Duration::from_secs(150);

type Verdict = Result<(), Box<dyn std::error::Error + Send + Sync>>;
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
];

const CLUSTERS: &[Kind] = &[Kind::RabbitMq, Kind::Kafka, Kind::Redis];

fn main() -> ExitCode {
    match Role::current() {
        Ok(Some(role)) => run_in_role(&role),
        Ok(None) => run_all(),
        Err(error) => panic!("{error}"),
    }
}

/// The fault cases once more, on containers.
fn run_in_role(role: &Role) -> ExitCode {
    let engine = run(containers::start(role));
    if let Err(failed) = engine {
        let trial = Trial::test("containers::engine", || Err(failed));
        return libtest_mimic::run(&Arguments::default(), vec![trial]).exit_code();
    }
    let rows = ROWS.iter().filter(|row| row.kinds.len() == ALL.len());
    let cases = rows.flat_map(|row| containers::KINDS.iter().map(|kind| trial(*kind, row)));
    let arguments = Arguments { test_threads: Some(3), ..Arguments::default() };
    libtest_mimic::run(&arguments, cases.collect()).exit_code()
}

fn run_all() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Servers share two cores with what they are tested against: more at once only makes each slower.
    arguments.test_threads = arguments.test_threads.or(Some(3));
    let cases = ROWS.iter().flat_map(|row| row.kinds.iter().map(|kind| trial(*kind, row)));
    let clusters = CLUSTERS.iter().map(|kind| {
        let kind = *kind;
        gated(kind, "leader_moved", move || run(clusters::leader_moved(kind)))
    });
    let containers = std::iter::once(containers::trial());
    libtest_mimic::run(&arguments, cases.chain(clusters).chain(containers).collect()).exit_code()
}

fn trial(kind: Kind, row: &'static Row) -> Trial {
    gated(kind, row.name, move || {
        run(async move {
            let site = Site::of(kind).await?;
            (row.case)(&site).await.map_err(|error| site.explain(error))
        })
    })
}

/// A trial that is ignored, visibly, where the server is missing and need not be there.
fn gated(kind: Kind, name: &str, body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let missing = available(kind).err().filter(|_| !brokers_are_required());
    let reason = missing.as_ref().map(|error| format!(" (ignored: {error})")).unwrap_or_default();
    Trial::test(format!("{kind}::{name}{reason}"), body).with_ignored_flag(missing.is_some())
}

fn run(case: impl Future<Output = Verdict>) -> Result<(), Failed> {
    let late = |_| format!("still at it after {LIMIT:?}").into();
    unlimited(async { tokio::time::timeout(LIMIT, case).await.unwrap_or_else(|elapsed| Err(late(elapsed))) })
}

/// For what has its own limit.
fn unlimited(case: impl Future<Output = Verdict>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(case).map_err(|error| Failed::from(error.to_string()))
}
