//! What the tests share: waiting for conditions, looking at dead letters, handlers that remember.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use messaging::{Config, DeadLetter, Error, QueueName, RunningApp, Source, SubscriptionName, Tally, TopicName};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// Waits for a condition; with paused time at no cost.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(300), wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// What handlers saw, with the time since the test began.
#[derive(Clone)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<(Duration, T)>>>, Instant);

impl<T: Clone + PartialEq + fmt::Debug> Seen<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }

    pub(crate) fn add(&self, what: T) {
        self.0.lock().push((self.1.elapsed(), what));
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().iter().map(|(_, what)| what.clone()).collect()
    }

    pub(crate) fn times(&self) -> Vec<Duration> {
        self.0.lock().iter().map(|(at, _)| *at).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) async fn reach(&self, count: usize) {
        until(&format!("{count} were seen"), || self.len() >= count).await;
    }
}

pub(crate) fn text(payload: &Bytes) -> String {
    String::from_utf8(payload.to_vec()).unwrap()
}

pub(crate) fn config(text: &str) -> Config {
    Config::from_toml(text).unwrap()
}

/// A configuration with one memory broker and what a test adds.
pub(crate) fn memory_and(text: &str) -> Config {
    config(&format!("[brokers.main]\nurl = \"memory://\"\n{text}"))
}

pub(crate) fn queue(name: &str) -> Source {
    Source::Queue(QueueName::parse(name).unwrap())
}

pub(crate) fn subscription(topic: &str, name: &str) -> Source {
    Source::Subscription(TopicName::parse(topic).unwrap(), SubscriptionName::parse(name).unwrap())
}

pub(crate) async fn dead_letters(running: &RunningApp, source: &Source) -> Vec<DeadLetter> {
    running.broker("main").unwrap().inspect().dead_letters(source, 1_000).await.unwrap()
}

/// The counts of one listener, after checking that everything balances.
pub(crate) fn tally(running: &RunningApp, id: &str) -> Tally {
    let ledger = running.ledger();
    assert!(ledger.balanced(), "{ledger}");
    *ledger.listener(id).unwrap_or_else(|| panic!("no listener {id:?}"))
}

/// Waits until everything received is settled and the counts of the listener satisfy a condition.
pub(crate) async fn until_tally(running: &RunningApp, id: &str, condition: impl Fn(&Tally) -> bool) -> Tally {
    until(&format!("the counts of {id:?} are as expected"), || condition(&tally(running, id))).await;
    tally(running, id)
}

/// The text of an error, after checking that it says all that it should.
pub(crate) fn says(error: &Error, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}
