//! The application while it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use messaging_core::suggest::hint;
use messaging_core::{
    Broker, BrokerName, Destination, Error, ErrorKind, Flow, Publisher, Result, Source, SubscriptionName,
};

use super::ShutdownReport;
use super::health::AppHealth;
use super::ledger::Ledger;
use super::publishing::Publishers;
use super::running_listener::RunningListener;
use super::shutdown;
use super::stop::{Stage, Stop};

/// An application that has started: its listeners run in tasks of their own.
///
/// Dropped without [`shutdown`](Self::shutdown) it stops its listeners at once, and what was being handled goes back to the
/// brokers. The brokers and publishers that someone else still holds stay open. `let _ = app.start().await?` drops it on the
/// spot: give it a name.
#[must_use = "an app that is dropped stops at once; keep it, and call `shutdown` in the end"]
pub struct RunningApp {
    listeners: Vec<RunningListener>,
    brokers: BTreeMap<BrokerName, Arc<dyn Broker>>,
    publishers: Publishers,
    stop: Arc<Stop>,
    shutdown_timeout: Duration,
}

impl RunningApp {
    pub(crate) fn new(
        listeners: Vec<RunningListener>,
        brokers: BTreeMap<BrokerName, Arc<dyn Broker>>,
        publishers: Publishers,
        stop: Arc<Stop>,
        shutdown_timeout: Duration,
    ) -> Self {
        Self { listeners, brokers, publishers, stop, shutdown_timeout }
    }

    /// Where every received delivery ended so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let tally = |listener: &RunningListener| (listener.policy.id.to_string(), listener.counters.tally());
        Ledger::new(self.listeners.iter().map(tally).collect())
    }

    /// Health of all brokers and listeners.
    #[must_use]
    pub fn health(&self) -> AppHealth {
        AppHealth {
            brokers: self.brokers.iter().map(|(name, broker)| (name.clone(), broker.health())).collect(),
            listeners: self
                .listeners
                .iter()
                .map(|listener| (listener.policy.id.to_string(), listener.policy.state.health()))
                .collect(),
        }
    }

    /// A broker by its name in the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] with the nearest name.
    pub fn broker(&self, name: &str) -> Result<Arc<dyn Broker>> {
        match self.brokers.iter().find(|(known, _)| known.as_str() == name) {
            Some((_, broker)) => Ok(broker.clone()),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!("no broker {name:?} is configured{}", hint(name, self.brokers.keys().map(BrokerName::as_str))),
            )),
        }
    }

    /// The broker that a binding leads to: which one that is, is the configuration's business.
    ///
    /// # Errors
    /// As for [`Publishers::to`].
    pub fn broker_of(&self, binding: &str) -> Result<Arc<dyn Broker>> {
        self.publishers.bound(binding).map(|(broker, _)| broker)
    }

    /// The source that a binding stands for, to ask [`Broker::inspect`] about its depth and dead letters: a queue, or the
    /// durable subscription that the configuration names.
    ///
    /// # Errors
    /// As for [`Publishers::to`]; [`ErrorKind::Config`] for a topic whose subscription only the code names: see
    /// [`subscription_of`](Self::subscription_of).
    pub fn source_of(&self, binding: &str) -> Result<Source> {
        let (_, bound) = self.publishers.bound(binding)?;
        match (bound.destination, bound.subscription) {
            (Destination::Queue(queue), _) => Ok(Source::Queue(queue)),
            (Destination::Topic(topic), Some(name)) => Ok(Source::Subscription(topic, name)),
            (other, _) => Err(Error::new(
                ErrorKind::Config,
                format!(
                    "binding {binding:?} is {other}, and messages wait at its subscriptions: name one with subscription_of(…)"
                ),
            )),
        }
    }

    /// A durable subscription of the topic that a binding stands for.
    ///
    /// # Errors
    /// As for [`Publishers::to`]; [`ErrorKind::InvalidName`]; [`ErrorKind::Config`] if the binding is a queue.
    pub fn subscription_of(&self, binding: &str, name: &str) -> Result<Source> {
        let (_, bound) = self.publishers.bound(binding)?;
        match bound.destination {
            Destination::Topic(topic) => Ok(Source::Subscription(topic, SubscriptionName::parse(name)?)),
            other => {
                Err(Error::new(ErrorKind::Config, format!("binding {binding:?} is {other}: it has no subscriptions")))
            }
        }
    }

    /// The publisher to a binding's destination, opened at the first call.
    ///
    /// # Errors
    /// As for [`Publishers::to`].
    pub async fn publisher(&self, binding: &str) -> Result<Arc<dyn Publisher>> {
        self.publishers.to(binding).await
    }

    /// All publishers by binding name, to be passed on.
    #[must_use]
    pub fn publishers(&self) -> Publishers {
        self.publishers.clone()
    }

    /// Stops taking deliveries, lets the started ones finish for as long as the configuration says (30 s by default), and
    /// closes the brokers.
    ///
    /// Deliveries that have not finished by then are given back to be delivered again; none is dead-lettered by it. Closing takes at most
    /// one second more.
    ///
    /// # Errors
    /// None today: the report lists what could not be closed in order.
    pub async fn shutdown(self) -> Result<ShutdownReport> {
        let timeout = self.shutdown_timeout;
        self.shutdown_within(timeout).await
    }

    /// As [`shutdown`](Self::shutdown), with a time limit given here.
    ///
    /// # Errors
    /// As for [`shutdown`](Self::shutdown).
    pub async fn shutdown_within(mut self, timeout: Duration) -> Result<ShutdownReport> {
        let listeners = std::mem::take(&mut self.listeners);
        let brokers = std::mem::take(&mut self.brokers);
        Ok(shutdown::shutdown(listeners, &brokers, &self.publishers, &self.stop, timeout).await)
    }

    /// A handle that ends a running shutdown at once.
    #[must_use]
    pub fn hurry(&self) -> Hurry {
        Hurry(self.stop.clone())
    }
}

impl Drop for RunningApp {
    fn drop(&mut self) {
        // A shutdown has taken them.
        if !self.listeners.is_empty() {
            tracing::warn!("the running app was dropped without a shutdown: its listeners stop at once");
        }
        for listener in &self.listeners {
            listener.control.set_flow(Flow::Stopped);
        }
        // After a shutdown there is nobody left to hear it.
        self.stop.set(Stage::Abandoning);
    }
}

impl fmt::Debug for RunningApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningApp")
            .field("listeners", &self.listeners.iter().map(|listener| &*listener.policy.id).collect::<Vec<_>>())
            .field("brokers", &self.brokers.keys())
            .finish_non_exhaustive()
    }
}

/// Ends a shutdown at once: what is being handled is abandoned and given back.
#[derive(Clone, Debug)]
pub struct Hurry(Arc<Stop>);

impl Hurry {
    /// Does not wait for handlers any longer. While no shutdown is under way it stops all listeners.
    pub fn now(&self) {
        self.0.set(Stage::Abandoning);
    }
}
