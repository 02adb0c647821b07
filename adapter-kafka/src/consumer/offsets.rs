//! Offsets: where a group begins, what it has committed, and how it commits. Every list is made for one call and dropped.

use std::thread;
use std::time::{Duration, Instant};

use messaging_core::wire::to_millis;
use messaging_core::{Error, ErrorKind, Result, Start};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::events::PartitionId;
use super::metadata::{Ending, Metadata};
use crate::blocking::REQUEST_TIMEOUT;
use crate::error::{code_of, from_code, from_kafka, is_passing};
use crate::raw;

/// Before a question is asked again that had no leader to answer it.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// How long a member may take to hear of the group's new epoch.
const EPOCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where one partition goes on.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) id: PartitionId,
    pub(crate) offset: i64,
    pub(crate) past: Metadata,
}

/// A list of places with offsets.
pub(crate) fn list(places: impl IntoIterator<Item = (PartitionId, i64)>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in places {
        list.add_partition_offset(&topic, partition, Offset::Offset(offset))
            .map_err(|error| from_kafka("an offset cannot be used", &error))?;
    }
    Ok(list)
}

/// A list of places alone.
pub(crate) fn places<'a>(places: impl IntoIterator<Item = &'a PartitionId>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

/// An offset and what was said with it.
pub(crate) type Committed = (i64, Metadata);

/// Committed offsets of a group for some partitions; none where nothing is committed.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of: &[PartitionId],
) -> Result<Vec<(PartitionId, Option<Committed>)>> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let cannot = |error: KafkaError| from_kafka("the committed offsets cannot be read", &error);
    let begun = Instant::now();
    let answer = loop {
        match consumer.committed_offsets(places(of), REQUEST_TIMEOUT) {
            Ok(answer) => break answer,
            // The group's coordinator has just moved, or is about to be found.
            Err(error) if code_of(&error).is_some_and(is_passing) && begun.elapsed() < REQUEST_TIMEOUT => {
                thread::sleep(RETRY_DELAY)
            }
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

/// Commits, and waits until the broker has it, no longer than [`REQUEST_TIMEOUT`]: a commit may hold no thread for a broker that is dead.
pub(crate) fn commit_now<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &[(PartitionId, i64, Metadata)],
) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let list = with_metadata(offsets)?;
    committed_as(raw::commit_within(consumer.client().native_ptr(), &list, REQUEST_TIMEOUT))
}

fn committed_as(answer: Option<Code>) -> Result<()> {
    match answer {
        Some(Code::NoError) => Ok(()),
        Some(code) => Err(from_code(NOT_COMMITTED, code)),
        None => Err(Error::silent(NOT_COMMITTED, REQUEST_TIMEOUT)),
    }
}

/// Commits for partitions that are about to go, again for a while where this member has not reported of the group's new epoch: they
/// are its own until it lets go of them, and the client asks for the epoch by itself.
pub(super) fn commit_before_leaving<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &[(PartitionId, i64, Metadata)],
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let list = with_metadata(offsets)?;
        match raw::commit_within(consumer.client().native_ptr(), &list, REQUEST_TIMEOUT) {
            Some(Code::StaleMemberEpoch) if begun.elapsed() < EPOCH_TIMEOUT => thread::sleep(RETRY_DELAY),
            answer => return committed_as(answer),
        }
    }
}

/// Sends a commit, and goes on; how it went comes as an event.
pub(crate) fn commit_soon<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &[(PartitionId, i64, Metadata)],
) -> Result<()> {
    let list = with_metadata(offsets)?;
    raw::commit_with_answer(consumer.client().native_ptr(), &list).map_err(|code| from_code(NOT_COMMITTED, code))
}

pub(crate) const NOT_COMMITTED: &str = "offsets cannot be committed";

fn with_metadata(offsets: &[(PartitionId, i64, Metadata)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset, metadata) in offsets {
        let mut one = list.add_partition(topic, *partition);
        one.set_offset(Offset::Offset(*offset)).map_err(|error| from_kafka("an offset cannot be used", &error))?;
        one.set_metadata(metadata.write());
    }
    Ok(list)
}

/// The offsets of the oldest message and after the newest.
pub(crate) fn watermarks<C: ConsumerContext>(consumer: &BaseConsumer<C>, place: &PartitionId) -> Result<(i64, i64)> {
    let begun = Instant::now();
    loop {
        match consumer.fetch_watermarks(&place.0, place.1, REQUEST_TIMEOUT) {
            Ok(ends) => return Ok(ends),
            // A partition that was just made, or whose leader has just changed.
            Err(error) if code_of(&error).is_some_and(is_new_or_passing) && begun.elapsed() < REQUEST_TIMEOUT => {
                thread::sleep(RETRY_DELAY);
            }
            Err(error) => return Err(from_kafka("the ends of a partition cannot be read", &error)),
        }
    }
}

/// The offsets after the newest message of many partitions, with one request for each broker.
pub(crate) fn ends<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    of: &[PartitionId],
) -> Result<Vec<(PartitionId, i64)>> {
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let cannot = |error: KafkaError| from_kafka("the ends of partitions cannot be read", &error);
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in of {
        // The time -1 stands for the end, in the client's call as in the protocol's request.
        asked.add_partition_offset(topic, *partition, Offset::End).map_err(cannot)?;
    }
    let answer = consumer.offsets_for_times(asked, REQUEST_TIMEOUT).map_err(cannot)?;
    let known = answer.elements().into_iter().filter(|one| one.error().is_ok());
    Ok(known
        .filter_map(|one| match one.offset() {
            Offset::Offset(offset) => Some(((one.topic().to_owned(), one.partition()), offset)),
            _ => None,
        })
        .collect())
}

/// A partition that was just made is unknown here before the client looks again.
fn is_new_or_passing(code: Code) -> bool {
    code == Code::UnknownPartition || is_passing(code)
}

/// Where a partition begins by `start`; an offset that it does not have becomes the nearest that it has.
pub(crate) fn resolve<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    place: &PartitionId,
    start: Start,
) -> Result<i64> {
    let (low, high) = watermarks(consumer, place)?;
    Ok(match start {
        Start::New => high,
        Start::Earliest => low,
        Start::Offset(offset) => i64::try_from(offset).unwrap_or(i64::MAX).clamp(low, high),
        Start::At(at) => {
            let at = i64::try_from(to_millis(at)).unwrap_or(i64::MAX);
            let asked = list([(place.clone(), at)])?;
            let cannot = |error: KafkaError| from_kafka("the offset of a time cannot be read", &error);
            let answer = consumer.offsets_for_times(asked, REQUEST_TIMEOUT).map_err(cannot)?;
            match answer.elements().first().map(|one| one.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // Nothing is that young.
                _ => high,
            }
        }
    })
}

/// Fixes where a group begins, before anything of it is active: a crash, a new partition or idle time never move it. Main and
/// delayed topics begin by `start`, the group's own retries at their beginning. Offsets that are committed already stay.
///
/// Returns how many messages of an offset that was asked for are gone from the log.
///
/// # Errors
/// [`ErrorKind::NotFound`] for an offset past the end of every partition.
pub(crate) fn fix_start<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    main: &[PartitionId],
    retries: &[PartitionId],
    start: Start,
) -> Result<u64> {
    let known = committed(consumer, &[main, retries].concat())?;
    let is_known = |place: &PartitionId| known.iter().any(|(one, offset)| one == place && offset.is_some());
    // A group that has some offsets was made before: partitions that came later begin at their oldest message.
    let is_new = !main.iter().any(is_known);
    let mut fresh = Vec::new();
    let missed = match start {
        Start::Offset(offset) if is_new => gone_before(consumer, main, offset)?,
        _ => 0,
    };
    for place in main.iter().filter(|place| !is_known(place)) {
        let offset = resolve(consumer, place, if is_new { start } else { Start::Earliest })?;
        fresh.push((place.clone(), offset, Metadata::new(Ending::Clean)));
    }
    for place in retries.iter().filter(|place| !is_known(place)) {
        fresh.push((place.clone(), resolve(consumer, place, Start::Earliest)?, Metadata::new(Ending::Clean)));
    }
    match commit_now(consumer, &fresh) {
        // Another member is active already, and has seen to it.
        Err(error) if matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Conflict) => Ok(missed),
        other => other.map(|()| missed),
    }
}

/// How many messages from an offset on are gone, all partitions together; an error if the offset is past the end of each.
fn gone_before<C: ConsumerContext>(consumer: &BaseConsumer<C>, main: &[PartitionId], offset: u64) -> Result<u64> {
    let at = i64::try_from(offset).unwrap_or(i64::MAX);
    let (mut gone, mut longest) = (0, 0);
    for id in main {
        let (low, end) = watermarks(consumer, id)?;
        gone += u64::try_from(low - at).unwrap_or(0);
        longest = longest.max(end);
    }
    if at > longest {
        let topic = main.first().map_or("", |(topic, _)| topic);
        let text = format!(
            "offset {offset} is past the end of every partition of topic {topic:?}, the longest ends at {longest}"
        );
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    Ok(gone)
}

/// Where the partitions of a new assignment go on; what has no offset yet begins at its oldest message, and is committed.
pub(crate) fn begin<C: ConsumerContext>(consumer: &BaseConsumer<C>, assigned: &[PartitionId]) -> Result<Vec<Begin>> {
    let mut begins = Vec::with_capacity(assigned.len());
    for (place, known) in committed(consumer, assigned)? {
        let (offset, past) = match known {
            Some(known) => known,
            None => (resolve(consumer, &place, Start::Earliest)?, Metadata::new(Ending::Clean)),
        };
        begins.push(Begin { id: place, offset, past });
    }
    if begins.len() < assigned.len() {
        return Err(Error::new(ErrorKind::Protocol, "the broker told fewer committed offsets than were asked for"));
    }
    // From now on this member has them: if it dies without a word, the next sees that it did.
    let mine: Vec<_> = begins
        .iter()
        .map(|begin| {
            let past = Metadata { ending: Ending::Unknown, tried: begin.past.tried.clone() };
            (begin.id.clone(), begin.offset, past)
        })
        .collect();
    commit_now(consumer, &mine)?;
    Ok(begins)
}
