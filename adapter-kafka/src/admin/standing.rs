//! Where a source stands: what is committed and what is written, partition by partition.

use messaging_core::{Error, Result, Source};

use super::reader::{Range, observer};
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::{PartitionId, committed, watermarks};
use crate::topology::{Role, Topics, partitions, places};

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
    pub(super) fn waiting(&self) -> i64 {
        (self.end - self.committed).max(0)
    }

    pub(super) fn range(&self) -> Range {
        (self.place.clone(), self.committed.max(self.low), self.end)
    }
}

/// Every partition that a source reads.
pub(super) async fn standing(broker: &KafkaBroker, source: &Source) -> Result<Vec<Standing>> {
    broker.connection().check_open()?;
    let (topics, group) = (Topics::of_source(broker.names(), source), broker.names().source(source));
    let counts = partitions(broker.connection(), &topics.subscribed()).await?;
    if counts.first().is_none_or(Option::is_none) {
        return Err(Error::missing(source, &topics.main));
    }
    let counts: Vec<i32> = counts.into_iter().map(|count| count.unwrap_or(0).abs()).collect();
    let all = places(&topics.subscribed(), &counts);
    let (connection, is_queue) = (broker.connection().clone(), matches!(source, Source::Queue(_)));
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
    asked?.ok_or_else(|| Error::missing(source, &broker.names().source(source)))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
