//! Reading a part of the log without being a member of anything.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use messaging_core::{Error, ErrorKind, Result};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;

use crate::config::{ConnectionOptions, GroupProtocol};
use crate::consumer::{PartitionId, list, places};
use crate::convert::{Decoded, decode};
use crate::error::{code_of, from_kafka, is_passing};
use crate::records::RecordBatch;

/// How long reading may take.
const READ: Duration = Duration::from_secs(20);

/// A part of a partition: from an offset to before another.
pub(super) type Range = (PartitionId, i64, i64);

/// A consumer that belongs to no group but can be asked about this one.
pub(super) fn observer(options: &ConnectionOptions, group: &str) -> Result<BaseConsumer> {
    let made = options.consumer(group, GroupProtocol::Classic).create();
    made.map_err(|error| from_kafka("a consumer cannot be set up", &error))
}

/// Reads parts of the log, each in order, until all is read or `each` has enough. Blocks; commits nothing.
pub(super) fn read(
    options: &ConnectionOptions,
    ranges: Vec<Range>,
    mut each: impl FnMut(&BorrowedMessage<'_>, Decoded) -> ControlFlow<()>,
) -> Result<()> {
    let ranges: Vec<Range> = ranges.into_iter().filter(|(_, from, to)| from < to).collect();
    if ranges.is_empty() {
        return Ok(());
    }
    let consumer = observer(options, &format!("reader-{}", uuid::Uuid::new_v4()))?;
    let starts = list(ranges.iter().map(|(place, from, _)| (place.clone(), *from)))?;
    consumer.assign(&starts).map_err(|error| from_kafka("the log cannot be read", &error))?;
    drop(starts);
    let mut open: HashMap<PartitionId, i64> = ranges.into_iter().map(|(place, _, to)| (place, to)).collect();
    let begun = Instant::now();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(record)) => {
                let place = (record.topic().to_owned(), record.partition());
                let end = open.get(&place).copied();
                if end.is_some_and(|end| record.offset() < end)
                    && each(&record, decode(RecordBatch::of((&record).into()).get(0), &place.0, place.1)).is_break()
                {
                    return Ok(());
                }
                if end.is_some_and(|end| record.offset() + 1 >= end) {
                    open.remove(&place);
                    pause(&consumer, &place)?;
                }
            }
            // The last offsets may be no messages (compaction, transactions): the position says when all is read.
            Some(Err(KafkaError::PartitionEOF(_))) | None => {
                for place in read_to_the_end(&consumer, &open) {
                    open.remove(&place);
                    pause(&consumer, &place)?;
                }
            }
            Some(Err(error)) if !code_of(&error).is_some_and(is_passing) => {
                return Err(from_kafka("the log cannot be read", &error));
            }
            Some(Err(_)) => {}
        }
        if begun.elapsed() > READ {
            return Err(Error::new(ErrorKind::Timeout, format!("the log could not be read within {READ:?}")));
        }
    }
    Ok(())
}

/// Lets the client fetch no more of a partition: behind the part that is read may be any amount, and more may come all the time.
fn pause(consumer: &BaseConsumer, place: &PartitionId) -> Result<()> {
    consumer.pause(&places([place])).map_err(|error| from_kafka("the log cannot be read", &error))
}

fn read_to_the_end(consumer: &BaseConsumer, open: &HashMap<PartitionId, i64>) -> Vec<PartitionId> {
    let Ok(positions) = consumer.position() else { return Vec::new() };
    let places = positions.elements().into_iter().filter_map(|one| match one.offset() {
        Offset::Offset(at) => Some(((one.topic().to_owned(), one.partition()), at)),
        _ => None,
    });
    places.filter(|(place, at)| open.get(place).is_some_and(|end| at >= end)).map(|(place, _)| place).collect()
}
