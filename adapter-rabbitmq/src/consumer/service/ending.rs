//! How the service of a channel ends: in good order, or because the channel is gone.

use std::time::Duration;

use lapin::options::BasicNackOptions;
use messaging_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, timeout_at};

use super::Service;
use crate::consumer::Finished;
use crate::consumer::attach::give_up;
use crate::consumer::worker::Worker;
use crate::error::{Call, from_lapin, silent, stale};
use crate::settle::Command;

impl Service {
    /// Gives everything back, flushes, and closes the channel.
    pub(in crate::consumer) async fn finish(&mut self, worker: &mut Worker, by: Instant) -> Finished {
        let mut finished = Finished::default();
        if !self.is_stopping && timeout_at(by, self.stop(worker)).await.is_err() {
            self.is_stopping = true;
        }
        let abandoned = worker.shared.handed();
        let mut flushed = self.flush(worker, by).await;
        // What is still open, in the application's hands or held here, goes back to the broker.
        worker.shared.end("the consumer was closed");
        worker.shared.set_unacknowledged(0);
        self.commands.close();
        // What was settled while the rest was flushed was told that it holds.
        self.last_settlements();
        if flushed.is_ok() && (self.acks.waiting() > 0 || !self.returns.is_empty()) {
            let soon = by.max(Instant::now() + Duration::from_millis(100));
            flushed = match timeout_at(soon, self.write(worker)).await {
                Ok(written) => written,
                Err(_) => Err(silent("the last settlements", Duration::from_millis(100))),
            };
        }
        if flushed.is_ok() && abandoned + self.later.len() as u64 > 0 {
            flushed = self.give_back(worker, by).await;
        }
        if let Err(error) = flushed {
            finished.unconfirmed = worker.unflushed + worker.lost + self.acks.waiting() as u64;
            finished.errors.push(error);
        } else if worker.lost > 0 {
            finished.unconfirmed = worker.lost;
        }
        finished.released = self.released;
        worker.tickets.fail_all(stale);
        let goodbye = self.channel.close(200, "done".into());
        let _ = timeout_at(by.max(Instant::now() + Duration::from_millis(100)), goodbye).await;
        finished
    }

    /// Takes in the settlements that need nothing but the channel.
    fn last_settlements(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Ack(tag) => self.ack(tag),
                Command::AckMany(tags) => tags.iter().for_each(|tag| self.ack(*tag)),
                Command::Return(tag) => self.returns.push(tag),
                // Their originals go back with the rest.
                Command::Again { .. } | Command::Retry { .. } | Command::DeadLetter { .. } | Command::Expired(_) => {}
            }
        }
    }

    /// Returns every delivery that came and was not settled.
    async fn give_back(&mut self, worker: &mut Worker, by: Instant) -> Result<()> {
        self.later.clear();
        // A tag that is gone would end the channel, and with bad luck the connection: see `Look::give_back`.
        let Some(last) = self.acks.highest_open(self.last_tag) else { return Ok(()) };
        let options = BasicNackOptions { multiple: true, requeue: true };
        let back = self.channel.basic_nack(last, options);
        let limit = worker.around.topology.config.request_timeout;
        match timeout_at(by.max(Instant::now() + Duration::from_millis(100)), back).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(from_lapin(&error, Call::Consume)),
            Err(_) => Err(silent("giving back deliveries", limit)),
        }
    }

    /// The channel is gone: what came on it comes again, by the broker.
    pub(in crate::consumer) async fn abandon(&mut self, worker: &mut Worker, why: &str) {
        tracing::warn!(why, "a consumer lost its channel");
        worker.shared.end(why);
        worker.shared.set_unacknowledged(0);
        self.commands.close();
        let mut waiting = self.acks.waiting() as u64;
        while let Ok(command) = self.commands.try_recv() {
            waiting += match command {
                Command::Ack(_) => 1,
                Command::AckMany(tags) => tags.len() as u64,
                _ => 0,
            };
        }
        worker.lost += worker.unflushed + waiting;
        worker.unflushed = 0;
        // Of copies on their way nothing is known; their originals come again.
        let lost = || Error::new(ErrorKind::Disconnected, "the channel was lost before the settlement was done");
        worker.tickets.fail_all(lost);
        give_up(&self.channel).await;
    }
}
