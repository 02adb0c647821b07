//! Ours and its references in turns.

use std::time::Duration;

use crate::Options;
use crate::flavour::Flavour;
use crate::report::{Comparison, Processor};
use crate::stats::{Estimate, median};

/// Moves so many messages and says how long it took.
pub(crate) type Turn = Box<dyn Fn(u64) -> Duration>;

/// Something to measure, and what it is measured against.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) setting: String,
    pub(crate) flavour: Flavour,
    /// How many messages the warm-up begins with: fewer than fill a turn.
    pub(crate) begin: u64,
    pub(crate) ours: Turn,
    /// References with the ratio that ours is to reach, where there is a goal.
    pub(crate) references: Vec<(&'static str, Option<f64>, Turn)>,
}

impl Case {
    pub(crate) fn measure(&self, options: &Options) -> Vec<Comparison> {
        eprintln!("{} {} on {}", self.name, self.setting, self.flavour.name());
        let turns: Vec<&Turn> =
            std::iter::once(&self.ours).chain(self.references.iter().map(|(_, _, turn)| turn)).collect();
        // Finding out how many messages a turn moves is the warm-up too.
        let messages: Vec<u64> = turns.iter().map(|turn| fitting(turn, self.begin, options.seconds)).collect();
        let mut nanos: Vec<Vec<f64>> = vec![Vec::new(); turns.len()];
        let mut processor = nanos.clone();
        processor_time();
        for round in 0..options.pairs {
            // Nobody always goes first.
            let mut order: Vec<usize> = (0..turns.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let took = turns[index](messages[index]);
                nanos[index].push(took.as_secs_f64() * 1e9 / messages[index] as f64);
                processor[index].extend(processor_time().map(|nanos| nanos as f64 / messages[index] as f64));
            }
        }
        let compare = |(index, (reference, goal, _)): (usize, &(&'static str, Option<f64>, Turn))| {
            let theirs = &nanos[index + 1];
            let ratios: Vec<f64> = nanos[0].iter().zip(theirs).map(|(ours, theirs)| theirs / ours).collect();
            let both = (&processor[0], &processor[index + 1]);
            let processor = (!both.0.is_empty() && !both.1.is_empty())
                .then(|| Processor { ours_nanos: median(both.0), reference_nanos: median(both.1) });
            Comparison {
                name: self.name,
                setting: self.setting.clone(),
                flavour: self.flavour,
                reference,
                ratio: Estimate::of(&ratios),
                ours_nanos: median(&nanos[0]),
                reference_nanos: median(theirs),
                processor,
                goal: *goal,
            }
        };
        self.references.iter().enumerate().map(compare).collect()
    }
}

/// How many messages fill the time of a turn.
fn fitting(turn: &Turn, begin: u64, seconds: f64) -> u64 {
    let mut messages = begin;
    loop {
        let took = turn(messages).as_secs_f64();
        if took >= seconds / 4.0 {
            return ((messages as f64 * seconds / took) as u64).max(begin / 2);
        }
        messages *= 4;
    }
}

/// Processor time of the last turn, where turns measure that.
fn processor_time() -> Option<u64> {
    #[cfg(any(test, feature = "rabbitmq", feature = "kafka"))]
    return crate::stopwatch::last_processor_time();
    #[cfg(not(any(test, feature = "rabbitmq", feature = "kafka")))]
    None
}
