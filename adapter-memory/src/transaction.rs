//! Sends and acknowledgements that happen together or not at all.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::spi::{Settler, Unsettled};
use messaging_core::{Delivery, Destination, Error, ErrorKind, Message, Result, Settlement, Transaction};
use parking_lot::MutexGuard;

use crate::backlog::{Backlog, Effects, State, full};
use crate::broker::MemoryBroker;
use crate::consumer::Attachment;
use crate::dedup::Dedup;
use crate::publisher::Target;
use crate::topic::{LogState, Topic, tell};

pub(crate) struct MemoryTransaction {
    broker: MemoryBroker,
    sends: Vec<(Target, Message)>,
    acks: Vec<(Unsettled, Arc<dyn Settler>)>,
}

impl MemoryTransaction {
    pub(crate) fn new(broker: MemoryBroker) -> Self {
        Self { broker, sends: Vec::new(), acks: Vec::new() }
    }

    /// Everything under the locks of all places that take part, taken in one order.
    fn apply(&mut self) -> Result<()> {
        self.broker.check_link()?;
        let sends = std::mem::take(&mut self.sends);
        let attachments = self.acks.iter().map(|(_, settler)| attachment(settler)).collect::<Result<Vec<_>>>()?;
        let server = Arc::clone(self.broker.server());
        let _one_at_a_time = server.committing.lock();

        let queues = sends.iter().filter_map(|(target, _)| match target {
            Target::Queue(queue) => Some(Arc::clone(queue)),
            _ => None,
        });
        let mut places: Vec<Arc<Backlog>> =
            attachments.iter().map(|attachment| attachment.backlog()).chain(queues).collect();
        places.sort_by_key(|place| Arc::as_ptr(place).addr());
        places.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let mut topics: Vec<Arc<Topic>> = sends
            .iter()
            .filter_map(|(target, _)| match target {
                Target::Topic(topic) => Some(Arc::clone(topic)),
                _ => None,
            })
            .collect();
        topics.sort_by_key(|topic| Arc::as_ptr(topic).addr());
        topics.dedup_by(|one, other| Arc::ptr_eq(one, other));

        let now = server.clock.now();
        let mut effects = Effects::default();
        let mut waiting = Vec::new();
        {
            // Backlogs before logs, as everywhere.
            let mut states: Vec<MutexGuard<'_, State>> = places.iter().map(|place| place.lock()).collect();
            let mut logs: Vec<MutexGuard<'_, LogState>> = topics.iter().map(|topic| topic.log.lock()).collect();
            let place_of = |backlog: &Arc<Backlog>| places.iter().position(|place| Arc::ptr_eq(place, backlog));
            let topic_of = |wanted: &Arc<Topic>| topics.iter().position(|topic| Arc::ptr_eq(topic, wanted));

            for ((unsettled, _), attachment) in self.acks.iter().zip(&attachments) {
                let held = place_of(&attachment.backlog()).is_some_and(|at| states[at].holds(unsettled.tag));
                if !held {
                    return Err(crate::backlog::stale());
                }
            }
            for (at, place) in places.iter().enumerate() {
                let more = sends
                    .iter()
                    .filter(|(target, _)| matches!(target, Target::Queue(queue) if Arc::ptr_eq(queue, place)))
                    .count();
                if more > 0 && states[at].open() + more > place.options.capacity {
                    return Err(full(&place.options));
                }
            }
            for (at, topic) in topics.iter().enumerate() {
                let more = sends
                    .iter()
                    .filter(|(target, _)| matches!(target, Target::Topic(other) if Arc::ptr_eq(other, topic)))
                    .count();
                if !topic.log.fits(&mut logs[at], more) {
                    return Err(full(&topic.options));
                }
            }

            for (target, message) in sends {
                match &target {
                    Target::Queue(queue) => {
                        if !is_duplicate(queue.dedup.as_ref(), &message, now)
                            && let Some(at) = place_of(queue)
                        {
                            queue.store(&mut states[at], message, &mut effects);
                        }
                    }
                    Target::Topic(topic) => {
                        if !is_duplicate(topic.dedup.as_ref(), &message, now)
                            && let Some(at) = topic_of(topic)
                        {
                            waiting.extend(topic.log.append_locked(&mut logs[at], message));
                        }
                    }
                    // Refused when they were added.
                    Target::Reply(_) | Target::Assumed(_) => {}
                }
            }
            for ((unsettled, _), attachment) in self.acks.drain(..).zip(&attachments) {
                let backlog = attachment.backlog();
                if let Some(at) = place_of(&backlog) {
                    backlog.ack_locked(&mut states[at], unsettled.tag, &mut effects);
                }
            }
        }
        effects.run();
        tell(waiting);
        Ok(())
    }

    /// What was to be acknowledged is retried.
    fn give_back(&mut self) {
        self.sends.clear();
        for (unsettled, settler) in self.acks.drain(..) {
            let after = Delivery::drop_backoff(unsettled.attempt);
            drop(settler.settle(unsettled, Settlement::Retry { after }));
        }
    }
}

/// Whether a message was published before, within the window of its destination.
fn is_duplicate(dedup: Option<&Dedup>, message: &Message, now: u64) -> bool {
    dedup.is_some_and(|dedup| dedup.is_duplicate(message.id(), now))
}

fn attachment(settler: &Arc<dyn Settler>) -> Result<Arc<Attachment>> {
    let any: Arc<dyn Any + Send + Sync> = Arc::clone(settler) as _;
    any.downcast().map_err(|_| {
        Error::new(
            ErrorKind::Unsupported,
            "a delivery of another broker cannot be acknowledged in this broker's transaction",
        )
    })
}

#[async_trait]
impl Transaction for MemoryTransaction {
    fn send(&mut self, to: &Destination, message: Message) -> Result<()> {
        self.broker.check_open()?;
        match self.broker.target(to)? {
            Target::Assumed(_) => Err(Error::missing(to, &self.broker.names().destination(to))),
            Target::Reply(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "a reply cannot be part of a transaction: publish it after the commit",
            )),
            target => {
                self.sends.push((target, message));
                Ok(())
            }
        }
    }

    fn ack(&mut self, delivery: Delivery) {
        self.acks.push(delivery.into_parts());
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.apply()
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        self.give_back();
        Ok(())
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for MemoryTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransaction")
            .field("sends", &self.sends.len())
            .field("acks", &self.acks.len())
            .finish_non_exhaustive()
    }
}
