//! The suite as a test program: every case by its name, filters, `--list`, and the report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use parking_lot::Mutex;

use crate::run::{Ending, Flavour, Record, Running, run_case};
use crate::{Case, Harness, Power, Report, all_cases, child, pins};

/// The suite for one harness.
///
/// Options of its own, before those of every test program: `--report FILE` writes the report as JSON, `--runtime NAME` chooses
/// `multi-thread`, `current-thread` or `virtual-time`, `--seed N` perturbs schedules from that seed (0 takes a fresh one),
/// `--limit SECONDS` is how long a case may take, `--capabilities` prints what is to be pinned.
#[derive(Clone)]
pub struct Suite {
    harness: Arc<dyn Harness>,
    runs: Vec<Running>,
    ignored: Option<&'static [(&'static str, &'static str)]>,
    at_once: Option<usize>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suite").field("runs", &self.runs).finish_non_exhaustive()
    }
}

/// What the command line says besides the options of every test program.
#[derive(Debug, Default)]
struct Options {
    report: Option<PathBuf>,
    flavour: Option<Flavour>,
    seed: Option<u64>,
    limit: Option<Duration>,
    capabilities: bool,
    rest: Vec<String>,
}

/// Powers for which a harness has a server that only one case can have at a time.
const TAKES_TURNS: [Power; 3] = [Power::LeaderLoss, Power::Restart, Power::Kill];

impl Suite {
    /// The suite on a multi-thread runtime.
    #[must_use]
    pub fn new(harness: impl Harness) -> Self {
        Self { harness: Arc::new(harness), runs: vec![Running::default()], ignored: None, at_once: None }
    }

    /// Runs every case once in each of these ways.
    #[must_use]
    pub fn with_runs(mut self, runs: impl IntoIterator<Item = Running>) -> Self {
        self.runs = runs.into_iter().collect();
        self
    }

    /// Pins which cases are ignored here, each with why: one more, or one less, is a failure.
    #[must_use]
    pub fn with_ignored(mut self, ignored: &'static [(&'static str, &'static str)]) -> Self {
        self.ignored = Some(ignored);
        self
    }

    /// Runs so many cases side by side, unless the command line says otherwise; as many as there are processors by default.
    /// Cases on a real broker mostly wait for it, so more than that are done sooner.
    #[must_use]
    pub fn with_cases_at_once(mut self, at_once: usize) -> Self {
        self.at_once = Some(at_once);
        self
    }

    /// Runs the suite as the command line says.
    #[must_use]
    pub fn main(self) -> ExitCode {
        if let Some(code) = child::run_if_asked(&self.harness) {
            return code;
        }
        match Options::parse(std::env::args().skip(1)) {
            Ok(options) => self.run(options),
            Err(error) => {
                complain(&error);
                ExitCode::from(2)
            }
        }
    }

    fn run(mut self, options: Options) -> ExitCode {
        if options.capabilities {
            return print_capabilities(&self.harness);
        }
        if let Some(flavour) = options.flavour {
            self.runs.truncate(1);
            self.runs.iter_mut().for_each(|run| run.flavour = flavour);
        }
        for run in &mut self.runs {
            run.seed = match options.seed.or(run.seed) {
                Some(0) => Some(fresh_seed()),
                other => other,
            };
            run.limit = options.limit.unwrap_or(run.limit);
        }
        let program = std::env::args().next().unwrap_or_default();
        let mut arguments = Arguments::from_iter(std::iter::once(program).chain(options.rest));
        arguments.test_threads = arguments.test_threads.or(self.at_once);
        let records = Arc::new(Mutex::new(Vec::new()));
        let trials = self.trials(&records);
        let conclusion = libtest_mimic::run(&arguments, trials);
        let mut records = std::mem::take(&mut *records.lock());
        records.sort_by(|one, other| (&one.runtime, &one.case).cmp(&(&other.runtime, &other.case)));
        if !arguments.list {
            summarize(&records);
        }
        if let Some(file) = options.report
            && let Err(error) = self.report(records).and_then(|report| report.write(&file))
        {
            complain(&format!("the report cannot be written to {}: {error}", file.display()));
            return ExitCode::from(2);
        }
        conclusion.exit_code()
    }

    fn trials(&self, records: &Arc<Mutex<Vec<Record>>>) -> Vec<Trial> {
        let mut trials = Vec::new();
        // Those that take turns on a server of their own begin first: with them the run would end late.
        let takes_turns = |case: &Case| case.powers.iter().any(|power| TAKES_TURNS.contains(power));
        let (first, then): (Vec<_>, Vec<_>) = all_cases().partition(|case| takes_turns(case));
        for running in &self.runs {
            for case in first.iter().chain(&then).copied() {
                let (harness, running, records) = (Arc::clone(&self.harness), *running, Arc::clone(records));
                let ignored = self.ignored.filter(|_| self.harness.absent().is_none());
                let name = self.trial_name(case, running);
                trials.push(Trial::ignorable_test(name, move || {
                    let record = run_case(&harness, case, running);
                    let completion = completion(case, &record, running).and_then(|completion| {
                        check_ignored(case, &record, ignored)?;
                        Ok(completion)
                    });
                    records.lock().push(record);
                    completion
                }));
            }
        }
        trials
    }

    /// The case's name, and the runtime where there are several.
    fn trial_name(&self, case: &Case, running: Running) -> String {
        if self.runs.len() == 1 { case.name.to_owned() } else { format!("{}/{}", case.name, running.flavour.name()) }
    }

    fn report(&self, records: Vec<Record>) -> Result<Report, String> {
        let answers = pins::blocking_answers(&self.harness)?;
        Ok(Report::new(&self.harness.about(), answers, records))
    }
}

fn completion(case: &Case, record: &Record, running: Running) -> Result<Completion, Failed> {
    match &record.ending {
        Ending::Proved => Ok(Completion::Completed),
        Ending::Refused(_) => Ok(Completion::Completed),
        Ending::Ignored(reason) => Ok(Completion::ignored_with(reason)),
        Ending::Failed(text) => {
            let seed = running.seed.map(|seed| format!("\nrepeat with --seed {seed}")).unwrap_or_default();
            Err(Failed::from(format!("{}: {text}\nthe promise: {}{seed}", case.name, case.promise)))
        }
    }
}

/// Passes if a case is ignored exactly where that is pinned.
fn check_ignored(case: &Case, record: &Record, pinned: Option<&[(&str, &str)]>) -> Result<(), Failed> {
    let Some(pinned) = pinned else { return Ok(()) };
    let is_pinned = pinned.iter().any(|(name, _)| *name == case.name);
    match &record.ending {
        Ending::Ignored(reason) if !is_pinned => {
            Err(format!("{} is ignored, and not pinned as such: {reason}", case.name).into())
        }
        Ending::Proved | Ending::Refused(_) if is_pinned => {
            Err(format!("{} runs, and is pinned as ignored: take it off the list", case.name).into())
        }
        _ => Ok(()),
    }
}

#[allow(clippy::print_stdout, reason = "this is a test program's output")]
fn summarize(records: &[Record]) {
    let count = |matches: fn(&Ending) -> bool| records.iter().filter(|record| matches(&record.ending)).count();
    println!(
        "conformance: {} proved, {} refused as undeclared, {} ignored, {} failed; {} operations",
        count(|ending| matches!(ending, Ending::Proved)),
        count(|ending| matches!(ending, Ending::Refused(_))),
        count(|ending| matches!(ending, Ending::Ignored(_))),
        count(|ending| matches!(ending, Ending::Failed(_))),
        records.iter().map(|record| record.operations).sum::<u64>(),
    );
    for record in records {
        if let Ending::Ignored(reason) = &record.ending {
            println!("  ignored {} ({}): {reason}", record.case, record.runtime);
        }
    }
}

#[allow(clippy::print_stdout, reason = "this is what was asked for")]
fn print_capabilities(harness: &Arc<dyn Harness>) -> ExitCode {
    match pins::blocking_answers(harness) {
        Ok(answers) => {
            print!("{}", pins::render(&answers));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "this is a test program's complaint")]
fn complain(text: &str) {
    eprintln!("conformance: {text}");
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos().into()
}

impl Options {
    fn parse(given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut given = given;
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--report" => options.report = Some(value()?.into()),
                "--runtime" => {
                    let name = value()?;
                    let known = "multi-thread, current-thread, virtual-time";
                    options.flavour = Some(
                        Flavour::from_name(&name).ok_or_else(|| format!("runtime {name:?} is not one of {known}"))?,
                    );
                }
                "--seed" => options.seed = Some(number(&argument, &value()?)?),
                "--limit" => options.limit = Some(Duration::from_secs(number(&argument, &value()?)?)),
                "--capabilities" => options.capabilities = true,
                _ => options.rest.push(argument),
            }
        }
        Ok(options)
    }
}

fn number(option: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{option} needs a number, got {text:?}"))
}

/// Makes the `main` of an adapter's conformance test.
///
/// ```ignore
/// messaging_conformance::conformance!(MyHarness::new());
/// ```
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::Suite::new($harness).main()
        }
    };
    ($harness:expr, runs: $runs:expr, ignored: $ignored:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::Suite::new($harness).with_runs($runs).with_ignored($ignored).main()
        }
    };
}
