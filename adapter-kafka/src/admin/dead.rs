//! Dead letters: a compacted topic with one record for each failure of a message. A tombstone takes one out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use messaging_core::wire::{DeadLetterMark, Facts};
use messaging_core::{DeadLetter, DeadLetterReason, Error, Redrive, Result, Source};
use rdkafka::message::{Message as _, OwnedHeaders};
use tokio::sync::oneshot;

use super::reader::{observer, read};
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::watermarks;
use crate::convert::{Decoded, headers_of, key_of, payload_of, timestamp_of};
use crate::copies::{Copy, CopyProducer};
use crate::topology::{Topics, partitions};

/// How many dead letters are sent back at once.
const AT_ONCE: usize = 500;

/// A dead letter and where it lies. What takes it out is written for exactly this key: a message that fails again while it is
/// redriven leaves a new letter under another key, and earlier versions wrote keys of another form.
pub(super) struct Letter {
    partition: i32,
    key: Vec<u8>,
    pub(super) letter: DeadLetter,
}

/// All dead letters of a source, the oldest first.
pub(super) async fn letters(broker: &KafkaBroker, source: &Source) -> Result<Vec<Letter>> {
    broker.connection().check_open()?;
    let topics = Topics::of_source(broker.names(), source);
    let Some(dead) = topics.dead.clone() else { return Ok(Vec::new()) };
    let counts = partitions(broker.connection(), &[&topics.main, &dead]).await?;
    let (Some(Some(_)), Some(count)) = (counts.first(), counts.get(1)) else {
        return Err(Error::missing(source, &topics.main));
    };
    let Some(count) = count.map(i32::abs) else { return Ok(Vec::new()) };
    let (connection, source) = (broker.connection().clone(), source.clone());
    let look = move || {
        let ends = observer(&connection.options, "reader")?;
        let mut ranges = Vec::new();
        for number in 0..count {
            let place = (dead.clone(), number);
            let (low, end) = watermarks(&ends, &place)?;
            ranges.push((place, low, end));
        }
        drop(ends);
        let mut found: BTreeMap<(i32, Vec<u8>), (i64, Option<DeadLetter>)> = BTreeMap::new();
        read(&connection.options, ranges, |record, decoded| {
            let letter = record.payload().is_some().then(|| letter(&source, decoded));
            let key = (record.partition(), record.key().unwrap_or_default().to_vec());
            found.insert(key, (record.offset(), letter));
            ControlFlow::Continue(())
        })?;
        let mut letters: Vec<(i64, Letter)> = found
            .into_iter()
            .filter_map(|((partition, key), (offset, letter))| {
                Some((offset, Letter { partition, key, letter: letter? }))
            })
            .collect();
        letters.sort_by_key(|(offset, _)| *offset);
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    };
    blocking("reading dead letters", REQUEST_TIMEOUT * 5, look).await?
}

/// Sends dead letters back to the group alone that they come from, and takes them out.
pub(super) async fn send_back(broker: &KafkaBroker, source: &Source, which: Redrive) -> Result<u64> {
    let mut letters = letters(broker, source).await?;
    match which {
        Redrive::All => {}
        Redrive::First(count) => letters.truncate(count),
        Redrive::Ids(ids) => letters.retain(|one| ids.contains(one.letter.message.id())),
    }
    let topics = Topics::of_source(broker.names(), source);
    let (Some(retry), Some(dead)) = (topics.retry, topics.dead) else { return Ok(0) };
    let copies = broker.connection().copies()?;
    let mut count = 0;
    for some in letters.chunks(AT_ONCE) {
        // Each is there again before it is taken out: a crash in between doubles it, with the same id.
        confirmed(some.iter().map(|one| again(&copies, &retry, &one.letter))).await?;
        confirmed(some.iter().map(|letter| tombstone(&copies, &dead, letter))).await?;
        count += some.len() as u64;
    }
    Ok(count)
}

/// Takes all dead letters out.
pub(super) async fn take_out_all(broker: &KafkaBroker, source: &Source) -> Result<u64> {
    let letters = letters(broker, source).await?;
    let Some(dead) = Topics::of_source(broker.names(), source).dead else { return Ok(0) };
    let copies = broker.connection().copies()?;
    for some in letters.chunks(AT_ONCE) {
        confirmed(some.iter().map(|letter| tombstone(&copies, &dead, letter))).await?;
    }
    Ok(letters.len() as u64)
}

fn letter(source: &Source, decoded: Decoded) -> DeadLetter {
    let Decoded { message, facts } = decoded;
    let otherwise = DeadLetterMark {
        origin: source.clone(),
        reason: DeadLetterReason::new(DeadLetterReason::REJECTED),
        attempts: facts.attempts,
        redriven: facts.redriven,
        at: SystemTime::UNIX_EPOCH,
    };
    facts.mark(otherwise).with_message(message)
}

type Confirmation = oneshot::Receiver<Result<()>>;

fn make(copies: &Arc<CopyProducer>, copy: Copy<'_>) -> Confirmation {
    let (made, confirmed) = oneshot::channel();
    let made = parking_lot::Mutex::new(Some(made));
    copies.make(
        copy,
        Box::new(move |result| {
            if let Some(made) = made.into_inner() {
                // The caller may have stopped waiting.
                let _ = made.send(result);
            }
        }),
    );
    confirmed
}

/// The message as it was, with its attempts afresh.
fn again(copies: &Arc<CopyProducer>, retry: &str, letter: &DeadLetter) -> Confirmation {
    let message = &letter.message;
    let facts = Facts { redriven: letter.redriven.saturating_add(1), ..Facts::default() };
    let copy = Copy {
        topic: retry,
        partition: None,
        key: key_of(message),
        payload: payload_of(message),
        timestamp: timestamp_of(message),
        headers: headers_of(message, &facts.entries()),
    };
    make(copies, copy)
}

fn tombstone(copies: &Arc<CopyProducer>, dead: &str, letter: &Letter) -> Confirmation {
    let copy = Copy {
        topic: dead,
        partition: Some(letter.partition),
        key: Some(&letter.key),
        payload: None,
        timestamp: timestamp_of(&letter.letter.message),
        headers: OwnedHeaders::new_with_capacity(0),
    };
    make(copies, copy)
}

/// Waits until all are confirmed; returns the first failure.
async fn confirmed(copies: impl Iterator<Item = Confirmation>) -> Result<()> {
    for answer in join_all(copies).await {
        answer.map_err(|_| Error::closed("the broker"))??;
    }
    Ok(())
}
