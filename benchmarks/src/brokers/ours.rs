//! Our side of each comparison, on any broker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use messaging::{
    App, Broker, ConsumeOptions, Consumer, Delivery, Destination, Json, Listen, PublishOptions, Publisher,
    PublisherExt, QueueName, Retry, Start, SubscribeOptions, SubscriptionName, TopicName,
};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::load::{self, Load};
use crate::order::Order;
use crate::stopwatch::Stopwatch;

/// How long a consumer or an application may take to end; not part of any time.
const END: Duration = Duration::from_secs(20);

/// Where messages come from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    Queue(String),
    /// A durable subscription that begins with the topic's first message.
    Topic {
        topic: String,
        subscription: String,
    },
}

impl From {
    pub(crate) fn destination(&self) -> Destination {
        match self {
            Self::Queue(name) => Destination::queue(name).unwrap(),
            Self::Topic { topic, .. } => Destination::topic(topic).unwrap(),
        }
    }

    pub(crate) async fn consumer(&self, broker: &dyn Broker, prefetch: usize) -> Consumer {
        let consume = ConsumeOptions::default().with_prefetch(prefetch);
        match self {
            Self::Queue(name) => broker.consume(&QueueName::parse(name).unwrap(), consume).await.unwrap(),
            Self::Topic { topic, subscription } => {
                let options = SubscribeOptions::durable(SubscriptionName::parse(subscription).unwrap())
                    .with_start(Start::Earliest)
                    .with_consume(consume);
                broker.subscribe(&TopicName::parse(topic).unwrap(), options).await.unwrap()
            }
        }
    }

    fn listen(&self, prefetch: usize) -> Listen {
        match self {
            Self::Queue(name) => Listen::queue(name),
            Self::Topic { topic, subscription } => {
                Listen::topic(topic).subscription(subscription).start(Start::Earliest)
            }
        }
        .prefetch(prefetch)
        // More attempts need a broker that counts them, which a classic queue does not.
        .retry(Retry::default().attempts(2))
    }
}

pub(crate) async fn publisher(broker: &dyn Broker, to: &Destination, window: usize) -> Arc<dyn Publisher> {
    let options = PublishOptions::default().with_in_flight(window).with_in_flight_bytes(usize::MAX);
    broker.publisher(to, options).await.unwrap()
}

/// Publishes with up to `window` messages in flight and sees each confirmed, in order.
pub(crate) async fn publish(publisher: &dyn Publisher, load: &Load, messages: u64, window: usize) -> Duration {
    let begun = Stopwatch::start();
    if window == 1 {
        for _ in 0..messages {
            publisher.publish(load.message()).await.unwrap();
        }
        return begun.stop();
    }
    let mut sent = VecDeque::with_capacity(window);
    for _ in 0..messages {
        let message = load.message();
        let permit = publisher.core().in_flight().acquire(message.size()).await.unwrap();
        sent.push_back(publisher.send(message, permit));
        if sent.len() == window
            && let Some(oldest) = sent.pop_front()
        {
            oldest.await.unwrap();
        }
    }
    for outcome in sent {
        outcome.await.unwrap();
    }
    begun.stop()
}

/// How an application takes and acknowledges.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taking {
    /// As many as are there, up to so many, acknowledged together.
    Many(usize),
    /// Each by itself.
    One,
}

/// Takes and acknowledges so many messages; the time begins with the first of them.
pub(crate) async fn consume(mut consumer: Consumer, messages: u64, taking: Taking) -> Duration {
    let mut left = messages;
    let mut begun = None;
    let mut batch = Vec::new();
    while left > 0 {
        match taking {
            Taking::Many(most) => {
                let most = most.min(usize::try_from(left).unwrap_or(most));
                let taken = consumer.next_many_into(most, &mut batch).await.unwrap();
                begun.get_or_insert_with(Stopwatch::start);
                let acked = Delivery::ack_all(batch.drain(..)).await.unwrap();
                assert_eq!((acked.acked, acked.stale), (taken as u64, 0));
                left -= taken as u64;
            }
            Taking::One => {
                let delivery = consumer.next().await.unwrap().unwrap();
                begun.get_or_insert_with(Stopwatch::start);
                delivery.ack().await.unwrap();
                left -= 1;
            }
        }
    }
    let took = begun.unwrap().stop();
    let _report = consumer.close(END).await;
    took
}

/// Has a listener decode and handle so many messages; the time begins with the first of them and ends with the last. The
/// broker is the application's own: it is closed afterwards.
pub(crate) async fn listen(broker: Arc<dyn Broker>, from: &From, messages: u64, prefetch: usize) -> Duration {
    let progress = Progress::until(messages);
    let counted = Arc::clone(&progress);
    let handler = move |Json(order): Json<Order>| {
        counted.handled(order.id);
        std::future::ready(())
    };
    let running = App::new().broker("main", broker).listen(from.listen(prefetch), handler).start().await.unwrap();
    progress.done.notified().await;
    let _report = running.shutdown().await;
    progress.took()
}

/// Publishes 200 messages a second to a listener. How long each took from the publish call to the handler's start, in
/// nanoseconds; the first `warm_up` do not count.
pub(crate) async fn latency(broker: Arc<dyn Broker>, from: &From, messages: u64, warm_up: u64) -> Vec<u64> {
    let publisher = publisher(&*broker, &from.destination(), 1_000).await;
    let all = messages + warm_up;
    let progress = Progress::until(all);
    let taken = Arc::new(Mutex::new(Vec::with_capacity(all as usize)));
    let (counted, samples) = (Arc::clone(&progress), Arc::clone(&taken));
    let handler = move |payload: Bytes| {
        let age = load::age(&payload);
        samples.lock().unwrap().push(age.as_nanos() as u64);
        counted.handled(1);
        std::future::ready(())
    };
    let publishing = async {
        let mut ticks = ticks();
        let mut sent = VecDeque::new();
        for _ in 0..all {
            ticks.tick().await;
            let message = load::stamped();
            let permit = publisher.core().in_flight().acquire(message.size()).await.unwrap();
            sent.push_back(publisher.send(message, permit));
        }
        for outcome in sent {
            outcome.await.unwrap();
        }
    };
    let running = App::new().broker("main", broker).listen(from.listen(64), handler).start().await.unwrap();
    tokio::join!(publishing, progress.done.notified());
    let _report = running.shutdown().await;
    let samples = taken.lock().unwrap();
    samples[warm_up as usize..].to_vec()
}

/// The pace at which latency is measured.
pub(crate) const PER_SECOND: u64 = 200;

pub(crate) fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / PER_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// How many are still to be handled, and when the first and the last were.
pub(crate) struct Progress {
    left: AtomicU64,
    seen: AtomicU64,
    begun: OnceLock<Stopwatch>,
    ended: OnceLock<Stopwatch>,
    done: Notify,
}

impl Progress {
    pub(crate) fn until(messages: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(messages),
            seen: AtomicU64::new(0),
            begun: OnceLock::new(),
            ended: OnceLock::new(),
            done: Notify::new(),
        })
    }

    /// One worker handles, so that plain loads and stores do.
    pub(crate) fn handled(&self, seen: u64) {
        self.begun.get_or_init(Stopwatch::start);
        self.seen.store(self.seen.load(Ordering::Relaxed).wrapping_add(seen), Ordering::Relaxed);
        // More than so many come where messages are left over from a turn before, or come twice.
        let left = self.left.load(Ordering::Relaxed).wrapping_sub(1);
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            self.ended.get_or_init(Stopwatch::start);
            self.done.notify_one();
        }
    }

    fn took(&self) -> Duration {
        self.ended.get().unwrap().since(*self.begun.get().unwrap())
    }
}
