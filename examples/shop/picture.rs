//! Output for the user. Pictures go to standard output, progress to standard error and only on a terminal.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The widest bar of a chart.
const BAR_WIDTH: usize = 32;

/// Exit code that shells report of a program whose reader went away, as with `| head`.
const READER_GONE: i32 = 141;

/// Prints a line without the blanks at its end. Where nobody reads any longer, there is nothing left to do.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let text = text.to_string();
    match writeln!(io::stdout().lock(), "{}", text.trim_end()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
        Err(error) => {
            // Standard error may be gone too.
            let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
            std::process::exit(1);
        }
    }
}

pub(crate) fn title(number: usize, name: &str, what: &str) {
    say(format_args!("\n{number}. {name}\n   {what}"));
    say(format_args!(""));
}

pub(crate) fn line(text: &str) {
    say(format_args!("   {text}"));
}

pub(crate) fn note(text: &str) {
    say(format_args!("   ! {text}"));
}

/// A bar for each row, as long as its share of the largest.
pub(crate) fn bars<'a>(rows: impl IntoIterator<Item = (&'a str, u64, String)>) {
    let rows: Vec<_> = rows.into_iter().collect();
    let largest = rows.iter().map(|(_, value, _)| *value).max().unwrap_or(0).max(1);
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, value, note) in rows {
        let length = usize::try_from(value * BAR_WIDTH as u64 / largest).unwrap_or(BAR_WIDTH);
        say(format_args!("   {name:width$}  {:<BAR_WIDTH$}  {value:>6}  {note}", "█".repeat(length)));
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
