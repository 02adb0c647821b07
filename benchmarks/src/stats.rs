//! Medians, and how sure they are.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// How often the rounds are drawn anew for the interval.
const BOOTSTRAP_DRAWS: usize = 10_000;

/// A median and its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    pub(crate) fn of(values: &[f64]) -> Self {
        // The same rounds give the same interval.
        let mut random = SmallRng::seed_from_u64(1);
        let mut draw = || {
            let drawn: Vec<f64> = values.iter().map(|_| values[random.random_range(0..values.len())]).collect();
            median(&drawn)
        };
        let mut medians: Vec<f64> = (0..BOOTSTRAP_DRAWS).map(|_| draw()).collect();
        medians.sort_by(f64::total_cmp);
        Self {
            median: median(values),
            low: medians[BOOTSTRAP_DRAWS / 40],
            high: medians[BOOTSTRAP_DRAWS - 1 - BOOTSTRAP_DRAWS / 40],
        }
    }

    /// True if the median meets a goal and the lower end of the interval is within 0.03 below.
    pub(crate) fn meets(&self, goal: f64) -> bool {
        self.median >= goal && self.low >= goal - 0.03
    }

    /// The same where less is better.
    pub(crate) fn stays_within(&self, goal: f64) -> bool {
        self.median <= goal && self.high <= goal + 0.03
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_is_narrow_where_rounds_agree() {
        let same = Estimate::of(&[0.5; 10]);
        assert_eq!((same.low, same.median, same.high), (0.5, 0.5, 0.5));
        let spread = Estimate::of(&[0.4, 0.5, 0.6, 0.45, 0.55]);
        assert!(spread.low < spread.median && spread.median < spread.high);
        assert_eq!((spread.meets(0.5), spread.stays_within(0.5)), (spread.low >= 0.47, spread.high <= 0.53));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
