//! The ratios as a picture: a bar a comparison, its interval, and its goal.

use std::fmt::Write;

use crate::report::{Comparison, Report};

const LEFT: f64 = 300.0;
const WIDTH: f64 = 460.0;
const ROW: f64 = 24.0;

/// Draws all comparisons.
pub(crate) fn svg(report: &Report) -> String {
    let rows = &report.comparisons;
    let most = rows.iter().map(|row| row.ratio.high.max(row.goal.unwrap_or(0.0))).fold(1.0, f64::max);
    let scale = WIDTH / most;
    let height = ROW * (rows.len() as f64 + 2.5);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\" font-weight=\"bold\">{}: messages for each of the reference, median and 95 % interval; a line marks the goal</text>\n",
        LEFT + WIDTH + 60.0,
        report.broker
    );
    for (index, row) in rows.iter().enumerate() {
        draw(&mut out, row, ROW * (index as f64 + 1.5), scale);
    }
    let one = LEFT + scale;
    let _ = writeln!(
        out,
        "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"30\" y2=\"{:.1}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>\n</svg>",
        height - ROW
    );
    out
}

fn draw(out: &mut String, row: &Comparison, top: f64, scale: f64) {
    let Comparison { name, setting, flavour, reference, ratio, goal, .. } = row;
    let middle = top + 8.0;
    let [low, median, high] = [ratio.low, ratio.median, ratio.high].map(|value| value * scale);
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{:.1}\">{name} {setting}, {}, beside {reference}</text>\n\
         <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{median:.1}\" height=\"16\" fill=\"#4a7fb5\"/>\n\
         <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#123\" stroke-width=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
        top + 12.0,
        flavour.name(),
        LEFT + low,
        LEFT + high,
        LEFT + high + 6.0,
        top + 12.0,
        ratio.median,
    );
    if let Some(goal) = goal {
        let at = LEFT + goal * scale;
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c33\" stroke-width=\"2\"/>",
            top - 2.0,
            top + 18.0
        );
    }
}
