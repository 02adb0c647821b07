//! What the scenes share: starting an application, publishing, waiting, and adding up its ledger in the end.

use std::sync::Arc;
use std::time::Duration;

use messaging::{
    App, Config, Error, ErrorKind, Ledger, Message, Part, Place, PublishOptions, Publisher, PublisherExt, Result,
    RunningApp, Source, Tally, UsedAs,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::input::Line;
use crate::picture::{self, Progress};

/// At most so many messages in one call.
const BATCH: usize = 500;

/// How long nothing may happen before a scene gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a scene looks whether it is done.
const GLANCE: Duration = Duration::from_millis(2);

/// Set once, when the user asks to stop.
pub(crate) type Interrupt = watch::Receiver<bool>;

/// Where a scene plays: the configuration, and what has been counted so far.
pub(crate) struct Stage {
    pub(crate) config: Config,
    interrupt: Interrupt,
    tally: Tally,
    balanced: bool,
}

impl Stage {
    pub(crate) fn new(config: Config, interrupt: Interrupt) -> Self {
        Self { config, interrupt, tally: Tally::default(), balanced: true }
    }

    /// An application with the shop's configuration; each stands for a server, or for several.
    pub(crate) fn app(&self) -> App {
        App::with_config(self.config.clone())
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }

    /// Removes what an earlier run may have left: an interrupted run leaves its messages on a broker that keeps them.
    pub(crate) async fn clear(&self, queues: &[&str], subscriptions: &[(&str, &str)]) -> Result<()> {
        let running = self.app().start().await?;
        for binding in queues {
            let (broker, source) = (running.broker_of(binding)?, running.source_of(binding)?);
            for part in [Part::Live, Part::Dead] {
                ignore_missing(broker.repair().purge(&source, part).await.map(drop))?;
            }
        }
        for (binding, name) in subscriptions {
            if let Source::Subscription(topic, name) = running.subscription_of(binding, name)? {
                ignore_missing(running.broker_of(binding)?.repair().unsubscribe(&topic, &name).await)?;
            }
        }
        running.shutdown().await.map(drop)
    }

    /// The lines that the broker takes; the others are told, since it would refuse them.
    pub(crate) async fn that_fit(
        &self,
        binding: &str,
        lines: Vec<Line>,
        message: impl Fn(&Line) -> Result<Message>,
    ) -> Result<Vec<Line>> {
        let running = self.app().start().await?;
        let options = PublishOptions::default();
        let destination = self.config.binding(binding, UsedAs::Publish)?.destination;
        let capabilities = running.broker_of(binding)?.capabilities(Place::Publish(&destination, &options));
        running.shutdown().await?;
        let limit = capabilities.limits.message_bytes;
        let mut fitting = Vec::with_capacity(lines.len());
        for line in lines {
            let size = message(&line)?.size();
            if size <= limit {
                fitting.push(line);
            } else {
                picture::note(&format!("line {} is left out: {size} bytes, and the broker takes {limit}", line.number));
            }
        }
        Ok(fitting)
    }

    /// Publishes in order, in batches, until done or interrupted. Returns how many the broker has confirmed.
    ///
    /// # Errors
    /// The first message the broker did not take.
    pub(crate) async fn publish(
        &self,
        publisher: &Arc<dyn Publisher>,
        messages: Vec<Message>,
        progress: &Progress,
    ) -> Result<u64> {
        let mut confirmed = 0;
        for batch in messages.chunks(BATCH) {
            if self.is_interrupted() {
                break;
            }
            for result in publisher.publish_batch(batch.to_vec()).await {
                result?;
                confirmed += 1;
                progress.published();
            }
        }
        Ok(confirmed)
    }

    /// Waits until `count` has reached `goal`, or the user asks to stop.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if it stays the same for a minute.
    pub(crate) async fn until(&self, what: &str, goal: u64, count: impl Fn() -> u64) -> Result<()> {
        let mut glance = tokio::time::interval(GLANCE);
        let (mut last, mut since) = (count(), Instant::now());
        while last < goal && !self.is_interrupted() {
            glance.tick().await;
            let now = count();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                let text = format!("{what}: {now} of {goal}, and for {PATIENCE:?} nothing happened");
                return Err(Error::new(ErrorKind::Timeout, text));
            }
        }
        Ok(())
    }

    /// Drains an application and adds its ledger to the shop's.
    pub(crate) async fn close(&mut self, running: RunningApp) -> Result<Ledger> {
        let report = running.shutdown().await?;
        if !report.is_complete() {
            picture::note(&format!("the drain was not complete: {report}"));
        }
        let ledger = report.ledger;
        self.tally += ledger.total();
        self.balanced &= ledger.balanced();
        Ok(ledger)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether every ledger so far adds up and nothing is left in flight.
    pub(crate) fn is_balanced(&self) -> bool {
        self.balanced && self.tally.in_flight == 0
    }
}

fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
