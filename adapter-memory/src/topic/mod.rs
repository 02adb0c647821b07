//! Topics: one log, and a cursor a subscription, so that publishing costs the same for one subscription as for a hundred.

mod feed;
mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use messaging_core::{
    Error, ErrorKind, Message, Names, Result, Source, Start, SubjectFilter, SubscriptionName, TopicName,
};
use parking_lot::Mutex;

pub(crate) use self::feed::Feed;
pub(crate) use self::log::{Appended, Log, LogState, tell};
use crate::backlog::Backlog;
use crate::clock::Clock;
use crate::config::DestinationOptions;
use crate::dedup::Dedup;
use crate::publisher::Sends;

/// A topic and its subscriptions.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) options: DestinationOptions,
    pub(crate) log: Arc<Log>,
    pub(crate) dedup: Option<Dedup>,
    clock: Clock,
    /// By their full names: namespaces that share a native topic have subscriptions of their own.
    durable: Mutex<BTreeMap<String, Arc<Backlog>>>,
    /// Ephemeral subscriptions that are attached.
    ephemeral: AtomicUsize,
}

impl Topic {
    pub(crate) fn new(name: TopicName, options: DestinationOptions, clock: Clock) -> Arc<Self> {
        let log = Arc::new(Log::new(options.clone(), clock));
        let dedup = options.dedup.map(Dedup::new);
        Arc::new(Self { name, options, log, dedup, clock, durable: Mutex::default(), ephemeral: AtomicUsize::new(0) })
    }

    pub(crate) fn subscription(&self, full: &str) -> Option<Arc<Backlog>> {
        self.durable.lock().get(full).cloned()
    }

    pub(crate) fn subscriptions(&self) -> Vec<Arc<Backlog>> {
        self.durable.lock().values().cloned().collect()
    }

    pub(crate) fn has_subscription(&self) -> bool {
        self.ephemeral.load(Ordering::Relaxed) > 0 || !self.durable.lock().is_empty()
    }

    /// The durable subscription of a name; made, beginning at `start`, if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if it is there with another filter.
    pub(crate) fn subscribe(
        &self,
        names: &Names,
        name: &SubscriptionName,
        start: Start,
        filter: Option<&SubjectFilter>,
    ) -> Result<Arc<Backlog>> {
        let source = Source::Subscription(self.name.clone(), name.clone());
        let full = names.source(&source);
        let mut durable = self.durable.lock();
        if let Some(known) = durable.get(&full) {
            let kept = known.feed().and_then(Feed::filter);
            if kept == filter {
                return Ok(Arc::clone(known));
            }
            let shown = |filter: Option<&SubjectFilter>| {
                filter.map_or("none".to_owned(), |filter| format!("{:?}", filter.as_str()))
            };
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "subscription {:?} of topic {:?} exists with filter {}, asked for is filter {}: use another name, or unsubscribe it first; nothing was changed",
                    name.as_str(),
                    self.name.as_str(),
                    shown(kept),
                    shown(filter)
                ),
            ));
        }
        let feed = Feed::durable(Arc::clone(&self.log), start, filter.cloned());
        let backlog = Backlog::subscription(Some(source), self.options.clone(), self.clock, feed);
        self.log.hold(&backlog);
        durable.insert(full, Arc::clone(&backlog));
        Ok(backlog)
    }

    pub(crate) fn attach(&self, filter: Option<&SubjectFilter>) -> Arc<Backlog> {
        self.ephemeral.fetch_add(1, Ordering::Relaxed);
        let feed = Feed::ephemeral(Arc::clone(&self.log), filter.cloned());
        Backlog::subscription(None, self.options.clone(), self.clock, feed)
    }

    pub(crate) fn detach(&self) {
        self.ephemeral.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends a durable subscription; false if there is none.
    pub(crate) fn unsubscribe(&self, full: &str) -> bool {
        let Some(backlog) = self.durable.lock().remove(full) else { return false };
        self.log.release(&backlog);
        backlog.with(|state, effects| {
            state.wipe(effects);
            state.gone = true;
            state.wake_all(effects);
        });
        true
    }

    /// Takes a message out of the parking; false if it was stored meanwhile.
    pub(crate) fn unpark(&self, ticket: u64, sends: &Sends) -> bool {
        let parked = self.log.unpark(ticket, sends);
        if let (Some(message), Some(dedup)) = (&parked, &self.dedup) {
            dedup.forget(message.id());
        }
        parked.is_some()
    }

    /// Publishes one message; gives it back if there is no room.
    pub(crate) fn publish(&self, message: Message) -> Appended {
        self.log.append(message)
    }
}

/// A published message in the log.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) message: Message,
    /// When it was published, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) due: u64,
    pub(crate) expires: u64,
}
