//! From the publish call to the handler's start, ours and the raw client's in turns.

use hdrhistogram::Histogram;

use super::ours::PER_SECOND;
use crate::Options;
use crate::report::{Latencies, Quantiles};
use crate::stats::Estimate;

/// Moves so many messages at a steady pace; how long each took, in nanoseconds.
pub(crate) type Turn = Box<dyn Fn(u64) -> Vec<u64>>;

/// So many messages at the beginning of a turn do not count.
pub(crate) const WARM_UP: u64 = 40;

pub(crate) struct Case {
    pub(crate) setting: String,
    /// At most so much, as a ratio of the two p99.
    pub(crate) goal: f64,
    pub(crate) ours: Turn,
    pub(crate) reference: Turn,
}

impl Case {
    pub(crate) fn measure(&self, options: &Options) -> Latencies {
        eprintln!("latency {}", self.setting);
        // At this pace a turn has to be longer than others to have a tail.
        let messages = ((options.seconds * 2.0 * PER_SECOND as f64) as u64).max(10);
        let mut all = [histogram(), histogram()];
        let mut ratios = Vec::new();
        for round in 0..options.pairs {
            // Nobody always goes first.
            let mut order = [0, 1];
            if round % 2 == 1 {
                order.reverse();
            }
            let mut p99 = [0.0; 2];
            for index in order {
                let turn = if index == 0 { &self.ours } else { &self.reference };
                let mut one = histogram();
                for nanos in turn(messages) {
                    one.saturating_record(nanos);
                }
                p99[index] = one.value_at_quantile(0.99) as f64;
                all[index].add(one).unwrap();
            }
            ratios.push(p99[0] / p99[1]);
        }
        let [ours, reference] = all.map(|histogram| quantiles(&histogram));
        Latencies { setting: self.setting.clone(), ours, reference, ratio: Estimate::of(&ratios), goal: self.goal }
    }
}

/// From 1 µs to a minute, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap()
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}
