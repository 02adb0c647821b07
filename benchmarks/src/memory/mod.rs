//! The memory broker beside bounded channels that carry the same message.

pub(crate) mod batches;
pub(crate) mod channels;
pub(crate) mod fan_out;
pub(crate) mod listeners;
pub(crate) mod load;
pub(crate) mod one_by_one;
mod waiting;

use crate::Options;
use crate::allocations;
use crate::compare::Case;
use crate::flavour::Flavour;
use crate::report::{Amount, Environment, Report};

/// How many messages may wait, in ours and in the channels.
pub(crate) const WAITING_LIMIT: usize = 1_024;

/// How many go together where batches are measured.
pub(crate) const PUBLISH_BATCH: usize = 64;

pub(crate) fn measure(options: &Options) -> Report {
    let mut comparisons = Vec::new();
    for case in cases().iter().filter(|case| options.wants(case.name)) {
        comparisons.extend(case.measure(options));
    }
    let mut amounts = Vec::new();
    if options.wants("allocations") {
        amounts.extend(allocations_per_message());
    }
    if options.wants("waiting") {
        amounts.extend(waiting::measure(if options.quick { 10_000 } else { 1_000_000 }));
    }
    let environment = Environment::of(options, &[], PRINTED_SETTINGS.map(str::to_owned).to_vec());
    Report { broker: "memory", environment, comparisons, latencies: Vec::new(), amounts }
}

const PRINTED_SETTINGS: [&str; 7] = [
    "256 B payload, 2 headers; each message a clone of one that was built before, but for the Json listener and what waits, where each is built anew",
    "through Arc<dyn Publisher> and Consumer, with the core's checks; channel capacity and queue capacity 1,024, prefetch 1,024",
    "one by one: publish, receive and ack awaited for each message; batches: 64 at a time",
    "publishing counts; ours acknowledges, channels do not; flume has many consumers, tokio's mpsc is shared behind tokio's mutex",
    "listeners: 1 producer, 1 worker; beside a bounded tokio channel whose receiver does the handler's work itself",
    "fan-out: publishing alone, 1,000 messages one by one before any subscription reads; consuming them is not timed",
    "ratio: how many messages ours moves while the reference moves one",
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for flavour in Flavour::ALL_FLAVOURS {
        for crowd in [1, 4] {
            cases.push(one_by_one::case(flavour, crowd));
            cases.push(batches::case(flavour, crowd));
        }
        cases.extend(listeners::cases(flavour));
    }
    cases.extend(fan_out::cases());
    cases
}

fn allocations_per_message() -> Vec<Amount> {
    let flavour = Flavour::CurrentThread;
    let amount = |what: &str, goal, value| Amount { what: what.to_owned(), unit: "allocations a message", value, goal };
    vec![
        amount("one by one", None, allocations::per_message(|n| one_by_one::ours(flavour, 1, n))),
        amount("in batches of 64", None, allocations::per_message(|n| batches::ours(flavour, 1, n))),
        amount("tokio channel", None, allocations::per_message(|n| channels::tokio(flavour, 1, n))),
        amount(
            "to a Bytes listener, publish to settled",
            Some(4.0),
            allocations::per_message(|n| listeners::bytes(flavour, n)),
        ),
        amount(
            "to a Bytes listener, built anew",
            Some(4.0),
            allocations::per_message(|n| listeners::bytes_built(flavour, n)),
        ),
        amount(
            "to a Json listener, encoded and decoded",
            None,
            allocations::per_message(|n| listeners::json(flavour, n)),
        ),
        amount("building that message alone", None, allocations::per_message(listeners::build_only)),
    ]
}
