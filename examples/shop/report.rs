//! The counts of a run, as printed with `--json`.

use std::collections::BTreeMap;

use messaging::Tally;
use serde::Serialize;

/// Everything that was counted.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) broker: String,
    pub(crate) interrupted: bool,
    pub(crate) orders: Orders,
    pub(crate) groups: Topic,
    pub(crate) weather: Topic,
    pub(crate) stocks: Topic,
    pub(crate) ledger: LedgerReport,
}

/// The queue of orders.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Orders {
    pub(crate) published: u64,
    /// Distinct orders.
    pub(crate) handled: u64,
    pub(crate) duplicates: u64,
    pub(crate) by_server: BTreeMap<String, u64>,
    /// Over the distinct orders, to two decimals.
    pub(crate) total_usd: f64,
    pub(crate) order_violations: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) redriven: u64,
    pub(crate) bad_lines: u64,
}

/// A topic: what was published, and what each subscription received.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Topic {
    pub(crate) published: u64,
    pub(crate) received: BTreeMap<String, u64>,
}

/// Where every delivery ended.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LedgerReport {
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// The sum holds, and every confirmed message is accounted for.
    pub(crate) balanced: bool,
}

/// Missing and surplus messages of a scene, in words; empty when all is well.
pub(crate) type Faults = Vec<String>;

/// Notes a fault unless the two are the same.
pub(crate) fn expect(faults: &mut Faults, what: &str, is: u64, should_be: u64) {
    if is != should_be {
        faults.push(format!("{what}: {is}, and it should be {should_be}"));
    }
}
