//! Delays, made of queues in which messages expire.
//!
//! The expiry of single messages acts only at the head of a queue, so that each delay has a queue (a bucket) of its own. Buckets
//! of up to a second stand 50 ms apart and are rounded up to; longer ones stand eight to an octave and are rounded down to:
//! what is left is waited for in a further bucket, into which the consumer puts what came before its time. So some two hundred
//! buckets serve all delays, and none is late by more than the smallest step. A bucket dead-letters at least once (a confirmed
//! copy within the broker), and goes by itself when nobody has asked for it for half an hour.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use messaging_core::{JOINT, Result};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::QueueType;
use crate::layout::short;
use crate::topology::{Binding, Found, QueueDeclaration, Session, Topology, at_least_once, text};

/// The longest delay; RabbitMQ's timers count milliseconds in 32 bits.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 24 * 60 * 60);
/// How late a delay may be.
pub(crate) const GRANULARITY: Duration = Duration::from_millis(100);

/// What stands in the names of buckets that lead to a queue, and of those that lead to an exchange.
const TO_QUEUE: &str = "delay";
const TO_EXCHANGE: &str = "delayed";

const STEP_MS: u64 = 50;
const FINE_MS: u64 = 1_000;
/// How long a bucket stays after it was last asked for, beyond its own delay.
const KEPT: Duration = Duration::from_secs(30 * 60);
/// A bucket known for longer is declared again, which renews its time.
const ASK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Where delayed messages of one place wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Due {
    /// To a queue.
    Queue(ShortString),
    /// To an exchange, under the routing key they have.
    Exchange(ShortString),
}

impl Due {
    /// A queue and a topic may have the same name, and their buckets lead to different places.
    fn bucket_name(&self, millis: u64) -> String {
        match self {
            Self::Queue(queue) => format!("{queue}{JOINT}{TO_QUEUE}{JOINT}{millis}"),
            Self::Exchange(exchange) => format!("{exchange}{JOINT}{TO_EXCHANGE}{JOINT}{millis}"),
        }
    }
}

/// One bucket, ready to be published to.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) exchange: ShortString,
    /// The routing key; none to keep the message's own.
    pub(crate) routing_key: Option<ShortString>,
    /// Whether the message will be due when it leaves the bucket.
    pub(crate) is_last: bool,
    /// Until when the bucket's queue is too young to be trusted with a message that exists nowhere else.
    pub(crate) trusted_from: Option<Instant>,
}

/// The buckets that this broker handle knows.
#[derive(Debug)]
pub(crate) struct Delays {
    topology: Arc<Topology>,
    known: Mutex<HashMap<String, (Instant, Instant)>>,
}

impl Delays {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        Self { topology, known: Mutex::default() }
    }

    /// The bucket for a delay, if it is known to be there.
    pub(crate) fn known(&self, due: &Due, delay: Duration) -> Option<Bucket> {
        let (millis, is_last) = bucket_millis(delay);
        let name = due.bucket_name(millis);
        let (asked, trusted_from) = self.known.lock().get(&name).copied()?;
        let now = Instant::now();
        if asked + ASK_AGAIN <= now {
            return None;
        }
        let (exchange, routing_key) = match due {
            Due::Queue(_) => (ShortString::default(), Some(short("the name of a delay queue", &name).ok()?)),
            Due::Exchange(_) => (short("the name of a delay exchange", &name).ok()?, None),
        };
        let trusted_from = (trusted_from > now).then_some(trusted_from);
        Some(Bucket { exchange, routing_key, is_last, trusted_from })
    }

    /// Makes the bucket for a delay, or makes sure that it is there.
    pub(crate) async fn make(&self, due: &Due, delay: Duration) -> Result<()> {
        let (millis, _) = bucket_millis(delay);
        let name = due.bucket_name(millis);
        let trusted_from = self.known.lock().get(&name).map(|(_, trusted_from)| *trusted_from);
        self.declare(due, &name, millis, trusted_from).await
    }

    async fn declare(&self, due: &Due, name: &str, millis: u64, trusted_from: Option<Instant>) -> Result<()> {
        let mut arguments = FieldTable::default();
        let expires = millis + u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let number = |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-message-ttl".into(), number(millis));
        arguments.insert("x-expires".into(), number(expires));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
        at_least_once(&mut arguments);
        match due {
            Due::Queue(queue) => {
                arguments.insert("x-dead-letter-exchange".into(), text(""));
                arguments.insert("x-dead-letter-routing-key".into(), text(queue.as_str()));
            }
            Due::Exchange(exchange) => {
                arguments.insert("x-dead-letter-exchange".into(), text(&way_out(exchange.as_str())));
            }
        }
        let declaration = QueueDeclaration { name: name.to_owned(), arguments, queue_type: QueueType::Quorum };
        let mut session = self.topology.session();
        // Buckets are ours: they are made in every topology mode.
        let found = match session.queue(name).await? {
            Some(_) => Found::There,
            None => Found::Made,
        };
        if let Due::Exchange(exchange) = due {
            self.way_out(&mut session, exchange.as_str()).await?;
        }
        session.declare(&declaration).await?;
        if let Due::Exchange(_) = due {
            // Goes with the queue: an exchange that deletes itself with its last binding.
            session.declare_exchange(name, "fanout", true).await?;
            session.bind_queue(&Binding::of_all(name, name)).await?;
        }
        session.close().await;
        let now = Instant::now();
        let trusted_from = match found {
            Found::Made => now + self.topology.config.new_queue_wait,
            Found::There => trusted_from.unwrap_or(now),
        };
        self.known.lock().insert(name.to_owned(), (now, trusted_from));
        Ok(())
    }

    /// Forgets all buckets, as after the connection was lost: they may be gone.
    pub(crate) fn forget(&self) {
        self.known.lock().clear();
    }

    /// What leaves a topic's buckets goes to its exchange, and to a queue that keeps nothing. A bucket that loses nothing keeps what
    /// no queue takes, and lets only some thirty through at a time: without the second way, those of whom nobody hears would stop
    /// the others.
    async fn way_out(&self, session: &mut Session<'_>, exchange: &str) -> Result<()> {
        let name = way_out(exchange);
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("classic"));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(0));
        let sink = QueueDeclaration { name: name.clone(), arguments, queue_type: QueueType::Classic };
        session.declare_exchange(&name, "fanout", false).await?;
        session.declare(&sink).await?;
        session.bind_queue(&Binding::of_all(&name, &name)).await?;
        session.bind_exchange(exchange, &name).await
    }

    /// Whether a bucket of this name was used by this handle.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.known.lock().contains_key(name)
    }

    /// The names of all buckets that may hold messages for a queue.
    pub(crate) fn names(place: &str) -> impl Iterator<Item = String> {
        all_millis().map(move |millis| format!("{place}{JOINT}{TO_QUEUE}{JOINT}{millis}"))
    }
}

/// The exchange between a topic's buckets and its own.
fn way_out(exchange: &str) -> String {
    format!("{exchange}{JOINT}{TO_EXCHANGE}")
}

/// The bucket for a delay in milliseconds, and whether it covers all of it.
fn bucket_millis(delay: Duration) -> (u64, bool) {
    let millis = u64::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
    if millis <= FINE_MS {
        return (millis.max(1).div_ceil(STEP_MS) * STEP_MS, true);
    }
    let octave = (millis / FINE_MS).ilog2();
    let base = FINE_MS << octave;
    let eighth = base / 8;
    let below = base + (millis - base) / eighth * eighth;
    (below, below == millis)
}

fn all_millis() -> impl Iterator<Item = u64> {
    let fine = (1..=FINE_MS / STEP_MS).map(|step| step * STEP_MS);
    let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
    let coarse = (0..32_u32)
        .flat_map(|octave| (0..8).map(move |eighth| (FINE_MS << octave) + (FINE_MS << octave) / 8 * eighth))
        .skip(1)
        .take_while(move |millis| *millis <= longest);
    fine.chain(coarse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_delays_are_rounded_up_and_long_ones_down() {
        let of = |millis| bucket_millis(Duration::from_millis(millis));
        assert_eq!(of(1), (50, true));
        assert_eq!(of(50), (50, true));
        assert_eq!(of(51), (100, true));
        assert_eq!(of(1_000), (1_000, true));
        assert_eq!(of(1_001), (1_000, false));
        assert_eq!(of(2_300), (2_250, false));
        assert_eq!(of(3_600_000), (3_584_000, false));
    }

    #[test]
    fn every_delay_comes_to_its_end_in_a_few_buckets_and_never_early() {
        let longest = u64::try_from(LONGEST.as_millis()).unwrap();
        for delay in [1, 49, 50, 999, 1_001, 2_345, 30_000, 86_400_000, longest - 1, longest] {
            let (mut left, mut waited, mut hops) = (delay, 0, 0);
            loop {
                let (bucket, is_last) = bucket_millis(Duration::from_millis(left));
                assert!(all_millis().any(|known| known == bucket), "{bucket} is not listed");
                waited += bucket;
                hops += 1;
                if is_last {
                    break;
                }
                left -= bucket;
            }
            assert!(waited >= delay && waited < delay + STEP_MS && hops <= 10, "{delay}: {waited} in {hops}");
        }
        assert!(all_millis().count() < 220);
    }
}
