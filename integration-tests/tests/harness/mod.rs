//! The `main` of the test programs that need brokers.
//!
//! libtest counts a case as passed that could not run, and a child's role as a case. Here a case that lacks its broker is
//! shown as ignored with the reason (a failure with `MESSAGING_REQUIRE_BROKERS=1`), a program in a role runs no cases, and the
//! last lines say which way each broker came and how soon it was ready.

use std::{error::Error, future::Future, process::ExitCode, time::Duration};

use integration_tests::{child::Role, report};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// No case of a program whose cases are many takes a third of this; one that hangs must not hang the run.
const LIMIT: Duration = Duration::from_secs(150);

pub(crate) type Verdict = Result<(), Box<dyn Error + Send + Sync>>;

/// Plays the role this program was started in; without one, runs the cases.
pub(crate) fn main<P: Future<Output = Verdict>>(
    cases: impl FnOnce() -> Vec<Trial>,
    play: impl FnOnce(Role) -> P,
) -> ExitCode {
    match Role::current() {
        Ok(None) => run(&Arguments::from_args(), cases()),
        Ok(Some(role)) => match block_on(play(role)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string()),
        },
        Err(error) => complain(&error.to_string()),
    }
}

#[allow(clippy::print_stderr, reason = "what a test program has to say")]
fn complain(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// Runs the cases, then says which brokers they ran on.
#[allow(clippy::print_stderr, reason = "what a test program has to say")]
pub(crate) fn run(arguments: &Arguments, cases: Vec<Trial>) -> ExitCode {
    let conclusion = libtest_mimic::run(arguments, cases);
    eprint!("{}", report());
    conclusion.exit_code()
}

/// A case with the usual limit.
pub(crate) fn case<F: Future<Output = Verdict>>(
    name: impl Into<String>,
    body: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    unlimited(name, || async {
        let late = |_| format!("still at it after {LIMIT:?}").into();
        tokio::time::timeout(LIMIT, body()).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    })
}

/// A case that has its own limits.
pub(crate) fn unlimited<F: Future<Output = Verdict>>(
    name: impl Into<String>,
    body: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, || completion(block_on(async { body().await })))
}

/// What came of a case, as the runner understands it.
pub(crate) fn completion(verdict: Verdict) -> Result<Completion, Failed> {
    let Err(error) = verdict else { return Ok(Completion::Completed) };
    match error.downcast_ref::<integration_tests::Error>() {
        Some(missing) if missing.may_be_ignored() => Ok(Completion::ignored_with(missing)),
        _ => Err(Failed::from(error.to_string())),
    }
}

pub(crate) fn block_on(future: impl Future<Output = Verdict>) -> Verdict {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
