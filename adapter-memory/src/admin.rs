//! Topology, inspection and repair on the memory broker.

use async_trait::async_trait;
use messaging_core::{
    Browsed, DeadLetter, Declaration, Depth, Destination, Error, ErrorKind, Inspect, Part, Plan, PlanAction, PlanStep,
    Redrive, Repair, Result, Source, SourcePosition, SubscriptionName, TopicName, Topology,
};

use crate::backlog::{Effects, Entry};
use crate::broker::MemoryBroker;

impl MemoryBroker {
    fn step(&self, declaration: &Declaration) -> PlanStep {
        let kept = |differences: Vec<String>| {
            if differences.is_empty() { PlanAction::Keep } else { PlanAction::Differs(differences) }
        };
        match declaration {
            Declaration::Destination(destination) => {
                let physical_name = self.names().destination(destination);
                let options = self.options(destination);
                let is = match destination {
                    Destination::Queue(_) => {
                        self.server().queue(&physical_name).map(|queue| queue.options.differences(options))
                    }
                    Destination::Topic(_) => {
                        self.server().topic(&physical_name).map(|topic| topic.options.differences(options))
                    }
                    Destination::Reply(_) => Some(Vec::new()),
                };
                PlanStep { what: destination.to_string(), physical_name, action: is.map_or(PlanAction::Create, kept) }
            }
            Declaration::Subscription { topic, name, start: _, filter } => {
                let source = Source::Subscription(topic.clone(), name.clone());
                let physical_name = self.names().source(&source);
                let physical = self.names().destination(&Destination::Topic(topic.clone()));
                let known = self.server().topic(&physical).and_then(|topic| topic.subscription(&physical_name));
                let shown = |filter: Option<&messaging_core::SubjectFilter>| {
                    filter.map_or("none".to_owned(), |filter| filter.to_string())
                };
                let is = known.map(|backlog| {
                    let filter_is = backlog.feed().and_then(crate::topic::Feed::filter).cloned();
                    if filter_is == *filter {
                        Vec::new()
                    } else {
                        vec![format!(
                            "filter is {}, asked for is {}",
                            shown(filter_is.as_ref()),
                            shown(filter.as_ref())
                        )]
                    }
                });
                PlanStep { what: source.to_string(), physical_name, action: is.map_or(PlanAction::Create, kept) }
            }
        }
    }
}

#[async_trait]
impl Topology for MemoryBroker {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.check_open()?;
        Ok(Plan { steps: declarations.iter().map(|declaration| self.step(declaration)).collect() })
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        self.check_open()?;
        for declaration in declarations {
            match declaration {
                Declaration::Destination(destination) => drop(self.target(destination)?),
                Declaration::Subscription { topic, name, start, filter } => {
                    if let Some(topic) = self.topic(topic)? {
                        drop(topic.subscribe(self.names(), name, *start, filter.as_ref())?);
                    }
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Inspect for MemoryBroker {
    async fn depth(&self, source: &Source) -> Result<Depth> {
        let backlog = self.source(source)?;
        let now = backlog.clock.now();
        Ok(backlog.with(|state, effects| {
            state.tick(now, effects);
            backlog.sweep(state, now, effects);
            let mut depth = state.depth();
            if let Some(feed) = backlog.feed() {
                let (ready, delayed) = feed.depth(now, backlog.options.expired);
                depth.ready += ready;
                depth.delayed = depth.delayed.map(|fetched| fetched + delayed);
            }
            depth
        }))
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        let backlog = self.source(source)?;
        let Some(feed) = backlog.feed() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{source} is not a subscription of a topic: it has no log and no positions"),
            ));
        };
        let state = backlog.lock();
        let fetched = feed.cursor();
        let position = SourcePosition {
            partition: 0,
            current: state.lowest_waiting().unwrap_or(fetched).min(fetched),
            committed: state.lowest_open().unwrap_or(fetched).min(fetched),
            end: feed.log().end(),
        };
        Ok(vec![position])
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        let backlog = self.source(source)?;
        let now = backlog.clock.now();
        Ok(backlog.with(|state, effects| {
            state.tick(now, effects);
            let live = state.ready().filter(|entry| entry.expires > now);
            let seen = |entry: &Entry| Browsed { message: entry.message.clone(), attempts: entry.attempts };
            let mut browsed: Vec<Browsed> = live.take(max).map(seen).collect();
            if let Some(feed) = backlog.feed() {
                let more = feed.peek(max - browsed.len(), now);
                browsed.extend(more.into_iter().map(|message| Browsed { message, attempts: 0 }));
            }
            browsed
        }))
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let backlog = self.source(source)?;
        let now = backlog.clock.now();
        Ok(backlog.with(|state, effects| {
            state.tick(now, effects);
            backlog.sweep(state, now, effects);
            let letter = |dead: &crate::backlog::Dead| DeadLetter {
                message: dead.entry.message.clone(),
                origin: source.clone(),
                reason: dead.reason.clone(),
                attempts: dead.entry.attempts,
                redriven: u32::from(dead.entry.redriven),
                at: dead.at,
            };
            state.dead.iter().take(max).map(letter).collect()
        }))
    }
}

#[async_trait]
impl Repair for MemoryBroker {
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        let backlog = self.source(source)?;
        Ok(backlog.with(|state, effects| {
            let limit = if let Redrive::First(count) = which { count } else { usize::MAX };
            let wanted = |dead: &crate::backlog::Dead| match &which {
                Redrive::All | Redrive::First(_) => true,
                Redrive::Ids(ids) => ids.contains(dead.entry.message.id()),
            };
            let mut count = 0;
            for dead in std::mem::take(&mut state.dead) {
                if count < limit && wanted(&dead) {
                    count += 1;
                    backlog.redrive(state, dead.entry, effects);
                } else {
                    state.dead.push_back(dead);
                }
            }
            count as u64
        }))
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        let backlog = self.source(source)?;
        let count = match part {
            Part::Dead => std::mem::take(&mut backlog.lock().dead).len() as u64,
            Part::Live => {
                let mut effects = Effects::default();
                let mut state = backlog.lock();
                let unfetched = backlog.feed().map_or(0, crate::topic::Feed::skip_to_end);
                let count = state.purge(&mut effects) + unfetched;
                // Who waits may not be known to the topic yet: there was more, and it could not be fetched.
                state.wake_all(&mut effects);
                drop(state);
                effects.run();
                count
            }
        };
        backlog.room_came();
        Ok(Some(count))
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        self.check_open()?;
        let source = Source::Subscription(topic.clone(), name.clone());
        let full = self.names().source(&source);
        let physical = self.names().destination(&Destination::Topic(topic.clone()));
        let removed = self.server().topic(&physical).is_some_and(|topic| topic.unsubscribe(&full));
        if removed { Ok(()) } else { Err(Error::missing(source, &full)) }
    }
}
