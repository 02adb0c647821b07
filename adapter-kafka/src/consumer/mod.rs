//! Consumers: a polling thread that owns the client, the outlet where messages wait, and the partitions that settle them.

mod deliveries;
mod events;
mod faults;
mod item;
mod metadata;
mod offsets;
mod open;
mod partition;
mod shared;
mod window;
mod worker;

#[cfg(test)]
mod tests;

use messaging_core::Result;
use tokio::sync::oneshot;

pub(crate) use self::events::PartitionId;
pub(crate) use self::item::Item;
pub(crate) use self::metadata::{Ending, Metadata};
pub(crate) use self::offsets::{commit_now, committed, fix_start, list, places, watermarks};
pub(crate) use self::open::{Opening, open};
pub(crate) use self::partition::Partition;
pub(crate) use self::shared::{Settings, Shared};

/// Answers a flush or a purge.
type Flush = oneshot::Sender<Result<()>>;
