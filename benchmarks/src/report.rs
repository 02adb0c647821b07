//! What was measured, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::Options;
use crate::flavour::Flavour;
use crate::stats::Estimate;

/// A whole run.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) broker: &'static str,
    pub(crate) environment: Environment,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) amounts: Vec<Amount>,
}

/// Where and how it was measured.
#[derive(Serialize)]
pub(crate) struct Environment {
    machine: String,
    load: String,
    versions: String,
    rounds: usize,
    seconds: f64,
    settings: Vec<&'static str>,
}

/// Ours beside one reference.
#[derive(Serialize)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) setting: String,
    pub(crate) flavour: Flavour,
    pub(crate) reference: &'static str,
    /// Messages of ours for each of the reference, in the same time.
    pub(crate) ratio: Estimate,
    pub(crate) ours_nanos: f64,
    pub(crate) reference_nanos: f64,
    pub(crate) goal: Option<f64>,
}

/// A count that needs no comparison.
#[derive(Serialize)]
pub(crate) struct Amount {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// At most so much.
    pub(crate) goal: Option<f64>,
}

impl Environment {
    pub(crate) fn of(options: &Options, settings: &[&'static str]) -> Self {
        Self {
            machine: machine(),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            versions: format!(
                "benchmarks {}, {}, {}",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
            rounds: options.pairs,
            seconds: options.seconds,
            settings: settings.to_vec(),
        }
    }
}

fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {threads} threads", processor.unwrap_or_else(|| "an unknown processor".to_owned()))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.environment)?;
        if !self.comparisons.is_empty() {
            writeln!(
                f,
                "{:<11} {:<7} {:<9}  {:>9}  {:<10} {:>9}  {:>6}  {:<13} goal",
                "what", "", "runtime", "ours", "beside", "", "ratio", "95 %"
            )?;
        }
        for comparison in &self.comparisons {
            writeln!(f, "{comparison}")?;
        }
        for amount in &self.amounts {
            writeln!(f, "{amount}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.machine, self.versions)?;
        writeln!(f, "load at the end {}; {} rounds of {} s a turn", self.load, self.rounds, self.seconds)?;
        for setting in &self.settings {
            writeln!(f, "- {setting}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, setting, flavour, reference, ratio, ours_nanos, reference_nanos, goal } = self;
        let interval = format!("{:.2} to {:.2}", ratio.low, ratio.high);
        write!(
            f,
            "{name:<11} {setting:<7} {:<9}  {ours_nanos:>6.0} ns  {reference:<10} {reference_nanos:>6.0} ns  {:>6.2}  {interval:<13}",
            flavour.name(),
            ratio.median,
        )?;
        match goal {
            Some(goal) => write!(f, " {goal} {}", verdict(ratio.meets(*goal))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, value, goal } = self;
        write!(f, "{what:<40} {value:>8.2} {unit}")?;
        match goal {
            Some(goal) => write!(f, ", at most {goal} {}", verdict(value <= goal)),
            None => Ok(()),
        }
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "not met" }
}
