//! What a log broker itself says is done, held against what the consumers were about to acknowledge.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use integration_tests::Result;
use messaging_conformance::history::Mark;

use crate::address::Address;
use crate::run::Run;
use crate::stage::Stage;
use crate::traffic::PATIENCE;
use integration_tests::runner::Verdict;

/// How what is committed and what was acknowledged stand to each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Some are committed that nobody was about to acknowledge: they would be lost in a crash.
    Past(String),
    /// Some that were acknowledged are not committed yet.
    Behind(String),
    /// The same ones, of which there are so many.
    Even(usize),
}

impl Standing {
    pub(crate) fn of(committed: &[Mark], acked: &HashSet<Mark>) -> Self {
        let skipped: Vec<_> = committed.iter().filter(|mark| !acked.contains(mark)).collect();
        if let Some(first) = skipped.first() {
            let count = skipped.len();
            return Self::Past(format!("{count} messages below the committed offset are not settled, such as {first}"));
        }
        let committed: HashSet<_> = committed.iter().copied().collect();
        let mut open = acked.difference(&committed);
        match open.next() {
            Some(first) => {
                let count = open.count() + 1;
                Self::Behind(format!("of the acknowledged messages {count} are not committed, such as {first}"))
            }
            None => Self::Even(committed.len()),
        }
    }
}

/// The broker's committed offsets skip no message that nobody was about to acknowledge.
pub(crate) async fn nothing_is_skipped(stage: &dyn Stage, run: &Run, at: &Address) -> Verdict {
    nothing_is_skipped_of(stage, run, at, || Ok(())).await
}

/// As [`nothing_is_skipped`], where `read` takes over what others wrote down.
pub(crate) async fn nothing_is_skipped_of(
    stage: &dyn Stage,
    run: &Run,
    at: &Address,
    mut read: impl FnMut() -> Result<()>,
) -> Verdict {
    // In this order: an acknowledgement is noted before it is asked for.
    let Some(committed) = stage.committed(at).await? else { return Ok(()) };
    read()?;
    match Standing::of(&committed, &run.acked()) {
        Standing::Past(skipped) => Err(skipped.into()),
        Standing::Behind(_) | Standing::Even(_) => Ok(()),
    }
}

/// Waits until all that was acknowledged is committed, while its consumers live: what a crash took along they get again. None
/// may be skipped meanwhile, and in the end there has to be something.
pub(crate) async fn all_is_committed(stage: &dyn Stage, run: &Run, at: &Address) -> Verdict {
    all_is_committed_of(stage, run, at, || Ok(())).await
}

/// As [`all_is_committed`], where `read` takes over what others wrote down.
pub(crate) async fn all_is_committed_of(
    stage: &dyn Stage,
    run: &Run,
    at: &Address,
    mut read: impl FnMut() -> Result<()>,
) -> Verdict {
    let end = Instant::now() + PATIENCE;
    loop {
        let Some(committed) = stage.committed(at).await? else { return Ok(()) };
        read()?;
        match Standing::of(&committed, &run.acked()) {
            Standing::Past(skipped) => return Err(skipped.into()),
            Standing::Even(0) => return Err("nothing was acknowledged, and nothing is committed".into()),
            Standing::Even(count) => {
                run.remark(format!("{count} committed"));
                return Ok(());
            }
            Standing::Behind(open) if Instant::now() > end => return Err(open.into()),
            Standing::Behind(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
