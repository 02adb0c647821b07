//! Makes `docs/capabilities.md` of conformance reports, or checks that it is up to date.
//!
//! `capability-matrix docs/capabilities.md REPORT…` writes the page; with `--check` before it, it fails if the page differs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use messaging_conformance::{Report, matrix};

#[allow(clippy::print_stderr, reason = "a command-line tool's complaint")]
fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capability-matrix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: Vec<String>) -> Result<(), String> {
    let is_check = arguments.first().is_some_and(|first| first == "--check");
    if is_check {
        arguments.remove(0);
    }
    let [page, reports @ ..] = arguments.as_slice() else {
        return Err("name the page and the reports: [--check] docs/capabilities.md REPORT…".to_owned());
    };
    let mut files: Vec<PathBuf> = reports.iter().map(PathBuf::from).collect();
    files.sort();
    let reports = files.iter().map(|file| Report::read(file)).collect::<Result<Vec<_>, _>>()?;
    if reports.is_empty() {
        return Err("no reports: run a conformance test with --report FILE first".to_owned());
    }
    let made = matrix::page(&reports);
    let page = Path::new(page);
    if !is_check {
        return std::fs::write(page, made).map_err(|error| format!("{}: {error}", page.display()));
    }
    let committed = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    if committed == made {
        return Ok(());
    }
    let first = committed.lines().zip(made.lines()).find(|(committed, made)| committed != made);
    let shown = first.map_or_else(String::new, |(committed, made)| format!("\n- {committed}\n+ {made}"));
    Err(format!(
        "{} differs from what the runs produced: make it again and look at the difference{shown}",
        page.display()
    ))
}
