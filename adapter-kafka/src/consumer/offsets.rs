//! Offsets: where a group begins, what it has committed, and how it commits. Every list is made for one call and dropped.

use std::thread;
use std::time::{Duration, Instant};

use messaging_core::wire::to_millis;
use messaging_core::{Error, ErrorKind, Result, Start};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::group::Place;
use super::metadata::{Ending, Metadata};
use crate::error::{code_of, from_code, from_kafka, is_passing};
use crate::raw;

/// How long one question to the broker may take on the polling thread.
pub(crate) const ASK: Duration = Duration::from_secs(5);

/// Before a question is asked again that had no leader to answer it.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a member may take to hear of the group's new epoch.
const EPOCH: Duration = Duration::from_secs(1);

/// Where one partition goes on.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) place: Place,
    pub(crate) offset: i64,
    pub(crate) past: Metadata,
}

/// A list of places with offsets.
pub(crate) fn list(places: impl IntoIterator<Item = (Place, i64)>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in places {
        list.add_partition_offset(&topic, partition, Offset::Offset(offset))
            .map_err(|error| from_kafka("an offset cannot be used", &error))?;
    }
    Ok(list)
}

/// A list of places alone.
pub(crate) fn places<'a>(places: impl IntoIterator<Item = &'a Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

/// An offset and what was said with it.
pub(crate) type Committed = (i64, Metadata);

/// What a group has committed for some partitions; none where nothing is.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of: &[Place],
) -> Result<Vec<(Place, Option<Committed>)>> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let cannot = |error: KafkaError| from_kafka("the committed offsets cannot be read", &error);
    let begun = Instant::now();
    let answer = loop {
        match consumer.committed_offsets(places(of), ASK) {
            Ok(answer) => break answer,
            // The group's coordinator has just moved, or is about to be found.
            Err(error) if code_of(&error).is_some_and(is_passing) && begun.elapsed() < ASK => thread::sleep(AGAIN),
            Err(error) => return Err(cannot(error)),
        }
    };
    let mut found = Vec::with_capacity(of.len());
    for (index, one) in answer.elements().iter().enumerate() {
        one.error().map_err(cannot)?;
        let place = (one.topic().to_owned(), one.partition());
        found.push((
            place,
            match one.offset() {
                Offset::Offset(offset) => Some((offset, Metadata::read(raw::metadata_at(&answer, index)))),
                _ => None,
            },
        ));
    }
    Ok(found)
}

/// Commits, and waits until the broker has it, no longer than [`ASK`]: a commit may hold no thread for a broker that is dead.
pub(crate) fn commit_now<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &[(Place, i64, Metadata)],
) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let list = with_metadata(offsets)?;
    committed_as(raw::commit_within(consumer.client().native_ptr(), &list, ASK))
}

fn committed_as(answer: Option<Code>) -> Result<()> {
    match answer {
        Some(Code::NoError) => Ok(()),
        Some(code) => Err(from_code(NOT_COMMITTED, code)),
        None => Err(Error::silent(NOT_COMMITTED, ASK)),
    }
}

/// Commits for partitions that are about to go, again for a while where this member has not heard of the group's new epoch: they
/// are its own until it lets go of them, and the client asks for the epoch by itself.
pub(super) fn commit_before_leaving<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &[(Place, i64, Metadata)],
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let list = with_metadata(offsets)?;
        match raw::commit_within(consumer.client().native_ptr(), &list, ASK) {
            Some(Code::StaleMemberEpoch) if begun.elapsed() < EPOCH => thread::sleep(AGAIN),
            answer => return committed_as(answer),
        }
    }
}

/// Sends a commit, and goes on; how it went comes as an event.
pub(crate) fn commit_soon<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &[(Place, i64, Metadata)],
) -> Result<()> {
    let list = with_metadata(offsets)?;
    raw::commit_with_answer(consumer.client().native_ptr(), &list).map_err(|code| from_code(NOT_COMMITTED, code))
}

pub(crate) const NOT_COMMITTED: &str = "offsets cannot be committed";

fn with_metadata(offsets: &[(Place, i64, Metadata)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset, metadata) in offsets {
        let mut one = list.add_partition(topic, *partition);
        one.set_offset(Offset::Offset(*offset)).map_err(|error| from_kafka("an offset cannot be used", &error))?;
        one.set_metadata(metadata.write());
    }
    Ok(list)
}

/// The offsets of the oldest message and after the newest.
pub(crate) fn watermarks<C: ConsumerContext>(consumer: &BaseConsumer<C>, place: &Place) -> Result<(i64, i64)> {
    let begun = Instant::now();
    loop {
        match consumer.fetch_watermarks(&place.0, place.1, ASK) {
            Ok(ends) => return Ok(ends),
            // A partition that was just made, or whose leader has just changed.
            Err(error) if code_of(&error).is_some_and(is_new_or_passing) && begun.elapsed() < ASK => {
                thread::sleep(AGAIN);
            }
            Err(error) => return Err(from_kafka("the ends of a partition cannot be read", &error)),
        }
    }
}

/// A partition that was just made is unknown here before the client looks again.
fn is_new_or_passing(code: Code) -> bool {
    code == Code::UnknownPartition || is_passing(code)
}

/// Where a partition begins by `start`.
pub(crate) fn resolve<C: ConsumerContext>(consumer: &BaseConsumer<C>, place: &Place, start: Start) -> Result<i64> {
    let (low, high) = watermarks(consumer, place)?;
    Ok(match start {
        Start::New => high,
        Start::Earliest => low,
        Start::Offset(offset) => i64::try_from(offset).unwrap_or(i64::MAX).clamp(low, high),
        Start::At(at) => {
            let at = i64::try_from(to_millis(at)).unwrap_or(i64::MAX);
            let asked = list([(place.clone(), at)])?;
            let cannot = |error: KafkaError| from_kafka("the offset of a time cannot be read", &error);
            let answer = consumer.offsets_for_times(asked, ASK).map_err(cannot)?;
            match answer.elements().first().map(|one| one.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // Nothing is that young.
                _ => high,
            }
        }
    })
}

/// Fixes where a group begins, before anything of it is active: a crash, a new partition or idle time never move it. Main and
/// delayed topics begin by `start`, the group's own retries at their beginning. What is committed already stays.
pub(crate) fn fix_start<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    main: &[Place],
    retries: &[Place],
    start: Start,
) -> Result<()> {
    let known = committed(consumer, &[main, retries].concat())?;
    let is_known = |place: &Place| known.iter().any(|(one, offset)| one == place && offset.is_some());
    // A group that has some offsets was made before: partitions that came later begin at their oldest message.
    let is_new = !main.iter().any(is_known);
    let mut fresh = Vec::new();
    for place in main.iter().filter(|place| !is_known(place)) {
        let offset = resolve(consumer, place, if is_new { start } else { Start::Earliest })?;
        fresh.push((place.clone(), offset, Metadata::new(Ending::Clean)));
    }
    for place in retries.iter().filter(|place| !is_known(place)) {
        fresh.push((place.clone(), resolve(consumer, place, Start::Earliest)?, Metadata::new(Ending::Clean)));
    }
    match commit_now(consumer, &fresh) {
        // Another member is active already, and has seen to it.
        Err(error) if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Conflict) => Ok(()),
        other => other,
    }
}

/// Where the partitions of a new assignment go on; what has no offset yet begins at its oldest message, and is committed.
pub(crate) fn begin<C: ConsumerContext>(consumer: &BaseConsumer<C>, assigned: &[Place]) -> Result<Vec<Begin>> {
    let mut begins = Vec::with_capacity(assigned.len());
    for (place, known) in committed(consumer, assigned)? {
        let (offset, past) = match known {
            Some(known) => known,
            None => (resolve(consumer, &place, Start::Earliest)?, Metadata::new(Ending::Clean)),
        };
        begins.push(Begin { place, offset, past });
    }
    if begins.len() < assigned.len() {
        return Err(Error::new(ErrorKind::Protocol, "the broker told fewer committed offsets than were asked for"));
    }
    // From now on this member has them: if it dies without a word, the next sees that it did.
    let mine: Vec<_> = begins
        .iter()
        .map(|begin| {
            let past = Metadata { ending: Ending::Unknown, tried: begin.past.tried.clone() };
            (begin.place.clone(), begin.offset, past)
        })
        .collect();
    commit_now(consumer, &mine)?;
    Ok(begins)
}
