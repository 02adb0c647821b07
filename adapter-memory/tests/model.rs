//! The broker against a naive model: a queue as a list, a subscription as a list of its own.
//!
//! Random sequences of operations run on both, with the clock paused. After every step each message must be in exactly one
//! place, and depth, attempts and positions must be the model's. What may be delivered is the model's to say: the exact next
//! message where nothing but one list is in play, one of those that are due otherwise.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use adapter_memory::{Data, MemoryServer};
use common::*;
use messaging_core::{
    Broker, ConsumeOptions, Consumer, Delivery, Destination, Flow, Lease, Message, Order, Part, PublishOptions,
    Publisher, PublisherExt, QueueName, Redrive, RetryMode, Source, Start, SubjectFilter, SubscribeOptions, TopicName,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

const LEASE: Duration = Duration::from_secs(10);
const PREFETCH: usize = 3;
const CONSUMERS: usize = 3;

#[derive(Clone, Debug)]
struct Made {
    key: Option<u8>,
    delay: u8,
    ttl: u8,
    priority: Option<u8>,
    subject: u8,
}

#[derive(Clone, Debug)]
enum Op {
    Publish(Made),
    Batch(Vec<Made>),
    Join(usize),
    Leave(usize),
    Flow(usize, bool),
    Stop(usize),
    Receive(usize, usize),
    Settle(usize, How),
    AckAll(usize),
    Stale(usize),
    Advance(u8),
    Redrive(Option<u8>),
    Purge(bool),
    Cut,
    Restart(bool),
    Browse,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Ack,
    Retry,
    RetryAfter(u8),
    Release,
    DeadLetter,
    Drop,
    Extend(u8),
}

fn made() -> impl Strategy<Value = Made> {
    let rarely = |most: u8| prop_oneof![6 => Just(0), 1 => 1..=most];
    let key = prop_oneof![2 => Just(None), 3 => (0u8..3).prop_map(Some)];
    (key, rarely(15), rarely(20), prop_oneof![8 => Just(None), 1 => (0u8..10).prop_map(Some)], 0u8..3)
        .prop_map(|(key, delay, ttl, priority, subject)| Made { key, delay, ttl, priority, subject })
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        5 => Just(How::Ack),
        2 => Just(How::Retry),
        2 => (1u8..12).prop_map(How::RetryAfter),
        1 => Just(How::Release),
        1 => Just(How::DeadLetter),
        1 => Just(How::Drop),
        1 => (1u8..20).prop_map(How::Extend),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..CONSUMERS;
    prop_oneof![
        8 => made().prop_map(Op::Publish),
        2 => prop::collection::vec(made(), 0..5).prop_map(Op::Batch),
        2 => who.clone().prop_map(Op::Join),
        1 => who.clone().prop_map(Op::Leave),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, on)| Op::Flow(who, on)),
        1 => who.clone().prop_map(Op::Stop),
        8 => (who.clone(), 1usize..5).prop_map(|(who, max)| Op::Receive(who, max)),
        8 => (any::<usize>(), how()).prop_map(|(which, how)| Op::Settle(which, how)),
        1 => who.prop_map(Op::AckAll),
        1 => any::<usize>().prop_map(Op::Stale),
        3 => (1u8..12).prop_map(Op::Advance),
        1 => prop::option::of(0u8..3).prop_map(Op::Redrive),
        1 => any::<bool>().prop_map(Op::Purge),
        1 => Just(Op::Cut),
        1 => any::<bool>().prop_map(Op::Restart),
        1 => Just(Op::Browse),
    ]
}

/// Where a message is. Times are seconds since the beginning.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// It may be delivered from `due` on.
    Waiting {
        due: u64,
    },
    Out {
        holder: usize,
        ends: u64,
    },
    Dead,
    Gone,
}

#[derive(Clone, Debug)]
struct Known {
    key: Option<u8>,
    priority: u8,
    expires: u64,
    attempts: u32,
    redriven: u32,
    place: Place,
    /// Where it stands: the number of its publishing, or of its going to the tail.
    turn: u64,
    /// It was handed out, and its key waits for it to be settled.
    leads: bool,
    /// It was published for later, or redriven: its place is where it came to then.
    came_later: bool,
}

/// The list.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<usize, Known>,
    now: u64,
    turns: u64,
    ordered: bool,
}

impl Model {
    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    fn publish(&mut self, number: usize, made: &Made) {
        let turn = self.turn();
        let after = |wait: u8| self.now + u64::from(wait);
        let known = Known {
            key: made.key,
            priority: made.priority.unwrap_or(4),
            expires: if made.ttl == 0 { u64::MAX } else { after(made.ttl) },
            attempts: 0,
            redriven: 0,
            place: Place::Waiting { due: after(made.delay) },
            turn,
            leads: false,
            came_later: made.delay > 0,
        };
        self.messages.insert(number, known);
    }

    /// Leases end, and what has expired goes as soon as it waits and is due.
    fn tick(&mut self) {
        let now = self.now;
        for known in self.messages.values_mut() {
            if let Place::Out { ends, .. } = known.place
                && ends <= now
            {
                known.place = Place::Waiting { due: now };
            }
        }
    }

    fn is_live(&self, known: &Known) -> bool {
        known.expires > self.now
    }

    /// Another message of the key has its turn.
    fn is_blocked(&self, number: usize) -> bool {
        let known = &self.messages[&number];
        if !self.ordered || known.key.is_none() || known.leads {
            return false;
        }
        self.messages.iter().any(|(other, its)| {
            let has_turn = match its.place {
                Place::Out { .. } => true,
                // Expired or not: it is looked at when its retry is due.
                Place::Waiting { due } => its.leads && (self.is_live(its) || due > self.now),
                _ => false,
            };
            *other != number && its.key == known.key && has_turn
        })
    }

    /// What may be delivered now.
    fn deliverable(&self) -> BTreeSet<usize> {
        let due = |known: &Known| matches!(known.place, Place::Waiting { due } if due <= self.now);
        let ready = self.messages.iter().filter(|(_, known)| due(known) && self.is_live(known));
        ready.map(|(number, _)| *number).filter(|number| !self.is_blocked(*number)).collect()
    }

    fn held(&self, by: usize) -> usize {
        self.messages.values().filter(|known| matches!(known.place, Place::Out { holder, .. } if holder == by)).count()
    }

    fn count(&self, matches: impl Fn(&Known) -> bool) -> u64 {
        self.messages.values().filter(|known| matches(known)).count() as u64
    }
}

struct World {
    server: MemoryServer,
    broker: Arc<dyn Broker>,
    publisher: Arc<dyn Publisher>,
    source: Source,
    topic: bool,
    hold: bool,
    consumers: Vec<Option<Consumer>>,
    running: Vec<Flow>,
    held: Vec<(usize, usize, Delivery)>,
    stale: Vec<Delivery>,
    model: Model,
    next: usize,
}

impl World {
    async fn new(topic: bool, hold: bool) -> Self {
        let server = MemoryServer::private();
        let broker = server.broker();
        let (to, source) = match topic {
            false => (Destination::Queue(queue()), of_queue()),
            true => (Destination::Topic(self::topic()), of_subscription("s")),
        };
        let publisher = broker.publisher(&to, PublishOptions::default()).await.unwrap();
        let mut world = Self {
            server,
            broker,
            publisher,
            source,
            topic,
            hold,
            consumers: (0..CONSUMERS).map(|_| None).collect(),
            running: vec![Flow::Running; CONSUMERS],
            held: Vec::new(),
            stale: Vec::new(),
            model: Model { ordered: hold, ..Model::default() },
            next: 0,
        };
        world.join(0).await;
        world
    }

    fn options(&self) -> ConsumeOptions {
        let options =
            ConsumeOptions::default().with_prefetch(PREFETCH).with_lease(Lease { duration: LEASE, max: LEASE });
        if self.hold { options.with_order(Order::ByKey).with_retry_mode(RetryMode::Hold) } else { options }
    }

    async fn join(&mut self, who: usize) {
        self.leave(who);
        let consumer = match self.topic {
            false => self.broker.consume(&queue(), self.options()).await,
            true => {
                let filter = SubjectFilter::parse("a.#").unwrap();
                let options = durable("s").with_filter(filter).with_consume(self.options());
                self.broker.subscribe(&topic(), options).await
            }
        };
        self.consumers[who] = Some(consumer.unwrap());
        self.running[who] = Flow::Running;
    }

    fn leave(&mut self, who: usize) {
        self.consumers[who] = None;
        self.take_back(|holder| holder == who);
    }

    /// What these hold is stale from now on, and waits again.
    fn take_back(&mut self, whose: impl Fn(usize) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.held).into_iter().partition(|(_, holder, _)| whose(*holder));
        self.held = kept;
        let gone: Vec<(usize, usize, Delivery)> = gone;
        for (number, holder, delivery) in gone {
            let known = self.model.messages.get_mut(&number).unwrap();
            if matches!(known.place, Place::Out { holder: by, .. } if by == holder) {
                known.place = Place::Waiting { due: self.model.now };
            }
            self.stale.push(delivery);
        }
    }

    fn make(&mut self, made: &Made) -> Message {
        let number = self.next;
        self.next += 1;
        let subject = ["a", "a.b", "b"][usize::from(made.subject)];
        let mut builder = Message::builder(number.to_string()).subject(subject);
        if let Some(key) = made.key {
            builder = builder.key(format!("key {key}"));
        }
        if made.delay > 0 {
            builder = builder.delay(Duration::from_secs(made.delay.into()));
        }
        if made.ttl > 0 {
            builder = builder.ttl(Duration::from_secs(made.ttl.into()));
        }
        if let Some(priority) = made.priority {
            builder = builder.priority(priority);
        }
        if !self.topic || subject != "b" {
            self.model.publish(number, made);
        }
        builder.build().unwrap()
    }

    async fn run(&mut self, op: &Op) -> TestCaseResult {
        self.model.tick();
        match op {
            Op::Publish(made) => {
                let message = self.make(made);
                self.publisher.publish(message).await.unwrap();
            }
            Op::Batch(many) => {
                let messages = many.iter().map(|made| self.make(made)).collect();
                self.publisher.publish_batch(messages).await.into_iter().for_each(|result| assert!(result.is_ok()));
            }
            Op::Join(who) => self.join(*who).await,
            Op::Leave(who) => self.leave(*who),
            Op::Flow(who, on) => {
                if let Some(consumer) = &self.consumers[*who]
                    && self.running[*who] != Flow::Stopped
                {
                    self.running[*who] = if *on { Flow::Running } else { Flow::Paused };
                    consumer.control().set_flow(self.running[*who]);
                }
            }
            Op::Stop(who) => {
                if let Some(consumer) = &mut self.consumers[*who] {
                    consumer.stop();
                    self.running[*who] = Flow::Stopped;
                }
            }
            Op::Receive(who, max) => self.receive(*who, *max)?,
            Op::Settle(which, how) => self.settle(*which, *how).await?,
            Op::AckAll(who) => self.ack_all(*who).await?,
            Op::Stale(which) => {
                if !self.stale.is_empty() {
                    let delivery = self.stale.swap_remove(which % self.stale.len());
                    let error = delivery.ack().await.unwrap_err();
                    prop_assert_eq!(error.kind(), messaging_core::ErrorKind::StaleDelivery);
                }
            }
            Op::Advance(seconds) => {
                tokio::time::advance(Duration::from_secs((*seconds).into())).await;
                self.model.now += u64::from(*seconds);
                self.model.tick();
            }
            Op::Redrive(first) => self.redrive(*first).await?,
            Op::Purge(live) => self.purge(*live).await?,
            Op::Cut => {
                self.server.cut_consumers();
                self.take_back(|_| true);
            }
            Op::Restart(keep) => {
                self.server.restart(if *keep { Data::Keep } else { Data::Lose });
                self.take_back(|_| true);
                if !keep {
                    self.model.messages.values_mut().for_each(|known| known.place = Place::Gone);
                }
            }
            Op::Browse => {
                let before = self.broker.inspect().depth(&self.source).await.unwrap();
                let browsed = self.broker.inspect().browse(&self.source, 1_000).await.unwrap();
                prop_assert!(browsed.len() as u64 <= before.ready);
                prop_assert_eq!(self.broker.inspect().depth(&self.source).await.unwrap(), before);
            }
        }
        self.check().await
    }

    fn receive(&mut self, who: usize, max: usize) -> TestCaseResult {
        let Some(consumer) = &mut self.consumers[who] else { return Ok(()) };
        let room = PREFETCH - self.model.held(who).min(PREFETCH);
        let taken = poll_once(&mut Box::pin(consumer.next_many(max))).transpose().unwrap();
        let taken = match self.running[who] {
            Flow::Running => taken.unwrap_or_default(),
            Flow::Paused => {
                prop_assert!(taken.is_none());
                return Ok(());
            }
            _ => {
                prop_assert!(taken.is_some_and(|none| none.is_empty()));
                return Ok(());
            }
        };
        prop_assert!(taken.len() <= max.min(room), "{} with room for {room}", taken.len());
        if taken.len() < max.min(room) {
            // It would have been given more, had there been more. Of one key one comes at a time.
            let keys: BTreeSet<_> = taken.iter().map(|delivery| delivery.message().key().map(str::to_owned)).collect();
            let numbers: BTreeSet<usize> = taken.iter().map(|delivery| text(delivery).parse().unwrap()).collect();
            let left = self.model.deliverable().into_iter().filter(|number| !numbers.contains(number));
            let left: Vec<_> = left
                .filter(|number| {
                    let key = self.model.messages[number].key.map(|key| format!("key {key}"));
                    !(self.hold && key.is_some() && keys.contains(&key))
                })
                .collect();
            prop_assert!(left.is_empty(), "not delivered: {left:?}");
        }
        for delivery in taken {
            let number: usize = text(&delivery).parse().unwrap();
            let deliverable = self.model.deliverable();
            prop_assert!(
                deliverable.contains(&number),
                "{number} of {deliverable:?}: {:?}",
                self.model.messages.get(&number)
            );
            self.check_order(number, &deliverable)?;
            let now = self.model.now;
            let known = self.model.messages.get_mut(&number).unwrap();
            known.attempts += 1;
            known.leads = self.hold && known.key.is_some();
            known.place = Place::Out { holder: who, ends: now + LEASE.as_secs() };
            prop_assert_eq!(delivery.attempt(), known.attempts);
            prop_assert_eq!(delivery.redriven(), known.redriven);
            self.held.push((number, who, delivery));
        }
        Ok(())
    }

    /// Nothing of a higher priority was left behind, and of one key the oldest goes first.
    fn check_order(&self, number: usize, deliverable: &BTreeSet<usize>) -> TestCaseResult {
        let this = &self.model.messages[&number];
        for other in deliverable {
            let other = &self.model.messages[other];
            // Who waits for its key's turn keeps its place, whatever its priority.
            let in_lane = self.hold && other.key.is_some();
            prop_assert!(in_lane || other.priority <= this.priority, "{this:?} went before {other:?}");
            let comparable = other.priority == this.priority && other.key == this.key && this.key.is_some();
            if self.hold && comparable && !this.leads && !this.came_later && !other.came_later {
                prop_assert!(other.turn >= this.turn, "{this:?} went before {other:?}");
            }
        }
        Ok(())
    }

    async fn settle(&mut self, which: usize, how: How) -> TestCaseResult {
        if self.held.is_empty() {
            return Ok(());
        }
        let (number, holder, delivery) = self.held.swap_remove(which % self.held.len());
        let now = self.model.now;
        let turn = self.model.turn();
        let known = self.model.messages.get_mut(&number).unwrap();
        let is_held = matches!(known.place, Place::Out { holder: by, .. } if by == holder)
            && delivery.attempt() == known.attempts
            && delivery.redriven() == known.redriven;
        if let How::Extend(seconds) = how {
            let result = delivery.extend(Duration::from_secs(seconds.into())).await;
            prop_assert_eq!(result.is_ok(), is_held);
            if let Place::Out { ends, .. } = &mut known.place
                && is_held
            {
                *ends = (*ends).max(now + u64::from(seconds));
            }
            self.held.push((number, holder, delivery));
            return Ok(());
        }
        let backoff = Delivery::drop_backoff(delivery.attempt());
        let result = match how {
            How::Ack => delivery.ack().await,
            How::Retry => delivery.retry().await,
            How::RetryAfter(seconds) => delivery.retry_after(Duration::from_secs(seconds.into())).await,
            How::Release => delivery.release().await,
            How::DeadLetter => delivery.dead_letter("rejected").await,
            How::Drop | How::Extend(_) => {
                drop(delivery);
                if is_held && !backoff.is_zero() {
                    // Back-offs are parts of seconds: let this one pass.
                    let passing = backoff.as_secs() + 1;
                    known.place = Place::Waiting { due: now };
                    known.turn = if self.hold && known.key.is_some() { known.turn } else { turn };
                    tokio::time::advance(Duration::from_secs(passing)).await;
                    self.model.now += passing;
                    self.model.tick();
                    return Ok(());
                }
                if is_held {
                    Ok(())
                } else {
                    Err(messaging_core::Error::new(messaging_core::ErrorKind::StaleDelivery, ""))
                }
            }
        };
        prop_assert_eq!(result.is_ok(), is_held, "{:?}", result);
        if !is_held {
            return Ok(());
        }
        let keeps_turn = self.hold && known.key.is_some();
        match how {
            How::Ack => known.place = Place::Gone,
            How::DeadLetter => (known.place, known.leads) = (Place::Dead, false),
            How::Release => {
                known.attempts -= 1;
                known.place = Place::Waiting { due: now };
            }
            How::RetryAfter(seconds) => {
                known.place = Place::Waiting { due: now + u64::from(seconds) };
                known.turn = if keeps_turn { known.turn } else { turn };
            }
            How::Retry | How::Drop | How::Extend(_) => {
                known.place = Place::Waiting { due: now };
                known.turn = if keeps_turn { known.turn } else { turn };
            }
        }
        Ok(())
    }

    async fn ack_all(&mut self, who: usize) -> TestCaseResult {
        let (mine, kept) = std::mem::take(&mut self.held).into_iter().partition(|(_, holder, _)| *holder == who);
        self.held = kept;
        let mine: Vec<(usize, usize, Delivery)> = mine;
        let (mut good, mut deliveries) = (0, Vec::new());
        for (number, holder, delivery) in mine {
            let known = self.model.messages.get_mut(&number).unwrap();
            if matches!(known.place, Place::Out { holder: by, .. } if by == holder)
                && delivery.attempt() == known.attempts
                && delivery.redriven() == known.redriven
            {
                known.place = Place::Gone;
                good += 1;
            }
            deliveries.push(delivery);
        }
        let count = deliveries.len() as u64;
        let acked = Delivery::ack_all(deliveries).await.unwrap();
        prop_assert_eq!((acked.acked, acked.stale), (good, count - good));
        Ok(())
    }

    async fn redrive(&mut self, first: Option<u8>) -> TestCaseResult {
        let dead = self.broker.inspect().dead_letters(&self.source, 1_000).await.unwrap();
        let limit = first.map_or(usize::MAX, usize::from);
        let which = first.map_or(Redrive::All, |count| Redrive::First(count.into()));
        let count = self.broker.repair().redrive(&self.source, which).await.unwrap();
        prop_assert_eq!(count, dead.len().min(limit) as u64);
        for letter in dead.iter().take(limit) {
            let number: usize = std::str::from_utf8(letter.message.payload()).unwrap().parse().unwrap();
            let turn = self.model.turn();
            let now = self.model.now;
            let known = self.model.messages.get_mut(&number).unwrap();
            prop_assert_eq!(&known.place, &Place::Dead);
            prop_assert_eq!((letter.attempts, letter.redriven), (known.attempts, known.redriven));
            known.place = Place::Waiting { due: now };
            known.attempts = 0;
            known.redriven += 1;
            known.turn = turn;
            (known.leads, known.came_later) = (false, true);
            if let Some(ttl) = letter.message.ttl() {
                known.expires = now + ttl.as_secs();
            }
        }
        Ok(())
    }

    async fn purge(&mut self, live: bool) -> TestCaseResult {
        let before = self.broker.inspect().depth(&self.source).await.unwrap();
        let part = if live { Part::Live } else { Part::Dead };
        let count = self.broker.repair().purge(&self.source, part).await.unwrap().unwrap();
        if live {
            let now = self.model.now;
            let least = self.model.count(|known| matches!(known.place, Place::Waiting { .. }) && known.expires > now);
            prop_assert!(count >= least, "purged {count} of {least}");
        } else {
            prop_assert_eq!(Some(count), before.dead);
        }
        for known in self.model.messages.values_mut() {
            let purged = match known.place {
                Place::Waiting { .. } => live,
                Place::Dead => !live,
                _ => false,
            };
            if purged {
                known.place = Place::Gone;
            }
        }
        Ok(())
    }

    /// Each message is in one place, and the broker's numbers are the model's.
    async fn check(&mut self) -> TestCaseResult {
        self.model.tick();
        let depth = self.broker.inspect().depth(&self.source).await.unwrap();
        let model = &self.model;
        let now = model.now;
        let out = model.count(|known| matches!(known.place, Place::Out { .. }));
        prop_assert_eq!(depth.unsettled, Some(out));
        prop_assert_eq!(depth.dead, Some(model.count(|known| known.place == Place::Dead)));
        let waits = |known: &Known, later: bool| matches!(known.place, Place::Waiting { due } if (due > now) == later);
        // What has expired goes when it is found: at the latest when it would be delivered.
        let least = model.count(|known| waits(known, false) && known.expires > now);
        let most = model.count(|known| waits(known, false));
        prop_assert!((least..=most).contains(&depth.ready), "ready {} of {least} to {most}", depth.ready);
        let least = model.count(|known| waits(known, true) && known.expires > now);
        let most = model.count(|known| waits(known, true));
        let delayed = depth.delayed.unwrap();
        prop_assert!((least..=most).contains(&delayed), "delayed {delayed} of {least} to {most}");
        for who in 0..CONSUMERS {
            prop_assert!(model.held(who) <= PREFETCH);
        }
        if self.hold {
            let mut keys = BTreeSet::new();
            for known in model.messages.values().filter(|known| matches!(known.place, Place::Out { .. })) {
                prop_assert!(known.key.is_none_or(|key| keys.insert(key)), "two of key {:?} are out", known.key);
            }
        }
        if self.topic {
            self.check_positions().await?;
        }
        Ok(())
    }

    /// Offsets are the numbers of publishing: the lowest that is open is what is committed.
    async fn check_positions(&self) -> TestCaseResult {
        let position = self.broker.inspect().positions(&self.source).await.unwrap()[0];
        prop_assert_eq!(position.end, self.next as u64);
        let is_open = |known: &Known| matches!(known.place, Place::Waiting { .. } | Place::Out { .. });
        let open = self.model.messages.iter().filter(|(_, known)| is_open(known) && self.model.is_live(known));
        let lowest = open.map(|(number, _)| *number as u64).min().unwrap_or(self.next as u64);
        // Nothing that is open lies below, and what is settled does not hold it back.
        prop_assert!(position.committed <= lowest, "{position:?}, open {lowest}");
        let at = self.model.messages.get(&(position.committed as usize));
        let is_settled = |known: &Known| matches!(known.place, Place::Gone | Place::Dead) && self.model.is_live(known);
        prop_assert!(!at.is_some_and(is_settled), "{position:?} {at:?}");
        prop_assert!(position.current <= position.end, "{position:?}");
        Ok(())
    }

    /// In the end everything that is left comes out, once.
    async fn drain(&mut self) -> TestCaseResult {
        self.take_back(|_| true);
        self.stale.clear();
        self.consumers.iter_mut().for_each(|consumer| *consumer = None);
        tokio::time::advance(Duration::from_secs(100)).await;
        self.model.now += 100;
        self.model.tick();
        self.join(0).await;
        loop {
            self.receive(0, PREFETCH)?;
            if self.held.is_empty() {
                break;
            }
            while !self.held.is_empty() {
                self.settle(0, How::Ack).await?;
            }
        }
        let left: Vec<_> = self.model.deliverable().into_iter().collect();
        prop_assert!(left.is_empty(), "lost: {left:?}");
        prop_assert_eq!(self.broker.inspect().depth(&self.source).await.unwrap().open(), 0);
        Ok(())
    }
}

fn run(topic: bool, hold: bool, ops: &[Op]) -> TestCaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(topic, hold).await;
        for op in ops {
            world.run(op).await?;
        }
        world.drain().await
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_queue_is_a_list(ops in prop::collection::vec(op(), 1..80)) {
        run(false, false, &ops)?;
    }

    #[test]
    fn a_queue_that_keeps_key_order_is_a_list_for_each_key(ops in prop::collection::vec(op(), 1..80)) {
        run(false, true, &ops)?;
    }

    #[test]
    fn a_subscription_is_a_list_of_what_its_filter_lets_pass(ops in prop::collection::vec(op(), 1..80)) {
        run(true, false, &ops)?;
    }

    #[test]
    fn a_subscription_that_keeps_key_order_is_a_list_for_each_key(ops in prop::collection::vec(op(), 1..80)) {
        run(true, true, &ops)?;
    }
}

/// What becomes of one of many subscriptions.
#[derive(Clone, Debug)]
enum TopicOp {
    Publish(u8),
    Subscribe(u8, u8, u8),
    Unsubscribe(u8),
    Take(u8, u8),
}

fn topic_op() -> impl Strategy<Value = TopicOp> {
    prop_oneof![
        4 => (0u8..3).prop_map(TopicOp::Publish),
        2 => (0u8..4, 0u8..3, any::<u8>()).prop_map(|(who, filter, start)| TopicOp::Subscribe(who, filter, start)),
        1 => (0u8..4).prop_map(TopicOp::Unsubscribe),
        4 => (0u8..5, 1u8..6).prop_map(|(who, max)| TopicOp::Take(who, max)),
    ]
}

const FILTERS: [&str; 3] = ["#", "a.*", "b.#"];
const SUBJECTS: [&str; 3] = ["a.x", "b", "b.x.y"];
const LAG: usize = 5;

/// A topic as one list and a cursor for each subscription.
async fn run_topic(ops: &[TopicOp]) -> TestCaseResult {
    let (_server, broker) = open(&format!("ephemeral_lag={LAG}"));
    let topic: TopicName = topic();
    let publisher = to_topic(&broker).await;
    let filters = FILTERS.map(|filter| SubjectFilter::parse(filter).unwrap());
    let mut log: Vec<usize> = Vec::new();
    let mut subscriptions: BTreeMap<u8, (Consumer, usize, usize)> = BTreeMap::new();
    let ephemeral = broker.subscribe(&topic, SubscribeOptions::ephemeral()).await.unwrap();
    subscriptions.insert(4, (ephemeral, 0, 0));
    for op in ops {
        match *op {
            TopicOp::Publish(subject) => {
                let subject = usize::from(subject);
                let message = Message::builder(log.len().to_string()).subject(SUBJECTS[subject]).build().unwrap();
                let receipt = publisher.publish(message).await.unwrap();
                prop_assert_eq!(receipt.position.unwrap().offset, log.len() as u64);
                log.push(subject);
            }
            TopicOp::Subscribe(who, filter, start) => {
                let filter = usize::from(filter);
                let (start, from) = match start % 3 {
                    0 => (Start::New, log.len()),
                    1 => (Start::Earliest, 0),
                    _ => (Start::Offset(u64::from(start) / 8), (usize::from(start) / 8).min(log.len())),
                };
                let options = durable(&format!("s{who}")).with_start(start).with_filter(filters[filter].clone());
                match (broker.subscribe(&topic, options).await, subscriptions.get_mut(&who)) {
                    (Ok(consumer), None) => {
                        subscriptions.insert(who, (consumer, filter, from));
                    }
                    // A subscription keeps its place: its start was fixed when it was made.
                    (Ok(consumer), Some(known)) => known.0 = consumer,
                    (Err(error), known) => {
                        prop_assert_eq!(error.kind(), messaging_core::ErrorKind::Mismatch);
                        prop_assert!(known.is_some_and(|known| known.1 != filter));
                    }
                }
            }
            TopicOp::Unsubscribe(who) => {
                let removed = broker.repair().unsubscribe(&topic, &name(&format!("s{who}"))).await;
                prop_assert_eq!(removed.is_ok(), subscriptions.remove(&who).is_some());
            }
            TopicOp::Take(who, max) => {
                let Some((consumer, filter, cursor)) = subscriptions.get_mut(&who) else { continue };
                if who == 4 {
                    *cursor = (*cursor).max(log.len().saturating_sub(LAG));
                }
                let passes = |index: &usize| filters[*filter].matches(Some(&SUBJECTS[log[*index]].try_into().unwrap()));
                let expected: Vec<usize> = (*cursor..log.len()).filter(passes).take(max.into()).collect();
                let taken = poll_once(&mut Box::pin(consumer.next_many(max.into()))).transpose().unwrap();
                let taken = taken.unwrap_or_default();
                let numbers: Vec<usize> = taken.iter().map(|delivery| text(delivery).parse().unwrap()).collect();
                prop_assert_eq!(&numbers, &expected);
                *cursor = expected.last().map_or(*cursor, |last| last + 1);
                Delivery::ack_all(taken).await.unwrap();
            }
        }
        for (who, (_, filter, cursor)) in &subscriptions {
            if *who == 4 {
                continue;
            }
            let passes = |index: &usize| filters[*filter].matches(Some(&SUBJECTS[log[*index]].try_into().unwrap()));
            let left = (*cursor..log.len()).filter(passes).count() as u64;
            prop_assert_eq!(broker.inspect().lag(&of_subscription(&format!("s{who}"))).await.unwrap(), left);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_topic_is_a_list_with_cursors(ops in prop::collection::vec(topic_op(), 1..100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run_topic(&ops))?;
    }
}

/// A queue is not disturbed by what happens to another.
#[tokio::test(start_paused = true)]
async fn queues_do_not_mix() {
    let (_server, broker) = open("");
    let other = QueueName::parse("other").unwrap();
    to_queue(&broker).await.publish("one").await.unwrap();
    let mut consumer = broker.consume(&other, ConsumeOptions::default()).await.unwrap();
    assert!(poll_once(&mut Box::pin(consumer.next())).is_none());
}
