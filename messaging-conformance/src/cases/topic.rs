//! Topics: what each subscription sees, from when on, and what it misses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::try_join_all;
use messaging_core::{
    ConsumeOptions, Destination, ErrorKind, Event, Feature, Flow, Message, Publisher, PublisherExt, Readiness,
    Received, Start, SubjectFilter, SubscribeOptions, SubscriptionName, TopicName,
};

use super::traffic::Task;
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::tap::{Tap, same_multiset};
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Kind, text};

cases! {
    /// Each subscription gets every message.
    S1_each_subscription_gets_all on Durable => each_gets_all;
    /// Each ephemeral subscription gets every message published while it is attached.
    S1_each_ephemeral_subscription_gets_all on Ephemeral => each_ephemeral_gets_all;
    /// Members of one durable subscription share one copy; another subscription gets its own.
    S2_members_share_one_copy on Durable, needs SharedSubscription => members_share;
    /// An ephemeral subscription sees nothing from before it or while it was away.
    S3_ephemeral_sees_nothing_from_before on Ephemeral => ephemeral_sees_nothing_from_before;
    /// A durable subscription gets what was published while nobody was there.
    S4_durable_gets_what_it_missed on Durable => durable_gets_what_it_missed;
    /// A new subscription begins in the past where it is told to: at the earliest, at a time, at an offset.
    S5_replay on Durable, needs Replay => replay;
    /// After unsubscribing, nothing is kept for the subscription.
    S6_unsubscribe_stops on Durable => unsubscribe_stops;
    /// A filter lets pass what its pattern says: `*` exactly one word, `#` none or more.
    S7_subject_filters on Durable, needs SubjectFilter => subject_filters;
    /// A filter of an ephemeral subscription lets pass what its pattern says.
    S7_subject_filters_of_ephemeral_subscriptions on Ephemeral, needs SubjectFilter => ephemeral_subject_filters;
    /// Once subscribing has returned, nothing published later is missed.
    S8_ready_when_subscribed on Durable => ready_when_subscribed;
    /// Once subscribing has returned, an ephemeral subscription misses nothing published later.
    S8_an_ephemeral_one_is_ready_when_subscribed on Ephemeral => ephemeral_ready_when_subscribed;
    /// The start of a durable subscription is fixed when it is made, also if it crashes before its first acknowledgement.
    S9_the_start_is_fixed on Durable => the_start_is_fixed;
    /// An ephemeral subscription that was cut off is told of the gap.
    S10_a_cut_ephemeral_subscription_sees_a_gap on Ephemeral, with Line => a_gap_is_told;
    /// A paused ephemeral subscription gets nothing, and misses nothing.
    S11_a_paused_ephemeral_subscription_misses_nothing on Ephemeral => ephemeral_paused;
}

/// A topic and how to publish to it.
struct Channel {
    at: Bench,
    topic: TopicName,
    publisher: Arc<dyn Publisher>,
    readiness: Readiness,
}

impl Channel {
    async fn open(at: &Bench, kind: Kind) -> Verdict<Self> {
        let topic = at.topic();
        let publisher = at.publisher(&Destination::Topic(topic.clone())).await?;
        let readiness = at.capabilities(kind, false).readiness;
        Ok(Self { at: at.clone(), topic, publisher, readiness })
    }

    /// Subscribes, and waits where the broker says that it takes its time.
    async fn subscribe(&self, options: SubscribeOptions) -> Verdict<Tap> {
        let consumer = self.at.wait("subscribing", self.at.broker().subscribe(&self.topic, options)).await?;
        if let Readiness::Eventual(max) = self.readiness {
            self.at.outlast(max).await;
        }
        Ok(Tap::new(&self.at, consumer, PATIENCE * 2))
    }

    async fn ephemeral(&self) -> Verdict<Tap> {
        self.subscribe(SubscribeOptions::ephemeral()).await
    }

    async fn durable(&self, name: &SubscriptionName) -> Verdict<Tap> {
        self.subscribe(SubscribeOptions::durable(name.clone())).await
    }

    async fn publish(&self, messages: impl IntoIterator<Item = impl Into<Message>>) -> Verdict {
        for message in messages {
            self.at.wait("a publish", self.publisher.publish(message.into())).await?;
        }
        Ok(())
    }
}

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

async fn each_gets_all(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Durable).await?;
    let names: Vec<_> = (0..3).map(|_| at.subscription()).collect();
    let mut taps = try_join_all(names.iter().map(|name| channel.durable(name))).await?;
    channel.publish(numbers(0..20)).await?;
    for tap in &mut taps {
        tap.expect_all(numbers(0..20)).await?;
    }
    channel.publish(["sentinel"]).await?;
    for tap in &mut taps {
        tap.expect_next("sentinel").await?;
    }
    Ok(())
}

async fn each_ephemeral_gets_all(at: &Bench) -> Verdict {
    if !at.declared(Kind::Ephemeral).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Ephemeral).await?;
    let mut taps = try_join_all((0..3).map(|_| channel.ephemeral())).await?;
    channel.publish(numbers(0..20)).await?;
    for tap in &mut taps {
        tap.expect_all(numbers(0..20)).await?;
    }
    Ok(())
}

async fn members_share(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Durable).await?;
    let (shared, alone) = (at.subscription(), at.subscription());
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(channel.durable(&shared).await?);
    }
    let mut other = channel.durable(&alone).await?;
    channel.publish(numbers(0..30)).await?;
    other.expect_all(numbers(0..30)).await?;

    let mut got = Vec::new();
    while got.len() < 30 {
        let (head, tail) = members.split_at_mut(1);
        let delivery = tokio::select! {
            next = head[0].next() => next?,
            next = tail[0].next() => next?,
        };
        got.push(text(&delivery));
        at.settled(delivery.ack()).await?;
    }
    same_multiset(&numbers(0..30).collect::<Vec<_>>(), &got)?;
    channel.publish(["sentinel"]).await?;
    other.expect_next("sentinel").await?;
    let (head, tail) = members.split_at_mut(1);
    let last = tokio::select! {
        next = head[0].next() => next?,
        next = tail[0].next() => next?,
    };
    ensure_eq!(text(&last), "sentinel", "what the members get after all");
    at.settled(last.ack()).await
}

async fn ephemeral_sees_nothing_from_before(at: &Bench) -> Verdict {
    if !at.declared(Kind::Ephemeral).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Ephemeral).await?;
    channel.publish(["before"]).await?;
    let mut tap = channel.ephemeral().await?;
    channel.publish(["while attached"]).await?;
    tap.expect_next("while attached").await?;
    tap.close().await?;

    channel.publish(["while away"]).await?;
    let mut again = channel.ephemeral().await?;
    channel.publish(["after"]).await?;
    again.expect_next("after").await
}

async fn durable_gets_what_it_missed(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["attended"]).await?;
        tap.expect_next("attended").await?;
        tap.close().await?;

        place.publish_numbers(20).await?;
        let elsewhere = place.through(at.open().await?);
        let mut back = elsewhere.consumer(64).await?;
        back.expect_all(numbers(0..20)).await?;
        place.nothing_but_a_sentinel(&mut back).await?;
    }
    Ok(())
}

async fn replay(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Durable).await?;
    // One key, so that all are in one partition and an offset means one place.
    let message = |number: usize| Message::builder(number.to_string()).key("one").build();
    channel.publish((0..5).map(message).collect::<Result<Vec<_>, _>>()?).await?;
    // Times are compared to the millisecond, and brokers stamp by their own clock.
    pass_the_clock(Duration::from_millis(20));
    let half_time = SystemTime::now();
    pass_the_clock(Duration::from_millis(20));
    channel.publish((5..10).map(message).collect::<Result<Vec<_>, _>>()?).await?;

    let from = |start| SubscribeOptions::durable(at.subscription()).with_start(start);
    let mut earliest = channel.subscribe(from(Start::Earliest)).await?;
    let mut offset = None;
    for number in 0..10 {
        let delivery = earliest.next().await?;
        ensure_eq!(text(&delivery), number.to_string(), "the replay from the earliest");
        if number == 3 {
            offset = delivery.position().map(|position| position.offset);
        }
        at.settled(delivery.ack()).await?;
    }
    let mut timed = channel.subscribe(from(Start::At(half_time))).await?;
    timed.expect_all(numbers(5..10)).await?;
    if let Some(offset) = offset {
        let mut placed = channel.subscribe(from(Start::Offset(offset))).await?;
        placed.expect_all(numbers(3..10)).await?;
    }
    let mut new = channel.subscribe(from(Start::New)).await?;
    channel.publish(["sentinel"]).await?;
    new.expect_next("sentinel").await
}

/// Waits until the wall clock has moved on: a lower bound that virtual time does not know.
fn pass_the_clock(by: Duration) {
    // The wall clock tells the broker's records apart; a paused runtime does not move it.
    std::thread::sleep(by);
}

async fn unsubscribe_stops(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Durable).await?;
    let (leaving, staying) = (at.subscription(), at.subscription());
    let tap = channel.durable(&leaving).await?;
    let mut stays = channel.durable(&staying).await?;
    tap.close().await?;
    channel.publish(["kept for both"]).await?;
    stays.expect_next("kept for both").await?;
    at.wait("unsubscribing", at.broker().repair().unsubscribe(&channel.topic, &leaving)).await?;
    channel.publish(["after"]).await?;
    stays.expect_next("after").await?;

    let mut anew = channel.durable(&leaving).await?;
    channel.publish(["sentinel"]).await?;
    anew.expect_next("sentinel").await?;
    let missing = at.subscription();
    let error = at
        .refused("unsubscribing what is not there", at.broker().repair().unsubscribe(&channel.topic, &missing))
        .await?;
    ensure_eq!(error.kind(), ErrorKind::NotFound, "the kind of {error}");
    Ok(())
}

/// Subjects that are published to every filter.
const SUBJECTS: [&str; 8] =
    ["eu", "eu.created", "eu.created.now", "us.created", "created", "eu.deleted", "eu.eu.created", "eux.created"];

/// Filters, and which of the subjects pass; words of the contract's pattern table.
const PATTERNS: [(&str, &[&str]); 9] = [
    ("#", &SUBJECTS),
    ("eu.created", &["eu.created"]),
    ("eu.*", &["eu.created", "eu.deleted"]),
    ("*", &["eu", "created"]),
    ("*.created", &["eu.created", "us.created", "eux.created"]),
    ("eu.#", &["eu", "eu.created", "eu.created.now", "eu.deleted", "eu.eu.created"]),
    ("#.created", &["eu.created", "us.created", "created", "eu.eu.created", "eux.created"]),
    ("eu.#.created", &["eu.created", "eu.eu.created"]),
    ("*.*.*", &["eu.created.now", "eu.eu.created"]),
];

async fn subject_filters(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Durable).await?;
    filters_let_pass(&channel, || SubscribeOptions::durable(at.subscription())).await
}

async fn ephemeral_subject_filters(at: &Bench) -> Verdict {
    if !at.declared(Kind::Ephemeral).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Ephemeral).await?;
    filters_let_pass(&channel, SubscribeOptions::ephemeral).await
}

async fn filters_let_pass(channel: &Channel, options: impl Fn() -> SubscribeOptions) -> Verdict {
    for (pattern, passing) in PATTERNS {
        let mut tap = channel.subscribe(options().with_filter(SubjectFilter::parse(pattern)?)).await?;
        for subject in SUBJECTS {
            channel.publish([Message::builder(subject).subject(subject).key("one").build()?]).await?;
        }
        // A sentinel that passes this filter: the subject that does, again.
        let Some(last) = passing.last() else { continue };
        channel.publish([Message::builder("sentinel").subject(*last).key("one").build()?]).await?;
        let mut got = BTreeSet::new();
        loop {
            let delivery = tap.next().await?;
            let body = text(&delivery);
            channel.at.settled(delivery.ack()).await?;
            if body == "sentinel" {
                break;
            }
            ensure!(passing.contains(&body.as_str()), "the filter {pattern:?} let {body:?} pass");
            ensure!(got.insert(body.clone()), "the filter {pattern:?} let {body:?} pass twice");
        }
        ensure_eq!(got.len(), passing.len(), "how many of {passing:?} passed {pattern:?}; passed: {got:?}");
    }
    Ok(())
}

async fn ready_when_subscribed(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    for _ in 0..5 {
        let channel = Channel::open(at, Kind::Durable).await?;
        let mut tap = channel.durable(&at.subscription()).await?;
        channel.publish(["first"]).await?;
        tap.expect_next("first").await?;
    }
    Ok(())
}

async fn ephemeral_ready_when_subscribed(at: &Bench) -> Verdict {
    if !at.declared(Kind::Ephemeral).await? {
        return Ok(());
    }
    for _ in 0..5 {
        let channel = Channel::open(at, Kind::Ephemeral).await?;
        let mut tap = channel.ephemeral().await?;
        channel.publish(["first"]).await?;
        tap.expect_next("first").await?;
    }
    Ok(())
}

async fn the_start_is_fixed(at: &Bench) -> Verdict {
    if !at.declared(Kind::Durable).await? {
        return Ok(());
    }
    let mut starts = vec![(Start::New, false)];
    if at.capabilities(Kind::Durable, false).supports(Feature::Replay) {
        starts.push((Start::Earliest, true));
    }
    for (start, sees_before) in starts {
        let channel = Channel::open(at, Kind::Durable).await?;
        // One key, so that they are in one order.
        let keyed = |body: &str| Message::builder(body.to_owned()).key("one").build();
        channel.publish([keyed("before")?]).await?;
        let options = SubscribeOptions::durable(at.subscription()).with_start(start);
        // It crashes before it acknowledges anything; what is published meanwhile is its own.
        let crashing = channel.subscribe(options.clone()).await?;
        drop(crashing);
        channel.publish([keyed("meanwhile")?]).await?;
        let mut tap = channel.subscribe(options).await?;
        if sees_before {
            tap.expect_next("before").await?;
        }
        tap.expect_next("meanwhile").await?;
    }
    Ok(())
}

/// More than are on their way to a consumer that takes one at a time.
const UNSEEN: usize = 50;
/// How many messages may come after a gap before it is told.
const BACK: usize = 20;

async fn a_gap_is_told(at: &Bench) -> Verdict {
    if !at.declared(Kind::Ephemeral).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Ephemeral).await?;
    let options = SubscribeOptions::ephemeral().with_consume(ConsumeOptions::default().with_prefetch(1));
    let mut tap = channel.subscribe(options).await?;
    channel.publish(["seen"]).await?;
    tap.expect_next("seen").await?;

    // Published and not taken when the line goes down: what of it is lost to this subscription is told to it.
    channel.publish((0..UNSEEN).map(|number| format!("unseen-{number}"))).await?;
    at.stage().set_line(crate::Line::Down).await?;
    at.stage().set_line(crate::Line::Up).await?;
    let (mut seen, mut back, mut told) = (0, 0, false);
    let waiting = Task::spawn(async move {
        // The gap may be told behind the first messages after it.
        while back == 0 || !told && seen < UNSEEN && back < BACK {
            match within("an event or a delivery after the cut", PATIENCE * 2, tap.consumer().receive()).await?? {
                None => return Err(Stop::failed("the consumer ended, though nobody stopped it")),
                Some(Received::Event(Event::Gap { .. })) => told = true,
                Some(Received::Event(_)) => {}
                Some(Received::Delivery(delivery)) => {
                    let text = text(&delivery);
                    // Around a cut a settlement may fail.
                    drop(within("a settlement", PATIENCE, delivery.ack()).await?);
                    if text == "back" { back += 1 } else { seen += 1 }
                }
            }
        }
        Verdict::Ok((seen, told))
    });
    at.eventually("the subscription sees messages again", || async {
        // Refused as long as the connection is not back.
        drop(channel.publisher.publish("back").await);
        Ok(waiting.is_over())
    })
    .await?;
    let (seen, told) = waiting.join("the subscription that was cut off").await??;
    ensure!(told || seen == UNSEEN, "of {UNSEEN} messages {seen} came, and nobody told of a gap");
    Ok(())
}

async fn ephemeral_paused(at: &Bench) -> Verdict {
    if !at.declared(Kind::Ephemeral).await? {
        return Ok(());
    }
    let channel = Channel::open(at, Kind::Ephemeral).await?;
    // Fewer than come: some wait in the consumer, the others at the broker.
    let options = SubscribeOptions::ephemeral().with_consume(ConsumeOptions::default().with_prefetch(4));
    let mut tap = channel.subscribe(options).await?;
    let control = tap.control();
    channel.publish(["held"]).await?;
    let held = tap.next().await?;
    control.set_flow(Flow::Paused);
    channel.publish(numbers(0..10)).await?;
    let granularity = at.capabilities(Kind::Ephemeral, false).limits.time_granularity;
    at.outlast((granularity * 3).max(Duration::from_millis(40))).await;
    ensure!(tap.is_dry().await?, "a paused subscription got a delivery");
    at.settled(held.ack()).await?;
    ensure!(tap.is_dry().await?, "a paused subscription got a delivery once it had room");

    control.set_flow(Flow::Running);
    tap.expect_all(numbers(0..10)).await?;
    channel.publish(["sentinel"]).await?;
    tap.expect_next("sentinel").await
}
