//! Many messages at once: publishers and consumers in tasks of their own, everything recorded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use messaging_core::{Delivery, Publisher, PublisherExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::history::{Findings, Recorder};
use crate::verdict::{Stop, Verdict};
use crate::{Bench, Place, Tap};

/// A task of a case; ended when dropped.
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Waits for the end of the task, within the patience of the suite.
    pub(crate) async fn join(mut self, what: &str) -> Verdict<T> {
        let joined = crate::bench::within(what, crate::bench::PATIENCE * 2, &mut self.0).await?;
        joined.map_err(|error| Stop::failed(format_args!("{what}: {error}")))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Consumers that receive and acknowledge until they are told that all is there.
pub(crate) struct Drinkers {
    at: Bench,
    recorder: Recorder,
    group: u32,
    tasks: Vec<Task<Verdict<(Tap, usize)>>>,
    done: watch::Sender<bool>,
    how: How,
}

/// By key: which consumer holds messages of it, and how many.
type Holders = HashMap<String, (u32, usize)>;

/// How the consumers of a case go about it.
#[derive(Clone, Default)]
struct How {
    /// Settlements may fail, as they do around a fault.
    quiet: Arc<AtomicBool>,
    /// Where order is promised: who holds messages of a key now, and how many. Two consumers must never.
    keys: Option<Arc<Mutex<Holders>>>,
}

impl Drinkers {
    /// Starts the consumers, one task each.
    pub(crate) fn start(at: &Bench, recorder: &Recorder, group: u32, taps: Vec<Tap>) -> Self {
        let (done, ending) = watch::channel(false);
        let how = How { quiet: Arc::default(), keys: at.is_ordered().then(Arc::default) };
        let tasks = taps.into_iter().zip(0..).map(|(tap, consumer)| {
            let (recorder, ending, at, how) = (recorder.clone(), ending.clone(), at.clone(), how.clone());
            Task::spawn(drink(at, recorder, group, consumer, tap, ending, how))
        });
        let tasks = tasks.collect();
        Self { at: at.clone(), recorder: recorder.clone(), group, tasks, done, how }
    }

    /// Lets settlements fail without ending the case, as they do around a fault.
    pub(crate) fn forgive_settlements(&self) {
        self.how.quiet.store(true, Ordering::Release);
    }

    /// Waits until all that was confirmed is received, then for a sentinel behind it; returns how much each consumer got.
    pub(crate) async fn finish(self, place: &Place) -> Verdict<Vec<usize>> {
        self.all_received().await?;
        let publisher = place.publisher().await?;
        // Behind everything else, so that a duplicate under way comes first.
        publish_marked(&self.at, &self.recorder, &publisher, None).await?;
        self.all_received().await?;
        self.done.send_replace(true);
        let mut shares = Vec::new();
        for task in self.tasks {
            let (tap, share) = task.join("a consumer of the case").await??;
            if self.how.quiet.load(Ordering::Acquire) {
                // One that has not come back yet from a fault may say so.
                let _ = tap.close_whatever_it_reports().await?;
            } else {
                tap.close().await?;
            }
            shares.push(share);
        }
        Ok(shares)
    }

    async fn all_received(&self) -> Verdict {
        let mut missing = self.recorder.missing(self.group);
        // As long as some come, more may: the limit is on standing still.
        loop {
            let settled = self
                .at
                .eventually(&format!("the {missing} missing messages are received"), || async {
                    let now = self.recorder.missing(self.group);
                    Ok(now == 0 || now < missing || self.tasks.iter().any(Task::is_over))
                })
                .await;
            missing = self.recorder.missing(self.group);
            if missing == 0 || self.tasks.iter().any(Task::is_over) {
                return Ok(());
            }
            if settled.is_err() {
                return Err(Stop::failed(self.recorder.history().check().exact().err().unwrap_or_default()));
            }
        }
    }
}

impl How {
    /// Notes that a consumer holds a message of its key; fails if another holds one.
    fn take(&self, delivery: &Delivery, consumer: u32) -> Verdict<Option<String>> {
        let (Some(keys), Some(key)) = (&self.keys, delivery.message().key()) else { return Ok(None) };
        let mut keys = keys.lock();
        let held = keys.entry(key.to_owned()).or_insert((consumer, 0));
        if held.1 > 0 && held.0 != consumer {
            return Err(Stop::failed(format_args!(
                "messages of key {key:?} are with consumers {} and {consumer} at once: no order is kept so",
                held.0
            )));
        }
        *held = (consumer, held.1 + 1);
        Ok(Some(key.to_owned()))
    }

    /// Notes that it does not any more. Before the settlement, which hands the key on.
    fn give_back(&self, key: Option<String>) {
        if let (Some(keys), Some(key)) = (&self.keys, key)
            && let Some(held) = keys.lock().get_mut(&key)
        {
            held.1 -= 1;
        }
    }
}

async fn drink(
    at: Bench,
    recorder: Recorder,
    group: u32,
    consumer: u32,
    mut tap: Tap,
    mut ending: watch::Receiver<bool>,
    how: How,
) -> Verdict<(Tap, usize)> {
    let mut share = 0;
    loop {
        let delivery: Delivery = tokio::select! {
            biased;
            // The sender lives until it has said so.
            _ = ending.wait_for(|done| *done) => return Ok((tap, share)),
            next = tap.consumer().next() => match next? {
                Some(delivery) => delivery,
                None => return Err(Stop::failed("a consumer ended, though nobody stopped it")),
            },
        };
        at.did(1);
        let mark = recorder.receipt(&delivery, group, consumer);
        share += 1;
        let key = how.take(&delivery, consumer)?;
        // A handler that takes a turn of its own, so that others get their chance.
        tokio::task::yield_now().await;
        at.stumble().await;
        if how.quiet.load(Ordering::Acquire) {
            // The work of a handler, so that a fault finds some under way.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        how.give_back(key);
        match delivery.ack().await {
            Ok(()) => at.did(1),
            Err(error) if how.quiet.load(Ordering::Acquire) => recorder.unsettled(mark, group, &error),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Publishes one recorded message; its outcome is recorded, and given.
pub(crate) async fn publish_marked(
    at: &Bench,
    recorder: &Recorder,
    publisher: &Arc<dyn Publisher>,
    key: Option<&str>,
) -> Verdict<bool> {
    at.stumble().await;
    let (mark, message) = recorder.intend(key);
    let result = crate::bench::within("a publish", crate::bench::PATIENCE * 4, publisher.publish(message)).await?;
    recorder.outcome(mark, &result);
    at.did(1);
    Ok(result.is_ok())
}

/// Publishes so many recorded messages one after the other, each confirmed before the next.
pub(crate) async fn publish_all(
    at: Bench,
    recorder: Recorder,
    publisher: Arc<dyn Publisher>,
    key: Option<String>,
    count: usize,
) -> Verdict {
    for _ in 0..count {
        publish_marked(&at, &recorder, &publisher, key.as_deref()).await?;
    }
    Ok(())
}

/// The findings, which must be without any offence.
pub(crate) fn exact(recorder: &Recorder) -> Verdict<Findings> {
    let findings = recorder.history().check();
    findings.exact().map_err(Stop::failed)?;
    Ok(findings)
}
