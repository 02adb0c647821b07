//! The ledger: where every received delivery ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one listener, or of all together.
///
/// `received = acked + retried + released + dead_lettered + discarded + expired + stale + in_flight` at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Deliveries that came from the broker.
    pub received: u64,
    /// Done.
    pub acked: u64,
    /// To be delivered again, counted as an attempt: failed, dropped, or given back at the deadline of a shutdown.
    pub retried: u64,
    /// Given back unstarted.
    pub released: u64,
    /// Moved to the dead letter.
    pub dead_lettered: u64,
    /// Given up and acknowledged, because the listener says `dead_letter = "discard"`.
    pub discarded: u64,
    /// Outlived their time to live after they had been received. Brokers keep expired messages back themselves, so
    /// that this is 0 on all there are now.
    pub expired: u64,
    /// Settled too late: they were another's by then, or the broker went away with the settlement.
    pub stale: u64,
    /// Received and not settled yet, or settled and not confirmed by the broker yet.
    pub in_flight: u64,
    /// How often messages were lost to an ephemeral subscription.
    pub gaps: u64,
    /// How many messages were lost so, as far as it is known.
    pub missed: u64,
    /// Errors that handlers and layers returned.
    pub handler_errors: u64,
    /// Panics of handlers.
    pub panics: u64,
    /// Handlers cancelled at their timeout.
    pub timeouts: u64,
    /// Messages that an extractor could not read.
    pub undecodable: u64,
    /// Messages that could not be moved to the dead letter; each is retried.
    pub dead_letter_failures: u64,
}

impl Tally {
    /// Number of settled deliveries, all ways of settling together.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.acked + self.retried + self.released + self.dead_lettered + self.discarded + self.expired + self.stale
    }

    /// True if every received delivery is accounted for once; false only if one was counted twice.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.received == self.settled() + self.in_flight
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self {
            received,
            acked,
            retried,
            released,
            dead_lettered,
            discarded,
            expired,
            stale,
            in_flight,
            gaps,
            missed,
            handler_errors,
            panics,
            timeouts,
            undecodable,
            dead_letter_failures,
        } = other;
        self.received += received;
        self.acked += acked;
        self.retried += retried;
        self.released += released;
        self.dead_lettered += dead_lettered;
        self.discarded += discarded;
        self.expired += expired;
        self.stale += stale;
        self.in_flight += in_flight;
        self.gaps += gaps;
        self.missed += missed;
        self.handler_errors += handler_errors;
        self.panics += panics;
        self.timeouts += timeouts;
        self.undecodable += undecodable;
        self.dead_letter_failures += dead_letter_failures;
    }
}

/// Where every received delivery of an application ended, by listener.
///
/// It can be read at any time, while all listeners run. Settlements are read before receipts, and each delivery is counted
/// as received before it is counted as settled: what is read as settled has been read as received, and `in_flight` is
/// the difference. Printing it gives an aligned table.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ledger {
    listeners: Vec<(String, Tally)>,
}

impl Ledger {
    pub(crate) fn new(listeners: Vec<(String, Tally)>) -> Self {
        Self { listeners }
    }

    /// Each listener's id and counts, in the order in which they were mounted.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.listeners.iter().map(|(id, tally)| (id.as_str(), tally))
    }

    /// The counts of one listener.
    #[must_use]
    pub fn listener(&self, id: &str) -> Option<&Tally> {
        self.listeners().find(|(known, _)| *known == id).map(|(_, tally)| tally)
    }

    /// All listeners together.
    #[must_use]
    pub fn total(&self) -> Tally {
        self.listeners.iter().fold(Tally::default(), |mut sum, (_, tally)| {
            sum += *tally;
            sum
        })
    }

    /// True if every received delivery of every listener is accounted for once.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.listeners.iter().all(|(_, tally)| tally.balanced())
    }
}

/// A column of the table.
struct Column {
    name: &'static str,
    count: fn(&Tally) -> u64,
    /// True if it is shown even where all counts are 0.
    always: bool,
}

const fn column(name: &'static str, count: fn(&Tally) -> u64, always: bool) -> Column {
    Column { name, count, always }
}

const LEDGER_COLUMNS: [Column; 12] = [
    column("received", |tally| tally.received, true),
    column("acked", |tally| tally.acked, true),
    column("retried", |tally| tally.retried, true),
    column("released", |tally| tally.released, true),
    column("dead-lettered", |tally| tally.dead_lettered, true),
    column("discarded", |tally| tally.discarded, false),
    column("expired", |tally| tally.expired, false),
    column("stale", |tally| tally.stale, false),
    column("in flight", |tally| tally.in_flight, true),
    column("missed", |tally| tally.missed, false),
    column("undecodable", |tally| tally.undecodable, false),
    column("dead letter failures", |tally| tally.dead_letter_failures, false),
];

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let columns: Vec<_> = LEDGER_COLUMNS.iter().filter(|one| one.always || (one.count)(&total) > 0).collect();
        let widest = self.listeners().map(|(id, _)| id.chars().count()).chain([8]).max().unwrap_or(8);
        write!(f, "{:widest$}", "listener")?;
        for column in &columns {
            write!(f, "  {}", column.name)?;
        }
        for (id, tally) in self.listeners().chain([("total", &total)]) {
            write!(f, "\n{id:widest$}")?;
            for column in &columns {
                write!(f, "  {:>width$}", (column.count)(tally), width = column.name.len())?;
            }
        }
        write!(f, "\n{}", if self.balanced() { "balanced" } else { "NOT balanced: a delivery was counted twice" })
    }
}

/// The counters of one worker, alone on their cache lines: workers count without waiting for one another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) received: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) handler_errors: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) undecodable: AtomicU64,
    pub(crate) dead_letter_failures: AtomicU64,
}

/// Counts something that happened. `Release`, so that a reader of this count also reads the receipt before it.
#[inline]
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Release);
}

impl Counters {
    fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let mut tally = Tally {
            acked: read(&self.acked),
            retried: read(&self.retried),
            released: read(&self.released),
            dead_lettered: read(&self.dead_lettered),
            discarded: read(&self.discarded),
            stale: read(&self.stale),
            gaps: read(&self.gaps),
            missed: read(&self.missed),
            handler_errors: read(&self.handler_errors),
            panics: read(&self.panics),
            timeouts: read(&self.timeouts),
            undecodable: read(&self.undecodable),
            dead_letter_failures: read(&self.dead_letter_failures),
            ..Tally::default()
        };
        // Last, see the docs of `Ledger`.
        tally.received = read(&self.received);
        tally.in_flight = tally.received.saturating_sub(tally.settled());
        tally
    }
}

/// The counters of one listener: one set for each worker, and a last one for what happens outside of them.
#[derive(Clone, Debug)]
pub(crate) struct ListenerCounters(Arc<[Arc<Counters>]>);

impl ListenerCounters {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..=workers).map(|_| Arc::default()).collect())
    }

    pub(crate) fn worker(&self, index: usize) -> &Arc<Counters> {
        &self.0[index]
    }

    pub(crate) fn outside(&self) -> &Counters {
        // There is always one more than workers.
        &self.0[self.0.len() - 1]
    }

    pub(crate) fn tally(&self) -> Tally {
        // A worker's set balances by itself; the last set has what a shutdown moved out of flight.
        let mut sum = Tally::default();
        for counters in self.0.iter() {
            sum += counters.tally();
        }
        sum.in_flight = sum.received.saturating_sub(sum.settled());
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_shows_what_happened() {
        let counters = ListenerCounters::new(1);
        count(&counters.worker(0).received, 12_000);
        count(&counters.worker(0).acked, 11_998);
        count(&counters.worker(0).discarded, 1);
        let ledger = Ledger::new(vec![("orders".to_owned(), counters.tally())]);
        assert!(ledger.balanced());
        assert_eq!(ledger.total().in_flight, 1);
        assert_eq!(
            ledger.to_string(),
            "listener  received  acked  retried  released  dead-lettered  discarded  in flight\n\
             orders       12000  11998        0         0              0          1          1\n\
             total        12000  11998        0         0              0          1          1\n\
             balanced"
        );
    }

    #[test]
    fn counting_twice_does_not_balance() {
        let counters = ListenerCounters::new(1);
        count(&counters.worker(0).received, 1);
        count(&counters.worker(0).acked, 1);
        count(&counters.outside().retried, 1);
        assert!(!counters.tally().balanced());
    }

    #[test]
    fn a_ledger_balances_while_workers_count() {
        let counters = ListenerCounters::new(2);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let counters = &counters;
                scope.spawn(move || {
                    for _ in 0..50_000 {
                        count(&counters.worker(worker).received, 1);
                        count(&counters.worker(worker).acked, 1);
                    }
                });
            }
            for _ in 0..1_000 {
                let tally = counters.tally();
                assert!(tally.balanced() && tally.in_flight <= 100_000, "{tally:?}");
            }
        });
        assert_eq!(counters.tally().in_flight, 0);
    }
}
