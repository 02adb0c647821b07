//! Where a source stands: what is committed and what is written, partition by partition.

use std::ops::ControlFlow;
use std::time::SystemTime;

use messaging_core::wire::to_millis;
use messaging_core::{Browsed, Depth, Error, Message, Result, Source, SourcePosition};

use super::reader::{Range, observer, read};
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::{KafkaDeliveries, PartitionId, committed, watermarks};
use crate::topology::{Role, Topics, partitions, places};

/// Bound of the offsets between what is committed and the end up to which messages are counted by reading them.
const COUNTED: i64 = 1_000;
/// The same where only reading tells which of them are due.
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

/// One partition of a source.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) place: PartitionId,
    pub(super) role: Role,
    pub(super) committed: i64,
    pub(super) low: i64,
    pub(super) end: i64,
}

impl Standing {
    fn waiting(&self) -> i64 {
        (self.end - self.committed).max(0)
    }

    fn range(&self) -> Range {
        (self.place.clone(), self.committed.max(self.low), self.end)
    }
}

impl KafkaBroker {
    /// Every partition that a source reads.
    pub(super) async fn standing(&self, source: &Source) -> Result<Vec<Standing>> {
        self.connection().check_open()?;
        let (topics, group) = (Topics::of_source(self.names(), source), self.names().source(source));
        let counts = partitions(self.connection(), &topics.subscribed()).await?;
        if counts.first().is_none_or(Option::is_none) {
            return Err(Error::missing(source, &topics.main));
        }
        let counts: Vec<i32> = counts.into_iter().map(|count| count.unwrap_or(0).abs()).collect();
        let all = places(&topics.subscribed(), &counts);
        let (connection, is_queue) = (self.connection().clone(), matches!(source, Source::Queue(_)));
        let ask = move || {
            let observer = observer(&connection.options, &group)?;
            let known = committed(&observer, &all)?;
            if !is_queue && known.iter().all(|(_, offset)| offset.is_none()) {
                return Ok(None);
            }
            let mut standing = Vec::with_capacity(known.len());
            for (place, offset) in known {
                let (low, end) = watermarks(&observer, &place)?;
                let committed = offset.map_or(low, |(offset, _)| offset.max(low));
                standing.push(Standing { role: topics.role(&place.0), place, committed, low, end });
            }
            Ok(Some(standing))
        };
        let asked: Result<Option<Vec<Standing>>> =
            blocking("asking where a group stands", REQUEST_TIMEOUT * 3, ask).await?;
        asked?.ok_or_else(|| Error::missing(source, &self.names().source(source)))
    }

    pub(super) async fn depth_of(&self, source: &Source) -> Result<Depth> {
        let standing = self.standing(source).await?;
        let (main, beside): (Vec<_>, Vec<_>) = standing.into_iter().partition(|one| one.role == Role::Main);
        let dead = u64::try_from(self.letters(source).await?.len()).unwrap_or(u64::MAX);
        let (main, beside) = (self.count(&main, COUNTED).await?, self.count(&beside, COUNTED_DELAYED).await?);
        Ok(Depth {
            ready: main.due + main.delayed + beside.due,
            delayed: beside.is_exact.then_some(beside.delayed),
            dead: Some(dead),
            approximate: !(main.is_exact && beside.is_exact),
            ..Depth::default()
        })
    }

    pub(super) async fn lag_of(&self, source: &Source) -> Result<u64> {
        let standing = self.standing(source).await?;
        let Counted { due, delayed, .. } = self.count(&standing, COUNTED).await?;
        Ok(due + delayed)
    }

    /// Counts the messages that wait in some partitions. Few are read: between what is committed and the end may lie control
    /// records of transactions, aborted messages and compacted gaps, which are never delivered. Of many the offsets are counted.
    async fn count(&self, of: &[Standing], at_most: i64) -> Result<Counted> {
        let offsets: i64 = of.iter().map(Standing::waiting).sum();
        let estimate = Counted { due: unsigned(offsets), delayed: 0, is_exact: offsets == 0 };
        if offsets == 0 || offsets > at_most {
            return Ok(estimate);
        }
        let ranges = of.iter().map(Standing::range).collect();
        let connection = self.connection().clone();
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

    pub(super) async fn positions_of(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        let standing = self.standing(source).await?;
        // Members in other processes report no more than their commits.
        let here: Vec<(i32, i64, i64)> = self
            .consumers()
            .iter()
            .filter(|intake| intake.settings.source.as_ref() == Some(source))
            .flat_map(|intake| KafkaDeliveries::positions(intake))
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

    pub(super) async fn browse_at(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        let standing = self.standing(source).await?;
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
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
