//! Measurements, as a table and as JSON.

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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) latencies: Vec<Latencies>,
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
    settings: Vec<String>,
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
    /// Where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) processor: Option<Processor>,
    pub(crate) goal: Option<f64>,
}

/// Processor time of a message, in this process.
#[derive(Serialize)]
pub(crate) struct Processor {
    pub(crate) ours_nanos: f64,
    pub(crate) reference_nanos: f64,
}

/// How long messages take from the publish call to the handler's start, ours beside the raw client's.
#[derive(Serialize)]
pub(crate) struct Latencies {
    pub(crate) setting: String,
    pub(crate) ours: Quantiles,
    pub(crate) reference: Quantiles,
    /// The p99 of ours for that of the reference, round by round: below 1 ours is quicker.
    pub(crate) ratio: Estimate,
    /// At most so much.
    pub(crate) goal: f64,
}

/// Of all rounds together, in microseconds.
#[derive(Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// A count that needs no comparison.
#[derive(Serialize)]
pub(crate) struct Amount {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// At most so much.
    pub(crate) goal: Option<f64>,
}

impl Environment {
    /// `versions` are those of the client and the broker, if there are any.
    pub(crate) fn of(options: &Options, versions: &[String], settings: Vec<String>) -> Self {
        let mut all = vec![concat!("benchmarks ", env!("CARGO_PKG_VERSION")).to_owned()];
        all.extend_from_slice(versions);
        all.extend([std::env::consts::OS.to_owned(), std::env::consts::ARCH.to_owned()]);
        Self {
            machine: machine(),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            versions: all.join(", "),
            rounds: options.pairs,
            seconds: options.seconds,
            settings,
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
        aligned(f, self.comparisons.iter().map(Comparison::cells), COMPARISON)?;
        aligned(f, self.latencies.iter().map(Latencies::cells), LATENCY_COLUMNS)?;
        for amount in &self.amounts {
            writeln!(f, "{amount}")?;
        }
        Ok(())
    }
}

const COMPARISON: [&str; 11] =
    ["what", "", "runtime", ">ours", "beside", ">", ">ratio", "95 %", ">cpu", ">beside", "goal"];
const LATENCY_COLUMNS: [&str; 10] =
    ["latency", ">p50", ">p99", ">p99.9", ">raw p50", ">p99", ">p99.9", ">p99 ratio", "95 %", "goal"];

/// Writes rows in columns as wide as they have to be; a head that begins with `>` has its column aligned to the right.
fn aligned<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: impl Iterator<Item = [String; N]>,
    heads: [&str; N],
) -> fmt::Result {
    let mut lines: Vec<[String; N]> = rows.collect();
    if lines.is_empty() {
        return Ok(());
    }
    // A column without any value is left out, and its head with it.
    let is_used = |column: usize| lines.iter().any(|line| !line[column].is_empty());
    let used: [bool; N] = std::array::from_fn(is_used);
    lines.insert(0, heads.map(|head| head.trim_start_matches('>').to_owned()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for line in &lines {
        let mut text = String::new();
        for (((cell, width), head), used) in line.iter().zip(widths).zip(heads).zip(used) {
            if !used {
                continue;
            }
            if head.starts_with('>') {
                text.push_str(&format!("{cell:>width$}  "));
            } else {
                text.push_str(&format!("{cell:<width$}  "));
            }
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
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

impl Comparison {
    fn cells(&self) -> [String; 11] {
        let Self { name, setting, flavour, reference, ratio, ours_nanos, reference_nanos, processor, goal } = self;
        let processor = |part: fn(&Processor) -> f64| processor.as_ref().map(part).map(duration).unwrap_or_default();
        [
            (*name).to_owned(),
            setting.clone(),
            flavour.name().to_owned(),
            duration(*ours_nanos),
            (*reference).to_owned(),
            duration(*reference_nanos),
            format!("{:.2}", ratio.median),
            format!("{:.2} to {:.2}", ratio.low, ratio.high),
            processor(|both| both.ours_nanos),
            processor(|both| both.reference_nanos),
            goal.map(|goal| format!("{goal} {}", verdict(ratio.meets(goal)))).unwrap_or_default(),
        ]
    }
}

impl Latencies {
    fn cells(&self) -> [String; 10] {
        let Self { setting, ours, reference, ratio, goal } = self;
        let micros = |value: f64| duration(value * 1e3);
        [
            setting.clone(),
            micros(ours.p50),
            micros(ours.p99),
            micros(ours.p999),
            micros(reference.p50),
            micros(reference.p99),
            micros(reference.p999),
            format!("{:.2}", ratio.median),
            format!("{:.2} to {:.2}", ratio.low, ratio.high),
            format!("at most {goal} {}", verdict(ratio.stays_within(*goal))),
        ]
    }
}

/// With as many digits as mean something.
fn duration(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 10_000.0 => format!("{nanos:.0} ns"),
        nanos if nanos < 10_000_000.0 => format!("{:.1} µs", nanos / 1e3),
        nanos => format!("{:.1} ms", nanos / 1e6),
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
