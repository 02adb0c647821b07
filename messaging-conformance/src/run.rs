//! Running one case: on a thread and a runtime of its own, so that one that hangs or panics leaves the others alone.

use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Once, mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::bench::PREPARING;
use crate::tally::Tally;
use crate::verdict::{Stop, Verdict};
use crate::{Bench, Case, Harness};

/// The runtime a case runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Several threads.
    MultiThread,
    /// One thread.
    CurrentThread,
    /// One thread and a clock that jumps to the next deadline when nothing else is to do. For brokers within the process.
    VirtualTime,
}

impl Flavour {
    /// The word on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MultiThread => "multi-thread",
            Self::CurrentThread => "current-thread",
            Self::VirtualTime => "virtual-time",
        }
    }

    /// The flavour of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::MultiThread, Self::CurrentThread, Self::VirtualTime].into_iter().find(|flavour| flavour.name() == name)
    }
}

/// How cases are run.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// On which runtime.
    pub flavour: Flavour,
    /// Whether schedules are perturbed at random, and how that random begins.
    pub seed: Option<u64>,
    /// How long a whole case may take, by the wall clock, before it counts as hanging; 3 minutes by default.
    pub limit: Duration,
}

impl Default for Running {
    fn default() -> Self {
        Self { flavour: Flavour::MultiThread, seed: None, limit: Duration::from_secs(180) }
    }
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "result", content = "reason")]
pub enum Ending {
    /// The promise holds.
    Proved,
    /// The broker does not declare what the case is about, and refuses it; what was refused.
    Refused(String),
    /// It did not run, and why.
    Ignored(String),
    /// The promise is broken, and how.
    Failed(String),
}

/// A case that was run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The case's name.
    pub case: String,
    /// The runtime.
    pub runtime: String,
    /// What became of it.
    #[serde(flatten)]
    pub ending: Ending,
    /// What part of the case's places was refused, although it was proved on others.
    pub refused: Vec<String>,
    /// How many operations it really did.
    pub operations: u64,
    /// How long it took, in milliseconds of the wall clock.
    pub millis: u64,
}

/// Runs one case.
#[must_use]
pub fn run_case(harness: &Arc<dyn Harness>, case: &'static Case, running: Running) -> Record {
    let begun = Instant::now();
    let tally = Tally::default();
    let ending = match why_not(harness, case) {
        Some(ending) => ending,
        None => judge(on_a_thread(harness, case, running, &tally), &tally),
    };
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Record {
        case: case.name.to_owned(),
        runtime: running.flavour.name().to_owned(),
        refused: if matches!(ending, Ending::Proved) { tally.refused() } else { Vec::new() },
        ending,
        operations: tally.operations(),
        millis,
    }
}

/// Why a case does not even begin.
fn why_not(harness: &Arc<dyn Harness>, case: &Case) -> Option<Ending> {
    if let Some(reason) = harness.absent() {
        let required = std::env::var("MESSAGING_REQUIRE_BROKERS").is_ok_and(|value| value == "1");
        return Some(if required {
            Ending::Failed(format!("no broker to test, and MESSAGING_REQUIRE_BROKERS=1: {reason}"))
        } else {
            Ending::Ignored(format!("no broker to test: {reason}"))
        });
    }
    let lacking: Vec<&str> =
        case.powers.iter().filter(|power| !harness.powers().contains(power)).map(|power| power.lacking()).collect();
    (!lacking.is_empty()).then(|| Ending::Ignored(lacking.join("; ")))
}

fn judge(verdict: Verdict, tally: &Tally) -> Ending {
    match verdict {
        Err(Stop::Failed(text)) => Ending::Failed(format!("{text}{}", tally.place())),
        Err(Stop::Ignored(reason)) => Ending::Ignored(reason),
        Ok(()) if tally.operations() == 0 => {
            Ending::Failed("the case passed without a single operation: it proves nothing".to_owned())
        }
        Ok(()) if tally.proved() == 0 && !tally.refused().is_empty() => Ending::Refused(tally.refused().join(", ")),
        Ok(()) => Ending::Proved,
    }
}

fn on_a_thread(harness: &Arc<dyn Harness>, case: &'static Case, running: Running, tally: &Tally) -> Verdict {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    note_panics();
    let label = format!("{}#{}", case.name, NUMBERS.fetch_add(1, Ordering::Relaxed));
    let (done, ended) = mpsc::channel();
    let (harness, tally, thread) = (Arc::clone(harness), tally.clone(), label.clone());
    let spawned = std::thread::Builder::new().name(label.clone()).spawn(move || {
        let begun = || {
            let _ = done.send(Progress::Begun);
        };
        let verdict = on_a_runtime(&harness, case, running, &tally, &thread, &begun);
        // Whoever waited may have given up.
        let _ = done.send(Progress::Ended(verdict));
    });
    if let Err(error) = spawned {
        return Err(Stop::failed(format_args!("no thread for the case: {error}")));
    }
    let verdict = wait_for(&ended, running.limit);
    match (PANICS.lock().remove(&label), verdict) {
        (Some(panics), Ok(())) => Err(Stop::Failed(format!("a task of the adapter panicked: {}", panics.join("; ")))),
        (Some(panics), Err(Stop::Failed(text))) => {
            Err(Stop::Failed(format!("{text}; panicked: {}", panics.join("; "))))
        }
        (_, verdict) => verdict,
    }
}

/// How far a case is.
enum Progress {
    /// The harness is ready for it, and its time runs.
    Begun,
    /// It came to this.
    Ended(Verdict),
}

/// Waits for a case's end, and no longer than its limit, which begins when the harness is ready for it.
fn wait_for(progress: &mpsc::Receiver<Progress>, limit: Duration) -> Verdict {
    let mut step = progress.recv_timeout(PREPARING + limit);
    if matches!(step, Ok(Progress::Begun)) {
        step = progress.recv_timeout(limit);
    }
    match step {
        Ok(Progress::Ended(verdict)) => verdict,
        Ok(Progress::Begun) | Err(mpsc::RecvTimeoutError::Timeout) => Err(Stop::Failed(format!(
            "hangs: it did not end within {limit:?}, and blocks its thread or waits without a limit"
        ))),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Stop::Failed("the case's thread died".to_owned())),
    }
}

fn on_a_runtime(
    harness: &Arc<dyn Harness>,
    case: &'static Case,
    running: Running,
    tally: &Tally,
    label: &str,
    begun: &dyn Fn(),
) -> Verdict {
    let mut builder = match running.flavour {
        Flavour::MultiThread => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        Flavour::CurrentThread | Flavour::VirtualTime => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .thread_name(label)
        .start_paused(running.flavour == Flavour::VirtualTime)
        .build()
        .map_err(|error| Stop::failed(format_args!("no runtime for the case: {error}")))?;
    let trying = AssertUnwindSafe(attempt(harness, case, running, tally, begun)).catch_unwind();
    let verdict = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(trying)))
        .unwrap_or_else(Err)
        .unwrap_or_else(|panic| Err(Stop::Failed(format!("panicked: {}", panic_text(&*panic)))));
    runtime.shutdown_timeout(Duration::from_secs(1));
    verdict
}

async fn attempt(
    harness: &Arc<dyn Harness>,
    case: &'static Case,
    running: Running,
    tally: &Tally,
    begun: &dyn Fn(),
) -> Verdict {
    let stage = Bench::prepare(harness, case).await?;
    begun();
    let at = Bench::begin(Arc::clone(harness), stage, case, running.seed, tally.clone()).await?;
    let verdict = (case.function)(&at).await;
    for _ in 0..8 {
        // Where everything was ready at once, tasks that were started have not had a turn yet: not even to panic.
        tokio::task::yield_now().await;
    }
    let ended = at.end().await;
    verdict?;
    let left_over = ended?;
    if left_over > 0 {
        return Err(Stop::Failed(format!("the case left {left_over} things at the broker that could not be removed")));
    }
    Ok(())
}

/// Panics by the name of the thread they happened on: those in tasks that nobody awaits would go unnoticed.
static PANICS: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

thread_local! {
    static NOTING: Cell<bool> = const { Cell::new(false) };
}

fn note_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            if !name.contains('#') || NOTING.replace(true) {
                return before(panic);
            }
            let place = panic.location().map(|place| format!(" at {}:{}", place.file(), place.line()));
            let text = format!("{}{}", panic_text(panic.payload()), place.unwrap_or_default());
            PANICS.lock().entry(name).or_default().push(text);
            NOTING.set(false);
        }));
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
