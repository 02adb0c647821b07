//! What the user sees. Pictures go to standard output, progress to standard error and only on a terminal.
#![allow(clippy::print_stdout, reason = "printing is what this file is for")]

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The widest bar of a chart.
const BAR: usize = 32;

pub(crate) fn title(number: usize, name: &str, what: &str) {
    println!("\n{number}. {name}\n   {what}\n");
}

pub(crate) fn line(text: &str) {
    println!("   {text}");
}

pub(crate) fn note(text: &str) {
    println!("   ! {text}");
}

/// A bar for each row, as long as its share of the largest.
pub(crate) fn bars<'a>(rows: impl IntoIterator<Item = (&'a str, u64, String)>) {
    let rows: Vec<_> = rows.into_iter().collect();
    let largest = rows.iter().map(|(_, value, _)| *value).max().unwrap_or(0).max(1);
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, value, note) in rows {
        let length = usize::try_from(value * BAR as u64 / largest).unwrap_or(BAR);
        println!("   {name:width$}  {:<BAR$}  {value:>6}  {note}", "█".repeat(length));
    }
}

/// An amount of cents as dollars.
pub(crate) fn dollars(cents: i64) -> String {
    let whole = (cents / 100).to_string();
    let grouped: Vec<&str> =
        whole.as_bytes().rchunks(3).rev().map(|digits| std::str::from_utf8(digits).unwrap_or("?")).collect();
    format!("${}.{:02}", grouped.join(","), cents % 100)
}

/// A count with its unit, in the plural where it has to be.
pub(crate) fn count(number: u64, unit: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// A progress bar on a terminal; nothing elsewhere.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn of(messages: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(messages as u64), ProgressDrawTarget::stderr());
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("   {bar:32} {pos}/{len} published") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    pub(crate) fn published(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
