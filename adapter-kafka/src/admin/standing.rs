//! Where a source stands: what is committed and what is written, partition by partition.

use std::ops::ControlFlow;
use std::time::SystemTime;

use messaging_core::wire::to_millis;
use messaging_core::{Browsed, Depth, Error, Message, Result, Source, SourcePosition};

use super::reader::{Range, observer, read};
use crate::broker::KafkaBroker;
use crate::connection::{ASK, blocking};
use crate::consumer::{KafkaDeliveries, Lane, Place, committed, watermarks};
use crate::topology::{Topics, partitions, places};

/// Delayed messages are counted by reading them; with more than these the count is an estimate.
const COUNTED: i64 = 50_000;

/// One partition of a source.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) place: Place,
    pub(super) lane: Lane,
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
                standing.push(Standing { lane: topics.lane(&place.0), place, committed, low, end });
            }
            Ok(Some(standing))
        };
        let asked: Result<Option<Vec<Standing>>> = blocking("asking where a group stands", ASK * 3, ask).await?;
        asked?.ok_or_else(|| Error::missing(source, &self.names().source(source)))
    }

    pub(super) async fn depth_of(&self, source: &Source) -> Result<Depth> {
        let standing = self.standing(source).await?;
        let waiting = |lane: fn(Lane) -> bool| -> i64 {
            standing.iter().filter(|one| lane(one.lane)).map(Standing::waiting).sum()
        };
        let main = waiting(|lane| lane == Lane::Main);
        let beside = waiting(|lane| lane != Lane::Main);
        let dead = u64::try_from(self.letters(source).await?.len()).unwrap_or(u64::MAX);
        let mut depth = Depth { ready: unsigned(main), dead: Some(dead), ..Depth::default() };
        if beside > COUNTED {
            depth.ready += unsigned(beside);
            depth.approximate = true;
            return Ok(depth);
        }
        let ranges = standing.iter().filter(|one| one.lane != Lane::Main).map(Standing::range).collect();
        let connection = self.connection().clone();
        let now = to_millis(SystemTime::now());
        let count = move || {
            let (mut due, mut delayed) = (0, 0);
            read(&connection.options, ranges, |_, decoded| {
                *(if decoded.due() > now { &mut delayed } else { &mut due }) += 1;
                ControlFlow::Continue(())
            })
            .map(|()| (due, delayed))
        };
        let (due, delayed): (u64, u64) = blocking("counting delayed messages", ASK * 5, count).await??;
        depth.ready += due;
        depth.delayed = Some(delayed);
        Ok(depth)
    }

    pub(super) async fn lag_of(&self, source: &Source) -> Result<u64> {
        let standing = self.standing(source).await?;
        Ok(standing.iter().map(|one| unsigned(one.waiting())).sum())
    }

    pub(super) async fn positions_of(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        let standing = self.standing(source).await?;
        // What members in other processes have handed out nobody tells.
        let here: Vec<(i32, i64, i64)> = self
            .consumers()
            .iter()
            .filter(|intake| intake.settings.source.as_ref() == Some(source))
            .flat_map(|intake| KafkaDeliveries::positions(intake))
            .collect();
        let main = standing.into_iter().filter(|one| one.lane == Lane::Main);
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
        let mut found = blocking("browsing", ASK * 5, look).await??;
        found.sort_by_key(|(message, _)| message.timestamp());
        found.truncate(max);
        Ok(found.into_iter().map(|(message, attempts)| Browsed { message, attempts }).collect())
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
