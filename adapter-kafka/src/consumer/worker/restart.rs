//! Going on at another offset: past what is to be skipped, and where the client stopped by itself.

use std::collections::HashMap;
use std::time::Instant;

use messaging_core::{Event, Result};
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::{AGAIN, Place, Worker};
use crate::consumer::group::take_up;
use crate::consumer::partition::Partition;
use crate::consumer::{metadata, offsets};
use crate::error::from_kafka;

impl Worker {
    /// Goes on at other offsets, which are never before what was read; what lies between counts as settled.
    pub(super) fn restart_at(&mut self, places: &[(Place, i64)]) -> Result<()> {
        let stopped = self.seek(places)?;
        self.take_up_anew(&stopped)?;
        for (place, offset) in places {
            if let Some(held) = self.held.get(place) {
                held.partition.skip_to(*offset);
            }
        }
        Ok(())
    }

    /// Seeks, and gives those that the client refused: it seeks only where it reads.
    fn seek(&self, places: &[(Place, i64)]) -> Result<Vec<(Place, i64)>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let list = offsets::list(places.iter().cloned())?;
        let answer = self.client.seek_partitions(list, offsets::ASK);
        let answer = answer.map_err(|error| from_kafka("partitions cannot be sought", &error))?;
        // The call itself succeeds; each partition has an error of its own.
        let is_stopped = |((topic, number), _): &&(Place, i64)| {
            answer.find_partition(topic, *number).is_none_or(|one| one.error().is_err())
        };
        Ok(places.iter().filter(is_stopped).cloned().collect())
    }

    /// Lets partitions go and takes them up at other offsets: the only way to have the client read what it stopped reading.
    ///
    /// Not while the group waits for an answer, which this would be. One that is asked for in this very moment and not heard yet
    /// is answered early: others may see messages again that are still out here.
    fn take_up_anew(&self, places: &[(Place, i64)]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let cannot = |error: KafkaError| from_kafka("partitions cannot be taken up anew", &error);
        let mut all: HashMap<Place, i64> = HashMap::new();
        if let RebalanceProtocol::Cooperative = self.client.rebalance_protocol() {
            self.client
                .incremental_unassign(&offsets::places(places.iter().map(|(place, _)| place)))
                .map_err(cannot)?;
        } else {
            // Only the assignment as a whole can be changed: the others go on where they are.
            all.extend(self.held.iter().map(|(place, held)| (place.clone(), held.partition.read_to())));
            self.client.assign(&TopicPartitionList::new()).map_err(cannot)?;
        }
        all.extend(places.iter().cloned());
        // The client stops fetching after the call, and parts the partition's queue from ours with it; then it does what it is
        // asked next. Attracted before, the partition would be read by nobody.
        drop(self.client.assignment());
        take_up(&self.client, &self.fetch, &offsets::list(all)?).map_err(cannot)
    }

    /// Has every partition looked at: the client may have stopped at any of them.
    pub(super) fn doubt_all(&mut self) {
        self.held.values_mut().for_each(|held| held.is_doubtful = true);
        self.look_at_doubtful = Some(Instant::now());
    }

    /// Looks at partitions where the client may have stopped: where it read, the log was cut off at its beginning or at its end.
    /// It goes on at what is left, and what is lost is told as a gap.
    ///
    /// The client says so once, without a word of where, and forgets to if the partition is paused meanwhile. Seeking to where a
    /// partition is anyway tells: the client refuses it where it stopped.
    pub(super) fn find_the_way_back(&mut self) {
        let is_time = self.look_at_doubtful.is_some_and(|at| Instant::now() >= at);
        if !is_time || self.is_rebalancing() {
            return;
        }
        self.look_at_doubtful = None;
        if let Err(error) = self.look_for_the_stopped() {
            tracing::debug!(target: "messaging::kafka", %error, "whether all partitions are read cannot be seen yet");
            self.look_at_doubtful = Some(Instant::now() + AGAIN);
        }
    }

    fn look_for_the_stopped(&mut self) -> Result<()> {
        let doubtful = self.held.iter().filter(|(_, held)| held.is_doubtful);
        let positions: Vec<_> = doubtful.map(|(place, held)| (place.clone(), held.partition.read_to())).collect();
        let stopped = self.seek(&positions)?;
        let (mut onward, mut back, mut missed) = (Vec::new(), Vec::new(), 0);
        for (place, at) in stopped {
            let (low, end) = offsets::watermarks(&self.client, &place)?;
            if at > end {
                back.push((place, end));
            } else {
                missed += u64::try_from(low - at).unwrap_or(0);
                onward.push((place, at.max(low)));
            }
        }
        let is_shorter = !back.is_empty();
        let mut restarted = onward.clone();
        restarted.extend(back.into_iter().filter_map(|(place, end)| self.go_back(place, end)));
        self.take_up_anew(&restarted)?;
        for (place, offset) in onward {
            if let Some(held) = self.held.get(&place) {
                held.partition.skip_to(offset);
            }
        }
        self.held.values_mut().for_each(|held| held.is_doubtful = false);
        if missed > 0 {
            tracing::warn!(target: "messaging::kafka", missed, "messages were deleted before they were consumed");
            self.intake.tell(Event::Gap { missed: Some(missed) });
        }
        if is_shorter {
            tracing::warn!(target: "messaging::kafka", "a log ends before what was read of it: what is new may be missed");
            self.intake.tell(Event::Gap { missed: None });
        }
        Ok(())
    }

    /// A log that ends before what was read of it, after an unclean election, goes on with offsets that were given out before:
    /// what is out is stale, and what was not settled is read again where it is still there.
    fn go_back(&mut self, place: Place, end: i64) -> Option<(Place, i64)> {
        let held = self.held.get_mut(&place)?;
        held.partition.ring.lock().is_leaving = true;
        let (_, open) = held.partition.position();
        self.intake.withhold(Partition::is_leaving);
        self.kill(std::slice::from_ref(&place));
        let offset = open.min(end);
        self.hold_one(place.clone(), offset, metadata::Metadata::new(metadata::Ending::Clean));
        if let Some(held) = self.held.get(&place) {
            // What is committed may lie past the end.
            held.partition.commit_again();
        }
        Some((place, offset))
    }
}
