//! Inspecting: depth, lag, positions, waiting messages and dead letters.

use std::ops::ControlFlow;
use std::time::SystemTime;

use async_trait::async_trait;
use messaging_core::wire::to_millis;
use messaging_core::{Browsed, DeadLetter, Depth, Inspect, Message, Result, Source, SourcePosition};

use super::dead::letters;
use super::reader::read;
use super::standing::{Standing, standing, unsigned};
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::topology::Role;

/// Bound of the offsets between what is committed and the end up to which messages are counted by reading them.
const COUNTED: i64 = 1_000;
/// The same where only reading shows which of them are due.
const COUNTED_DELAYED: i64 = 50_000;
/// Bound of the bytes that are read to count messages.
const COUNTED_BYTES: usize = 64 * 1024 * 1024;

/// Messages that wait.
#[derive(Clone, Copy, Debug)]
struct Counted {
    due: u64,
    delayed: u64,
    /// False for a difference of offsets.
    is_exact: bool,
}

#[async_trait]
impl Inspect for KafkaBroker {
    async fn depth(&self, source: &Source) -> Result<Depth> {
        let standing = standing(self, source).await?;
        let (main, beside): (Vec<_>, Vec<_>) = standing.into_iter().partition(|one| one.role == Role::Main);
        let dead = u64::try_from(letters(self, source).await?.len()).unwrap_or(u64::MAX);
        let (main, beside) = (count(self, &main, COUNTED).await?, count(self, &beside, COUNTED_DELAYED).await?);
        Ok(Depth {
            ready: main.due + main.delayed + beside.due,
            delayed: beside.is_exact.then_some(beside.delayed),
            dead: Some(dead),
            approximate: !(main.is_exact && beside.is_exact),
            ..Depth::default()
        })
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        let standing = standing(self, source).await?;
        let Counted { due, delayed, .. } = count(self, &standing, COUNTED).await?;
        Ok(due + delayed)
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        let standing = standing(self, source).await?;
        // Members in other processes report no more than their commits.
        let here: Vec<(i32, i64, i64)> = self
            .consumers()
            .iter()
            .filter(|shared| shared.settings.source.as_ref() == Some(source))
            .flat_map(|shared| shared.positions())
            .collect();
        let main = standing.into_iter().filter(|one| one.role == Role::Main);
        Ok(main
            .map(|one| {
                let next = here.iter().filter(|(number, ..)| *number == one.place.1).map(|(_, next, _)| *next).max();
                SourcePosition {
                    partition: one.place.1.unsigned_abs(),
                    current: unsigned(next.unwrap_or(one.committed).max(one.committed)),
                    committed: unsigned(one.committed),
                    end: unsigned(one.end),
                }
            })
            .collect())
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        let standing = standing(self, source).await?;
        let most = i64::try_from(max).unwrap_or(i64::MAX);
        let short = |one: &Standing| {
            let (place, from, to) = one.range();
            (place, from, to.min(from.saturating_add(most)))
        };
        let ranges = standing.iter().map(short).collect();
        let connection = self.connection().clone();
        let now = to_millis(SystemTime::now());
        let look = move || {
            let mut found: Vec<(Message, u32)> = Vec::new();
            read(&connection.options, ranges, |_, decoded| {
                if decoded.due() <= now && decoded.expires().is_none_or(|at| at > now) {
                    found.push((decoded.message, decoded.facts.attempts));
                }
                ControlFlow::Continue(())
            })
            .map(|()| found)
        };
        let mut found = blocking("browsing", REQUEST_TIMEOUT * 5, look).await??;
        found.sort_by_key(|(message, _)| message.timestamp());
        found.truncate(max);
        Ok(found.into_iter().map(|(message, attempts)| Browsed { message, attempts }).collect())
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let mut letters = letters(self, source).await?;
        letters.truncate(max);
        Ok(letters.into_iter().map(|one| one.letter).collect())
    }
}

/// Counts the messages that wait in some partitions. Few are read: between what is committed and the end may lie control
/// records of transactions, aborted messages and compacted gaps, which are never delivered. Of many the offsets are counted.
async fn count(broker: &KafkaBroker, of: &[Standing], at_most: i64) -> Result<Counted> {
    let offsets: i64 = of.iter().map(Standing::waiting).sum();
    let estimate = Counted { due: unsigned(offsets), delayed: 0, is_exact: offsets == 0 };
    if offsets == 0 || offsets > at_most {
        return Ok(estimate);
    }
    let ranges = of.iter().map(Standing::range).collect();
    let connection = broker.connection().clone();
    let now = to_millis(SystemTime::now());
    let count = move || {
        let mut counted = Counted { due: 0, delayed: 0, is_exact: true };
        let mut bytes = 0;
        read(&connection.options, ranges, |record, decoded| {
            bytes += record.payload_len();
            if decoded.expires().is_none_or(|at| at > now) {
                *(if decoded.due() > now { &mut counted.delayed } else { &mut counted.due }) += 1;
            }
            if bytes < COUNTED_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map(|()| if bytes < COUNTED_BYTES { counted } else { estimate })
    };
    blocking("counting messages", REQUEST_TIMEOUT * 5, count).await?
}
