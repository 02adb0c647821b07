//! A tap: a consumer that counts what it gives and never waits for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use messaging_core::{Consumer, Control, Delivery, DrainReport, Event, Received};

use crate::Bench;
use crate::bench::{PATIENCE, within};
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};

/// A consumer of a case.
#[derive(Debug)]
pub struct Tap {
    at: Bench,
    consumer: Consumer,
    patience: Duration,
}

impl Tap {
    pub(crate) fn new(at: &Bench, consumer: Consumer, patience: Duration) -> Self {
        Self { at: at.clone(), consumer, patience }
    }

    /// The consumer itself.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    /// What steers it from elsewhere.
    #[must_use]
    pub fn control(&self) -> std::sync::Arc<dyn Control> {
        self.consumer.control()
    }

    /// The next delivery, which must come.
    ///
    /// # Errors
    /// That none comes, or what the adapter says.
    pub async fn next(&mut self) -> Verdict<Delivery> {
        self.at.stumble().await;
        let next = within("a delivery that must come", self.patience, self.consumer.next()).await??;
        self.at.did(1);
        next.ok_or_else(|| Stop::failed("the consumer ended, though nobody stopped it"))
    }

    /// The next so many deliveries, held all at once.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub async fn hold(&mut self, count: usize) -> Verdict<Vec<Delivery>> {
        let mut held = Vec::with_capacity(count);
        while held.len() < count {
            let missing = count - held.len();
            let more = within(
                &format!("{missing} of {count} deliveries that must come"),
                self.patience,
                self.consumer.next_many(missing),
            )
            .await??;
            ensure!(!more.is_empty(), "the consumer ended, though nobody stopped it");
            ensure!(more.len() <= missing, "{} deliveries came, though at most {missing} were asked for", more.len());
            self.at.did(more.len());
            held.extend(more);
        }
        Ok(held)
    }

    /// Takes and acknowledges so many, and returns their texts in order.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub async fn drink(&mut self, count: usize) -> Verdict<Vec<String>> {
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            let delivery = self.next().await?;
            texts.push(text(&delivery));
            self.at.settled(delivery.ack()).await?;
        }
        Ok(texts)
    }

    /// Takes and acknowledges the next, which must have this text.
    ///
    /// # Errors
    /// That it is another, or none comes.
    pub async fn expect_next(&mut self, expected: &str) -> Verdict {
        let delivery = self.next().await?;
        ensure_eq!(text(&delivery), expected, "the next delivery (attempt {})", delivery.attempt());
        self.at.settled(delivery.ack()).await
    }

    /// Takes and acknowledges these texts, in any order, each exactly once.
    ///
    /// # Errors
    /// What is missing, doubled or unexpected.
    pub async fn expect_all(&mut self, expected: impl IntoIterator<Item = String>) -> Verdict {
        let expected: Vec<String> = expected.into_iter().collect();
        let got = self.drink(expected.len()).await?;
        same_multiset(&expected, &got)
    }

    /// Whether nothing can be received at this moment, without waiting.
    pub async fn is_dry(&mut self) -> Verdict<bool> {
        let waited = tokio::time::timeout(Duration::ZERO, self.consumer.next()).await;
        match waited {
            Err(_) => Ok(true),
            Ok(received) => {
                drop(received?);
                Ok(false)
            }
        }
    }

    /// The next event, which must come; deliveries on the way are acknowledged.
    ///
    /// # Errors
    /// That none comes, or what the adapter says.
    pub async fn event(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Verdict<Event> {
        loop {
            match within("an event that must come", self.patience, self.consumer.receive()).await?? {
                None => return Err(Stop::failed("the consumer ended before the event came")),
                Some(Received::Delivery(delivery)) => self.at.settled(delivery.ack()).await?,
                Some(Received::Event(event)) => {
                    self.at.did(1);
                    if wanted(&event) {
                        return Ok(event);
                    }
                }
            }
        }
    }

    /// Makes all settlements so far as durable as the broker allows.
    ///
    /// # Errors
    /// The adapter's error, or that it hangs.
    pub async fn flush(&self) -> Verdict {
        self.at.wait("a flush", self.consumer.flush(PATIENCE)).await
    }

    /// Drains with a deadline; must end by it, with some grace.
    ///
    /// # Errors
    /// That it hangs.
    pub async fn drain(&mut self, limit: Duration) -> Verdict<DrainReport> {
        let report = within("a drain", limit + PATIENCE, self.consumer.drain(limit)).await?;
        self.at.did(1);
        Ok(report)
    }

    /// Ends the consumer in order.
    ///
    /// # Errors
    /// That it hangs, or reports errors.
    pub async fn close(self) -> Verdict {
        let report = self.close_whatever_it_reports().await?;
        if let Some(error) = report.errors.first() {
            return Err(Stop::failed(format_args!("closing a consumer reports: {error}")));
        }
        Ok(())
    }

    /// Ends the consumer, which may have something to report.
    ///
    /// # Errors
    /// That it hangs.
    pub async fn close_whatever_it_reports(self) -> Verdict<DrainReport> {
        within("closing a consumer", PATIENCE * 2, self.consumer.close(Duration::from_secs(1))).await
    }
}

/// The payload as text.
#[must_use]
pub fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.message().payload()).into_owned()
}

/// Passes if both have the same texts equally often.
pub(crate) fn same_multiset(expected: &[String], got: &[String]) -> Verdict {
    let mut count: BTreeMap<&str, i64> = BTreeMap::new();
    for text in expected {
        *count.entry(text).or_default() += 1;
    }
    for text in got {
        *count.entry(text).or_default() -= 1;
    }
    let missing: Vec<&str> = count.iter().filter(|(_, left)| **left > 0).map(|(text, _)| *text).take(10).collect();
    let surplus: Vec<&str> = count.iter().filter(|(_, left)| **left < 0).map(|(text, _)| *text).take(10).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "what was received differs from what was published: missing {missing:?}, unexpected or doubled {surplus:?}"
    );
    Ok(())
}
