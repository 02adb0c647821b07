//! Planning, inspecting and repairing.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueuePurgeOptions};
use lapin::types::ShortString;
use messaging_core::wire::{DeadLetterMark, Facts};
use messaging_core::{
    Browsed, DeadLetter, Declaration, Depth, Destination, Error, ErrorKind, Inspect, Part, Plan, PlanAction, PlanStep,
    Redrive, Repair, Result, Source, SubscriptionName, TopicName, TopologyMode,
};
use tokio::time::{Instant, sleep, timeout};

use crate::broker::RabbitBroker;
use crate::connection::Line;
use crate::convert::{Incoming, Reading, read, read_mark};
use crate::delay::Delays;
use crate::error::{Call, from_lapin, silent};
use crate::layout::{lane_of, short};
use crate::topology::{Session, Topology};
use crate::writer::{CopyPlace, CopyTo};

/// How long to wait until what was looked at is back in its queue; other consumers may have it by then.
const BACK_WITHIN: Duration = Duration::from_millis(300);

#[async_trait]
impl messaging_core::Topology for RabbitBroker {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        let mut steps = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            steps.push(self.step(declaration).await?);
        }
        Ok(Plan { steps })
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        for declaration in declarations {
            match declaration {
                Declaration::Destination(destination) => drop(self.topology().destination(destination).await?),
                Declaration::Subscription { topic, name, start: _, filter } => {
                    let source = Source::Subscription(topic.clone(), name.clone());
                    self.topology().source(&source, filter.as_ref()).await?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Inspect for RabbitBroker {
    async fn depth(&self, source: &Source) -> Result<Depth> {
        let mut session = self.topology().session();
        let mut depth = Depth::default();
        for queue in self.topology().queue_names(source) {
            let state = session.queue(&queue).await?.ok_or_else(|| Error::missing(source, &queue))?;
            depth.ready += state.ready;
        }
        let dead = session.queue(&self.topology().names.dead(source)).await?;
        depth.dead = Some(dead.map_or(0, |dead| dead.ready));
        session.close().await;
        // What is unsettled is told by nothing but the management plugin, seconds late; what is delayed, by two hundred questions.
        Ok(depth)
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        let ready = self.depth(source).await?.ready;
        Ok(ready + self.unsettled_here(source))
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        let mut seen = Vec::new();
        for queue in self.topology().queue_names(source) {
            let found = first_of(self, source, &queue, max.saturating_sub(seen.len())).await?;
            seen.extend(found.into_iter().map(|Found { incoming, .. }| Browsed {
                attempts: incoming.attempt.saturating_sub(1),
                message: incoming.message,
            }));
        }
        Ok(seen)
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let found = first_of(self, source, &self.topology().names.dead(source), max).await?;
        Ok(found.into_iter().map(|found| found.mark.with_message(found.incoming.message)).collect())
    }
}

#[async_trait]
impl Repair for RabbitBroker {
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        let queue = self.topology().names.dead(source);
        let mut session = self.topology().session();
        let waiting = session.queue(&queue).await?.ok_or_else(|| Error::missing(source, &queue))?.ready;
        let mut left = match which {
            Redrive::First(count) => waiting.min(count as u64),
            Redrive::All | Redrive::Ids(_) => waiting,
        };
        let mut look = Look::at(self, source, &queue).await?;
        let mut result = Ok(0);
        while left > 0 {
            left -= 1;
            let redriven = match look.next().await {
                Ok(Some(found)) => self.redrive_one(&mut look, &found, source, &which).await,
                Ok(None) => break,
                Err(error) => Err(error),
            };
            result = match (result, redriven) {
                (Ok(count), Ok(is_redriven)) => Ok(count + u64::from(is_redriven)),
                (_, Err(error)) | (Err(error), _) => {
                    result = Err(error);
                    break;
                }
            };
        }
        let removed = result.as_ref().copied().unwrap_or(waiting);
        look.give_back(&mut session, waiting, removed).await;
        session.close().await;
        result
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        let queues = match part {
            Part::Live => self.topology().queue_names(source),
            Part::Dead => vec![self.topology().names.dead(source)],
        };
        let mut session = self.topology().session();
        let mut purged = 0;
        for queue in queues {
            let missing = || Error::missing(source, &queue);
            let name = short("the name of a queue", &queue)?;
            let count = session
                .call("purging a queue", Call::Declare, |channel| {
                    let queue = name.clone();
                    async move { channel.queue_purge(queue, QueuePurgeOptions::default()).await }
                })
                .await
                .map_err(|error| if error.kind() == ErrorKind::NotFound { missing() } else { error })?;
            purged += u64::from(count);
        }
        session.close().await;
        Ok(Some(purged))
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        let source = Source::Subscription(topic.clone(), name.clone());
        let queues = self.topology().queue_names(&source);
        let mut session = self.topology().session();
        if session.queue(&queues[0]).await?.is_none() {
            return Err(Error::missing(&source, &queues[0]));
        }
        let buckets = queues.iter().flat_map(|queue| Delays::names(queue)).filter(|name| self.knows_bucket(name));
        // The first queue last: by it one sees whether there is still something to delete.
        let dead = [self.topology().names.dead(&source)];
        let all: Vec<String> = buckets.chain(dead).chain(queues.iter().rev().cloned()).collect();
        self.end_consumers(&source);
        for queue in all {
            session.delete_queue(&queue).await?;
        }
        session.close().await;
        Ok(())
    }
}

/// Looking at the first messages of a queue. They are taken, and given back at the end, which counts as a delivery.
struct Look<'a> {
    source: &'a Source,
    queue: ShortString,
    channel: Line,
    limit: Duration,
    reading: Reading,
    /// What was looked at and is still there, in order.
    held: Vec<u64>,
}

struct Found {
    tag: u64,
    incoming: Incoming,
    mark: DeadLetterMark,
}

impl<'a> Look<'a> {
    async fn at(broker: &RabbitBroker, source: &'a Source, queue: &str) -> Result<Self> {
        let topology = broker.topology();
        let channel = topology.link.channel(Instant::now() + topology.config.request_timeout).await?;
        Ok(Self {
            source,
            queue: short("the name of a queue", queue)?,
            channel,
            limit: topology.config.request_timeout,
            reading: topology.reading(source)?,
            held: Vec::new(),
        })
    }

    async fn next(&mut self) -> Result<Option<Found>> {
        let got = self.channel.basic_get(self.queue.clone(), BasicGetOptions { no_ack: false });
        let got = self.answer(got).await?;
        let Some(got) = got.map_err(|error| from_lapin(&error, Call::Consume))? else { return Ok(None) };
        let lapin::message::Delivery {
            delivery_tag: tag, exchange, routing_key, redelivered, properties, data, ..
        } = got.delivery;
        self.held.push(tag);
        let payload = Bytes::from(data);
        let incoming = read(payload, properties.clone(), &exchange, &routing_key, redelivered, &self.reading);
        let mark = read_mark(&properties, self.source, incoming.attempt);
        Ok(Some(Found { tag, incoming, mark }))
    }

    async fn remove(&mut self, found: &Found) -> Result<()> {
        self.held.retain(|tag| *tag != found.tag);
        let done = self.channel.basic_ack(found.tag, BasicAckOptions { multiple: false });
        let done = self.answer(done).await?;
        done.map_err(|error| from_lapin(&error, Call::Consume))
    }

    /// Awaits a call of the client, which may never answer.
    async fn answer<T>(&self, call: impl Future<Output = T>) -> Result<T> {
        match timeout(self.limit, self.channel.unless_lost(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(silent("looking at a queue", self.limit)),
        }
    }

    /// Returns what was looked at, and ends the channel. A quorum queue takes its time: whoever looks next waits for it here.
    async fn give_back(self, session: &mut Session<'_>, before: u64, removed: u64) {
        // Never of a tag that is gone: the broker would close the channel while this closes it, and when the two cross, the
        // client takes the last answer for one of an unknown channel and ends the whole connection (lapin 4.12.3).
        if let Some(tag) = self.held.last() {
            let back = self.channel.basic_nack(*tag, BasicNackOptions { multiple: true, requeue: true });
            let _ = self.answer(back).await;
        }
        let _ = timeout(Duration::from_secs(2), self.channel.close(200, "done".into())).await;
        let by = Instant::now() + BACK_WITHIN;
        while Instant::now() < by {
            match session.queue(self.queue.as_str()).await {
                Ok(Some(state)) if state.ready + removed < before => sleep(Duration::from_millis(2)).await,
                _ => return,
            }
        }
    }
}

async fn first_of(broker: &RabbitBroker, source: &Source, queue: &str, max: usize) -> Result<Vec<Found>> {
    let mut session = broker.topology().session();
    let before = session.queue(queue).await?.ok_or_else(|| Error::missing(source, queue))?.ready;
    let mut look = Look::at(broker, source, queue).await?;
    let mut found = Vec::new();
    let mut result = Ok(());
    while found.len() < max {
        match look.next().await {
            Ok(Some(next)) => found.push(next),
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    look.give_back(&mut session, before, 0).await;
    session.close().await;
    result.map(|()| found)
}

impl RabbitBroker {
    /// A confirmed copy to where it failed, and then the dead letter goes. Returns whether it was wanted.
    async fn redrive_one(&self, look: &mut Look<'_>, found: &Found, source: &Source, which: &Redrive) -> Result<bool> {
        let message = &found.incoming.message;
        if let Redrive::Ids(ids) = which
            && !ids.contains(message.id())
        {
            return Ok(false);
        }
        let live = self.topology().queue_names(source);
        let place = CopyPlace::Queue(short("the name of a queue", &live[lane_of(message, live.len())])?);
        let facts = Facts { redriven: found.mark.redriven + 1, ..Facts::default() };
        // Its time to live would be over at once.
        let message = message.to_builder().without_ttl().build_foreign();
        self.copies().copy(message, CopyTo { place, facts, mandatory: true, dead_letter_of: None }).await?;
        look.remove(found).await?;
        Ok(true)
    }

    fn knows_bucket(&self, name: &str) -> bool {
        self.delays().knows(name)
    }

    /// What applying one declaration would do: asked by verifying, which changes nothing.
    async fn step(&self, declaration: &Declaration) -> Result<PlanStep> {
        let topology = self.topology();
        let verify =
            Topology::new(topology.link.clone(), topology.config.clone(), topology.names.clone(), TopologyMode::Verify);
        let (what, physical_name, found) = match declaration {
            Declaration::Destination(destination) => {
                let name = match destination {
                    Destination::Topic(topic) => topology.exchange_name(topic),
                    Destination::Queue(_) | Destination::Reply(_) => topology.names.destination(destination),
                };
                (destination.to_string(), name, verify.destination(destination).await.map(drop))
            }
            Declaration::Subscription { topic, name, start: _, filter } => {
                let source = Source::Subscription(topic.clone(), name.clone());
                let physical_name = topology.names.source(&source);
                (source.to_string(), physical_name, verify.source(&source, filter.as_ref()).await.map(drop))
            }
        };
        let action = match found {
            Ok(()) => PlanAction::Keep,
            Err(error) if error.kind() == ErrorKind::NotFound => PlanAction::Create,
            Err(error) if error.kind() == ErrorKind::Mismatch => PlanAction::Differs(vec![error.text().to_owned()]),
            Err(error) => return Err(error),
        };
        Ok(PlanStep { what, physical_name, action })
    }
}
