//! Settling: acknowledgements mark offsets, retries and dead letters are copies that are confirmed first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adapter_kit::instant_after;
use messaging_core::spi::{Permit, Settler, Unsettled};
use messaging_core::wire::{self, DeadLetterMark, Facts};
use messaging_core::{Acked, Capabilities, DeadLetterReason, Delivery, Error, ErrorKind, Outcome, Settlement};

use rdkafka::message::Header;

use crate::consumer::{Item, Partition};
use crate::convert::{NULL_MARK, headers_of, key_of, payload_of, timestamp_of};
use crate::copies::{Copy, Then};

fn stale() -> Error {
    Error::stale("its partition belongs to another member by now, or it was settled before")
}

impl Settler for Partition {
    fn settle(self: Arc<Self>, delivery: Unsettled, how: Settlement) -> Outcome {
        match how {
            Settlement::Ack => Outcome::ready(if self.finish(offset_of(delivery.tag)) { Ok(()) } else { Err(stale()) }),
            Settlement::Release => self.put_back(delivery, Duration::ZERO, false),
            Settlement::Retry { after } if after.is_zero() || self.shared.holds_retries() => {
                self.put_back(delivery, after, true)
            }
            Settlement::Retry { after } => self.retry_later(delivery, after),
            Settlement::DeadLetter(reason) => self.dead_letter(delivery, *reason),
        }
    }

    fn ack_many(&self, tags: &[u64]) -> Outcome<Acked> {
        let acked = self.settle_many(tags);
        self.shared.outlet.free_keys(tags.iter().map(|tag| self.id(offset_of(*tag))));
        self.shared.outlet.settled(acked);
        Outcome::ready(Ok(Acked { acked: acked as u64, stale: (tags.len() - acked) as u64 }))
    }

    fn capabilities(&self) -> &Capabilities {
        &self.shared.settings.capabilities
    }
}

fn offset_of(tag: u64) -> i64 {
    i64::try_from(tag).unwrap_or(i64::MAX)
}

impl Partition {
    /// Settles an offset for good; false if it is not this member's any more.
    fn finish(&self, offset: i64) -> bool {
        let settled = self.settle_one(offset);
        self.shared.outlet.free_key(self.id(offset));
        if settled {
            self.shared.outlet.settled(1);
        }
        settled
    }

    /// Refuses a settlement that comes too late. Its key waited for it all the same.
    fn refuse(&self, offset: i64) -> Outcome {
        self.shared.outlet.free_key(self.id(offset));
        Outcome::ready(Err(stale()))
    }

    /// Hands the message out again from here, now or later.
    fn put_back(self: Arc<Self>, delivery: Unsettled, after: Duration, counts: bool) -> Outcome {
        let offset = offset_of(delivery.tag);
        let attempt = delivery.attempt + u32::from(counts);
        if !self.give_back(offset, attempt - 1) {
            return self.refuse(offset);
        }
        let due = (!after.is_zero()).then(|| instant_after(after));
        let shared = Arc::clone(&self.shared);
        if let Some(item) = shared.outlet.put_back(Item::again(&self, delivery, attempt), due) {
            item.withhold();
        }
        shared.outlet.settled(1);
        Outcome::ready(Ok(()))
    }

    /// Makes a copy in the group's retry topic, then settles the original.
    fn retry_later(self: Arc<Self>, delivery: Unsettled, after: Duration) -> Outcome {
        let facts = Facts {
            attempts: delivery.attempt,
            redriven: delivery.redriven,
            due: Some(SystemTime::now() + after),
            expires: delivery.message.ttl().and_then(|ttl| delivery.message.timestamp().checked_add(ttl)),
            ..Facts::default()
        };
        let Some(topic) = self.shared.settings.topics.retry.clone() else {
            return self.put_back(delivery, after, true);
        };
        // To the partition of the same number, which the same member has where there are as many.
        let partition = Some(self.number).filter(|number| *number < self.shared.settings.topics.retry_partitions);
        self.copy(delivery, &topic, partition, None, &facts)
    }

    /// Makes a copy in the dead letter, then settles the original.
    fn dead_letter(self: Arc<Self>, delivery: Unsettled, reason: DeadLetterReason) -> Outcome {
        let (Some(source), Some(topic)) =
            (self.shared.settings.source.clone(), self.shared.settings.topics.dead.clone())
        else {
            let error = Error::new(ErrorKind::Unsupported, "an ephemeral subscription has no dead letter");
            drop(self.put_back(delivery, Duration::ZERO, true));
            return Outcome::ready(Err(error));
        };
        let Unsettled { attempt: attempts, redriven, .. } = delivery;
        let mark = DeadLetterMark { origin: source, reason, attempts, redriven, at: SystemTime::now() };
        // Ids are the publisher's, and two messages may share one: the letter's key is the place of the original. The same failure
        // noted twice, around a crash, is one letter; after a redrive the message lies elsewhere, and its next letter is another.
        let key = format!("{}/{}/{}/{}", self.topic, self.number, delivery.tag, delivery.message.id());
        self.copy(delivery, &topic, None, Some(key), &mark.into())
    }

    fn copy(
        self: Arc<Self>,
        delivery: Unsettled,
        topic: &str,
        partition: Option<i32>,
        key: Option<String>,
        facts: &Facts,
    ) -> Outcome {
        let offset = offset_of(delivery.tag);
        if !self.holds(offset) {
            return self.refuse(offset);
        }
        let copies = match self.shared.settings.connection.copies() {
            Ok(copies) => copies,
            Err(error) => {
                drop(self.put_back(delivery, Duration::ZERO, true));
                return Outcome::ready(Err(error));
            }
        };
        let feed = Arc::clone(&self.shared.feed);
        let ticket = feed.tickets().open(Permit::none());
        let message = delivery.message.clone();
        let to = topic.to_owned();
        let then: Then = Box::new(move |made| {
            let feed = Arc::clone(&self.shared.feed);
            let result = match made {
                Ok(()) if self.finish(offset) => Ok(()),
                // The partition has moved on: the copy is there, and the original comes again elsewhere.
                Ok(()) => Err(stale()),
                Err(error) => {
                    if !error.is_retryable() {
                        self.note_uncopied(offset, &error, &to);
                    }
                    let after = Delivery::drop_backoff(delivery.attempt);
                    drop(self.put_back(delivery, after, true));
                    Err(error)
                }
            };
            feed.tickets().complete(ticket, result);
        });
        let is_dead_letter = key.is_some();
        let key = key.as_deref().map(str::as_bytes).or_else(|| key_of(&message));
        let mut payload = payload_of(&message);
        let mut extra = facts.entries();
        if is_dead_letter && payload.is_none() {
            // In a compacted topic a null payload deletes what has the same key.
            extra.push((NULL_MARK, "1".to_owned()));
            payload = Some(&[]);
        }
        let mut headers = headers_of(&message, &extra);
        if is_dead_letter && let Some(own) = key_of(&message) {
            headers = headers.insert(Header { key: wire::KEY, value: Some(own) });
        }
        let copy = Copy { topic, partition, key, payload, timestamp: timestamp_of(&message), headers };
        copies.make(copy, then);
        Outcome::pending(Arc::clone(feed.tickets()) as Arc<_>, ticket)
    }
}
