//! Runner of the test programs that need brokers.
//!
//! libtest counts a case as passed that could not run, and knows no time limit. Here a case that lacks its broker is shown as
//! ignored with the reason (as failed with `MESSAGING_REQUIRE_BROKERS=1`), each case has a limit, and the last lines report the
//! way by which each broker was obtained.
//!
//! ```no_run
//! use integration_tests::{cases, runner};
//!
//! async fn a_message_comes_back() -> runner::Verdict {
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     runner::main(cases![a_message_comes_back])
//! }
//! ```
//!
//! A program that is started again as a [child](crate::child) plays its role instead: see [`main_or_role`].

use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::child::Role;
use crate::report;

/// Result of a case, and of the functions it is made of.
pub type Verdict<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Time limit of a case that names none. No case takes a third of it; one that hangs must not hang the run.
pub const CASE_LIMIT: Duration = Duration::from_secs(150);
/// Time that tasks and blocking calls of a case have to end after it.
const RUNTIME_END_LIMIT: Duration = Duration::from_secs(10);

/// Held shared by every case, and exclusively by a case that runs alone.
static TOGETHER: RwLock<()> = RwLock::new(());

/// A case, run on a runtime of its own within a time limit.
type Body = Box<dyn FnOnce(&Runtime, Duration) -> Verdict + Send>;

/// A named case with its limit.
pub struct Case {
    name: String,
    kind: String,
    limit: Duration,
    is_alone: bool,
    body: Body,
}

impl fmt::Debug for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Case").field("name", &self.name).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Case {
    /// A case under [`CASE_LIMIT`]. It runs on a runtime of its own with two threads.
    pub fn new<F: Future<Output = Verdict>>(
        name: impl Into<String>,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        let body = move |runtime: &Runtime, limit: Duration| {
            let limited = runtime.block_on(async { timeout(limit, body()).await });
            limited.unwrap_or_else(|_| Err(format!("not finished within {limit:?}").into()))
        };
        Self { name: name.into(), kind: String::new(), limit: CASE_LIMIT, is_alone: false, body: Box::new(body) }
    }

    /// Another limit than [`CASE_LIMIT`], for a case that is made of many runs.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Runs while no other case of the program does: for a case that counts threads or processes.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    /// A word shown in brackets before the name, such as the way by which the broker is obtained.
    #[must_use]
    pub fn of_kind(self, kind: impl fmt::Display) -> Self {
        Self { kind: kind.to_string(), ..self }
    }

    fn run(self) -> Verdict {
        let (_shared, _exclusive);
        if self.is_alone {
            _exclusive = TOGETHER.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _shared = TOGETHER.read().unwrap_or_else(PoisonError::into_inner);
        }
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let verdict = (self.body)(&runtime, self.limit);
        runtime.shutdown_timeout(RUNTIME_END_LIMIT);
        verdict
    }

    fn into_trial(self) -> Trial {
        let (name, kind) = (self.name.clone(), self.kind.clone());
        Trial::ignorable_test(name, move || completion(self.run())).with_kind(kind)
    }
}

/// Cases named by their functions, with the module in front: `cases![settling::a_key_waits, closing::all_is_drained]`.
#[macro_export]
macro_rules! cases {
    ($($function:path),* $(,)?) => {
        vec![$($crate::runner::Case::new($crate::runner::name(module_path!(), stringify!($function)), $function)),*]
    };
}

/// Name of a case: the path of its function without the program's name.
pub fn name(module: &str, function: &str) -> String {
    let function = function.replace(' ', "");
    match module.split_once("::") {
        Some((_, module)) => format!("{module}::{function}"),
        None => function,
    }
}

/// Runs the cases as the command line says, and reports the brokers they ran on.
#[must_use]
pub fn main(cases: Vec<Case>) -> ExitCode {
    main_or_role(cases, async |role| Err(format!("this program has no role {role:?}").into()))
}

/// Plays the role in which this program was started; without one, runs the cases.
#[must_use]
pub fn main_or_role(cases: Vec<Case>, play: impl AsyncFnOnce(Role) -> Verdict) -> ExitCode {
    match Role::current() {
        Ok(None) => run(&Arguments::from_args(), cases),
        Ok(Some(role)) => match block_on(play(role)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        Err(error) => fail(&error.to_string()),
    }
}

/// Runs the cases with these arguments instead of those of the command line.
#[must_use]
pub fn run(arguments: &Arguments, cases: Vec<Case>) -> ExitCode {
    let conclusion = libtest_mimic::run(arguments, cases.into_iter().map(Case::into_trial).collect());
    print(&report());
    conclusion.exit_code()
}

/// Runs a future on a runtime of its own with one thread.
///
/// # Errors
/// If the runtime cannot be started, or as the future says.
pub fn block_on(future: impl Future<Output = Verdict>) -> Verdict {
    Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Result of a case as libtest-mimic knows it.
fn completion(verdict: Verdict) -> Result<Completion, Failed> {
    let Err(error) = verdict else { return Ok(Completion::Completed) };
    match error.downcast_ref::<crate::Error>() {
        Some(missing) if missing.may_be_ignored() => Ok(Completion::ignored_with(missing)),
        _ => Err(Failed::from(error.to_string())),
    }
}

fn fail(text: &str) -> ExitCode {
    print(&format!("{text}\n"));
    ExitCode::FAILURE
}

#[allow(clippy::print_stderr, reason = "output of a test program")]
fn print(text: &str) {
    eprint!("{text}");
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn passes() -> Verdict {
        Ok(())
    }

    #[test]
    fn a_case_is_named_by_its_function() {
        let cases = cases![passes];

        assert_eq!(cases[0].name, "runner::tests::passes");
        assert_eq!(name("program", "settling :: a_key"), "settling::a_key");
    }

    /// A case that hangs fails, though a blocking call of it never ends.
    #[test]
    fn a_case_that_hangs_fails_at_its_limit() {
        let case = Case::new("hangs", || async {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(300)));
            pending().await
        });

        let error = case.within(Duration::from_millis(50)).run().unwrap_err();

        assert!(error.to_string().contains("not finished within 50ms"), "{error}");
    }

    #[test]
    fn a_case_that_runs_alone_waits_for_the_others() {
        let running = Arc::new(AtomicUsize::new(0));
        let case = |count: &Arc<AtomicUsize>| {
            let count = Arc::clone(count);
            Case::new("counts", move || async move {
                let others = count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                count.fetch_sub(1, Ordering::SeqCst);
                if others == 0 { Ok(()) } else { Err("others run".into()) }
            })
        };

        let threads: Vec<_> =
            (0..3).map(|_| case(&running).alone()).map(|case| std::thread::spawn(|| case.run())).collect();

        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    }

    /// A missing broker is no failure, unless brokers are required; any other error is one.
    #[test]
    fn only_a_missing_broker_lets_a_case_be_ignored() {
        assert!(completion(Ok(())).is_ok_and(|done| matches!(done, Completion::Completed)));
        assert!(completion(Err("a fault".into())).is_err());
        if !crate::brokers_are_required() {
            let missing = completion(Err(crate::Error::missing("no broker here").into()));
            assert!(missing.is_ok_and(|done| matches!(done, Completion::Ignored { .. })));
        }
    }
}
