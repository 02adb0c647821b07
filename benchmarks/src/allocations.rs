//! Allocations per message, counted by the crate `allocation-counter` on one thread.

use std::hint::black_box;
use std::time::Duration;

/// Cost of one message, as the difference between a long and a short run, so that setting up does not count.
pub(crate) fn per_message(run: impl Fn(u64) -> Duration) -> f64 {
    let count = |messages| {
        let counted = allocation_counter::measure(|| {
            black_box(run(messages));
        });
        counted.count_total as f64
    };
    let (short, long) = (4_000, 12_000);
    // The first run lets buffers grow to their size.
    count(short);
    (count(long) - count(short)) / (long - short) as f64
}

/// The bytes that are still allocated afterwards, and what the action returned.
pub(crate) fn kept<T>(act: impl FnOnce() -> T) -> (i64, T) {
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(act()));
    (counted.bytes_current, result.unwrap())
}
