//! The ratios as a picture: a bar a comparison, its interval, and its goal.

use std::fmt::Write;

use crate::report::{Comparison, Latencies, Report};
use crate::stats::Estimate;

const PLOT_WIDTH: f64 = 460.0;
const ROW_HEIGHT: f64 = 24.0;
/// How wide a letter is, about.
const LETTER_WIDTH: f64 = 6.3;

/// A bar and what stands beside it.
struct Bar {
    label: String,
    ratio: Estimate,
    goal: Option<f64>,
}

impl Bar {
    fn of_comparison(row: &Comparison) -> Self {
        let Comparison { name, setting, flavour, reference, ratio, goal, .. } = row;
        let label = format!("{name} {setting}, {}, beside {reference}", flavour.name());
        Self { label, ratio: *ratio, goal: *goal }
    }

    fn of_latencies(row: &Latencies) -> Self {
        let label = format!("latency {}: our p99 for the raw client's (less is better)", row.setting);
        Self { label, ratio: row.ratio, goal: Some(row.goal) }
    }
}

/// Draws all comparisons.
pub(crate) fn svg(report: &Report) -> String {
    let bars: Vec<Bar> = report
        .comparisons
        .iter()
        .map(Bar::of_comparison)
        .chain(report.latencies.iter().map(Bar::of_latencies))
        .collect();
    let left = 16.0 + LETTER_WIDTH * bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0) as f64;
    let most = bars.iter().map(|bar| bar.ratio.high.max(bar.goal.unwrap_or(0.0))).fold(1.0, f64::max);
    let scale = PLOT_WIDTH / most;
    let height = ROW_HEIGHT * (bars.len() as f64 + 2.5);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\" font-weight=\"bold\">{}: messages for each of the reference, median and 95 % interval; a line marks the goal</text>\n",
        (left + PLOT_WIDTH + 60.0).max(700.0),
        report.broker
    );
    for (index, bar) in bars.iter().enumerate() {
        draw(&mut out, bar, left, ROW_HEIGHT * (index as f64 + 1.5), scale);
    }
    let one = left + scale;
    let _ = writeln!(
        out,
        "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"30\" y2=\"{:.1}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>\n</svg>",
        height - ROW_HEIGHT
    );
    out
}

fn draw(out: &mut String, bar: &Bar, left: f64, top: f64, scale: f64) {
    let Bar { label, ratio, goal } = bar;
    let middle = top + 8.0;
    let [low, median, high] = [ratio.low, ratio.median, ratio.high].map(|value| value * scale);
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{:.1}\">{label}</text>\n\
         <rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{median:.1}\" height=\"16\" fill=\"#4a7fb5\"/>\n\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#123\" stroke-width=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
        top + 12.0,
        left + low,
        left + high,
        left + high + 6.0,
        top + 12.0,
        ratio.median,
    );
    if let Some(goal) = goal {
        let at = left + goal * scale;
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c33\" stroke-width=\"2\"/>",
            top - 2.0,
            top + 18.0
        );
    }
}
