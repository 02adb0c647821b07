//! Which way each broker came, and how soon it was ready.
//!
//! A run that took another way than its reader thinks proves something else, so test programs end with [`report`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Kind, Way};

/// Limit that `install.sh` promises on a machine that has everything: [`Kind::MAIN_KINDS`] is ready within this, one after the other.
const PROMISED_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) kind: Kind,
    pub(crate) way: Way,
    pub(crate) nodes: usize,
    pub(crate) took: Duration,
}

static STARTS: Mutex<Vec<Start>> = Mutex::new(Vec::new());

/// Notes that a broker is ready, with a message gone through it.
pub(crate) fn record(start: Start) {
    lock().push(start);
}

/// A line for each broker that this process obtained: the way, how often, and the time until a message had gone through; then
/// the time of [`Kind::MAIN_KINDS`] together, if all of them are there. Empty if there were none.
pub fn report() -> String {
    lines(&lock())
}

fn lock() -> MutexGuard<'static, Vec<Start>> {
    STARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lines(starts: &[Start]) -> String {
    let mut groups: Vec<(Kind, String, usize)> =
        starts.iter().map(|start| (start.kind, start.way.to_string(), start.nodes)).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut text = String::new();
    for (kind, way, nodes) in groups {
        let same = |start: &&Start| start.kind == kind && start.way.to_string() == way && start.nodes == nodes;
        let mut times: Vec<_> = starts.iter().filter(same).map(|start| start.took).collect();
        times.sort_unstable();
        let many = if nodes > 1 { format!(", {nodes} nodes") } else { String::new() };
        let name = format!("{kind}{many}");
        text += &format!("broker {name:18} {way:12} ready after {}\n", spread(&times));
    }
    if let Some(together) = together(starts) {
        let (sum, promised) = (together.as_secs_f32(), PROMISED_LIMIT.as_secs());
        text += &format!("brokers of all adapters, one after the other: {sum:.1} s (promised: {promised} s)\n");
    }
    text
}

/// The first starts of the main kinds added up, unless one is lacking.
fn together(starts: &[Start]) -> Option<Duration> {
    let first = |kind| starts.iter().find(|start| start.kind == kind && start.nodes == 1).map(|start| start.took);
    Kind::MAIN_KINDS.into_iter().map(first).sum()
}

/// The times of sorted starts in words.
fn spread(times: &[Duration]) -> String {
    match times {
        [] => "no start".to_owned(),
        [only] => format!("{:.1} s", only.as_secs_f32()),
        [least, .., most] => {
            format!("{:.1} to {:.1} s, {} starts", least.as_secs_f32(), most.as_secs_f32(), times.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(kind: Kind, way: Way, nodes: usize, millis: u64) -> Start {
        Start { kind, way, nodes, took: Duration::from_millis(millis) }
    }

    /// Ways and clusters are told apart, and what is lacking is not added up.
    #[test]
    fn a_report_has_a_line_for_each_way_of_each_broker() {
        let starts = [
            start(Kind::Redis, Way::Native, 1, 300),
            start(Kind::Redis, Way::Container, 1, 900),
            start(Kind::Redis, Way::Native, 1, 500),
            start(Kind::Redis, Way::Native, 6, 4000),
        ];

        let text = lines(&starts);

        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0].join(" "), "broker redis container ready after 0.9 s");
        assert_eq!(lines[1].join(" "), "broker redis native ready after 0.3 to 0.5 s, 2 starts");
        assert_eq!(lines[2].join(" "), "broker redis, 6 nodes native ready after 4.0 s");
    }

    /// Together means all of them, each with its first start and without the clusters.
    #[test]
    fn the_main_ones_are_added_up_once_all_are_there() {
        let mut starts: Vec<_> = Kind::MAIN_KINDS.iter().map(|kind| start(*kind, Way::Native, 1, 2000)).collect();
        assert!(lines(&starts[1..]).lines().all(|line| !line.starts_with("brokers of all")));

        starts.push(start(Kind::Kafka, Way::Native, 1, 9000));
        starts.push(start(Kind::Kafka, Way::Native, 3, 9000));

        assert!(lines(&starts).contains("one after the other: 10.0 s"), "{}", lines(&starts));
    }
}
