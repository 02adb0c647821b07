//! What is settled: done by the channel alone, or once a copy is confirmed, and written in batches.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use lapin::options::{BasicAckOptions, BasicNackOptions};
use messaging_core::{Delivery, Error, ErrorKind, Outcome, Receipt, Result};
use tokio::time::Instant;

use super::Service;
use super::later::Held;
use crate::consumer::copies::{Copied, Copies, Job, copied};
use crate::consumer::worker::Worker;
use crate::error::{Call, from_lapin};
use crate::settle::Command;

/// How long an acknowledgement may wait for others to go with it.
const ACK_WITHIN: Duration = Duration::from_millis(2);

impl Service {
    /// Does what the settlements say.
    pub(super) fn obey(&mut self, worker: &mut Worker) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for command in inbox.drain(..) {
            match command {
                Command::Ack(tag) => self.ack(tag),
                Command::AckMany(tags) => tags.iter().for_each(|tag| self.ack(*tag)),
                Command::Return(tag) => self.returns.push(tag),
                Command::Again { mut delivery, after } => {
                    delivery.attempt = delivery.attempt.saturating_add(1);
                    self.later.hold(after, Held::Again(delivery));
                }
                Command::Retry { delivery, after, ticket } => {
                    let expires = self.deadlines.get(&delivery.tag).copied();
                    let outcome = self.copier(worker).retry(&delivery, after, expires);
                    self.follow(
                        Job { delivery, ticket: Some(ticket), again: false, retry_after: Some(after) },
                        outcome,
                    );
                }
                Command::DeadLetter { delivery, reason, ticket } => {
                    match self.copier(worker).dead_letter(&delivery, *reason) {
                        Some(outcome) => {
                            let again = worker.plan.by_key;
                            self.follow(Job { delivery, ticket: Some(ticket), again, retry_after: None }, outcome);
                        }
                        None => {
                            self.returns.push(delivery.tag);
                            let why = "an ephemeral subscription has no dead letter";
                            worker.tickets.complete(ticket, Err(Error::new(ErrorKind::Unsupported, why)));
                        }
                    }
                }
                Command::Expired(delivery) => {
                    worker.shared.leave(delivery.tag);
                    self.expire(worker, delivery);
                }
            }
        }
        // Its room is used again.
        self.inbox = inbox;
    }

    pub(super) fn copier<'a>(&'a self, worker: &'a Worker) -> Copies<'a> {
        Copies {
            writer: &worker.around.copies,
            topology: &worker.around.topology,
            what: &worker.plan.what,
            queues: &self.attached.queues,
        }
    }

    pub(super) fn follow(&self, job: Job, outcome: Outcome<Receipt>) {
        self.copies.push(Box::pin(copied(job, outcome)));
    }

    pub(super) fn ack(&mut self, tag: u64) {
        if !self.deadlines.is_empty() {
            self.deadlines.remove(&tag);
        }
        self.acks.ack(tag);
        self.write_by.get_or_insert_with(|| Instant::now() + ACK_WITHIN);
    }

    /// The broker answered for a copy: the original goes, or comes again.
    pub(super) fn copied(&mut self, worker: &Worker, (job, result): Copied) {
        let Job { mut delivery, ticket, again, retry_after } = job;
        let tag = delivery.tag;
        let answer = match result {
            Ok(_) => {
                worker.shared.leave(tag);
                self.ack(tag);
                Ok(())
            }
            // A copy does not fit into a frame: this consumer holds the message until then, and the broker hands it out again.
            Err(error) if error.kind() == ErrorKind::TooLarge && retry_after.is_some() => {
                self.later.hold(retry_after.unwrap_or_default(), Held::Return(tag));
                Ok(())
            }
            Err(error) => {
                let backoff = Delivery::drop_backoff(delivery.attempt);
                if again {
                    // Those of its key behind it go on waiting.
                    delivery.attempt = delivery.attempt.saturating_add(1);
                    self.later.hold(backoff, Held::Again(delivery));
                } else {
                    self.later.hold(backoff, Held::Return(tag));
                }
                Err(error)
            }
        };
        if let Some(ticket) = ticket {
            worker.tickets.complete(ticket, answer);
        }
    }

    /// Writes what was settled.
    pub(super) async fn write(&mut self, worker: &mut Worker) -> Result<()> {
        self.write_by = None;
        let acks = self.acks.take();
        let mut returns = std::mem::take(&mut self.returns);
        returns.sort_unstable();
        for tag in &returns {
            self.acks.gone(*tag);
        }
        if acks.count == 0 && returns.is_empty() {
            return Ok(());
        }
        worker.unflushed += acks.count;
        self.unacknowledged = self.unacknowledged.saturating_sub(acks.count + returns.len() as u64);
        worker.shared.set_unacknowledged(self.unacknowledged);
        let channel = &self.channel;
        let ack = |tag, multiple| channel.basic_ack(tag, BasicAckOptions { multiple });
        let prefix = acks.prefix.map(|tag| ack(tag, true).left_future::<_>());
        let singles = acks.singles.iter().map(|tag| ack(*tag, false).right_future());
        let options = BasicNackOptions { multiple: false, requeue: true };
        let returned = returns.iter().map(|tag| channel.basic_nack(*tag, options));
        // Both are polled in order, and so are written in order.
        let all = join(join_all(prefix.into_iter().chain(singles)), join_all(returned));
        let (acked, returned) = channel.unless_lost(all).await?;
        for result in acked.into_iter().chain(returned) {
            result.map_err(|error| from_lapin(&error, Call::Consume))?;
        }
        Ok(())
    }
}
