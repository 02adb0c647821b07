//! Retries and dead letters: a confirmed copy first, and the acknowledgement of the original afterwards.

use std::time::{Duration, SystemTime};

use lapin::types::ShortString;
use messaging_core::spi::Unsettled;
use messaging_core::wire::{DeadLetterMark, Facts};
use messaging_core::{DeadLetterReason, Outcome, Receipt, Result, Source};

use super::Consumed;
use crate::delay::Due;
use crate::layout::{lane_of, short};
use crate::topology::Topology;
use crate::writer::{CopyPlace, CopyTo, Writer};

/// A copy on its way.
#[derive(Debug)]
pub(super) struct Job {
    /// What is acknowledged once the copy is confirmed.
    pub(super) delivery: Unsettled,
    /// Who waits for the settlement.
    pub(super) ticket: Option<u64>,
    /// If the copy fails, the consumer hands the message out again itself; otherwise the broker does.
    pub(super) again: bool,
    /// Delay of a retry, which this consumer waits for itself if no copy can be made.
    pub(super) retry_after: Option<Duration>,
}

/// A copy that the broker answered for.
pub(super) type Copied = (Job, Result<Receipt>);

/// Sends a copy on its way.
pub(super) async fn copied(job: Job, outcome: Outcome<Receipt>) -> Copied {
    (job, outcome.await)
}

/// Makes copies of one source's deliveries.
pub(super) struct Copies<'a> {
    pub(super) writer: &'a Writer,
    pub(super) topology: &'a Topology,
    pub(super) what: &'a Consumed,
    pub(super) queues: &'a [ShortString],
}

impl Copies<'_> {
    /// Back to its queue, after a while.
    pub(super) fn retry(&self, delivery: &Unsettled, after: Duration, expires: Option<SystemTime>) -> Outcome<Receipt> {
        self.later(delivery, after, delivery.attempt, expires)
    }

    /// Back to its bucket, because it came before its time. No attempt is counted.
    pub(super) fn forward(
        &self,
        delivery: &Unsettled,
        rest: Duration,
        expires: Option<SystemTime>,
    ) -> Outcome<Receipt> {
        self.later(delivery, rest, delivery.attempt.saturating_sub(1), expires)
    }

    fn later(
        &self,
        delivery: &Unsettled,
        after: Duration,
        attempts: u32,
        expires: Option<SystemTime>,
    ) -> Outcome<Receipt> {
        let message = &delivery.message;
        let facts = Facts { attempts, redriven: delivery.redriven, expires, ..Facts::default() };
        let queue = self.queues[lane_of(message, self.queues.len())].clone();
        let place = if after.is_zero() { CopyPlace::Queue(queue) } else { CopyPlace::Later(Due::Queue(queue), after) };
        self.writer.copy(message.clone(), CopyTo { place, facts, mandatory: true, dead_letter_of: None })
    }

    /// To the dead letter; none where there is no dead letter.
    pub(super) fn dead_letter(&self, delivery: &Unsettled, reason: DeadLetterReason) -> Option<Outcome<Receipt>> {
        let source = self.source()?;
        let mark = DeadLetterMark {
            origin: source.clone(),
            reason,
            attempts: delivery.attempt,
            redriven: delivery.redriven,
            at: SystemTime::now(),
        };
        let queue = match short("the name of a dead letter", &self.topology.names.dead(source)) {
            Ok(queue) => queue,
            Err(error) => return Some(Outcome::ready(Err(error))),
        };
        let dead_letter_of = Some(source.clone());
        let place = CopyPlace::Queue(queue);
        let facts = Facts::from(mark);
        Some(self.writer.copy(delivery.message.clone(), CopyTo { place, facts, mandatory: true, dead_letter_of }))
    }

    fn source(&self) -> Option<&Source> {
        match self.what {
            Consumed::Source { source, .. } => Some(source),
            Consumed::Ephemeral { .. } => None,
        }
    }
}
