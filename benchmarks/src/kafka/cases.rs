//! Cases of the comparison: publishing, consuming and listening, with 1 and 4 partitions and several sizes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::raw::{self, Reader};
use super::{CONFIRMED_GOAL, CONSUMED_GOAL, IN_FLIGHT_LIMIT, LISTENED_GOAL, PARTITIONS, Sides, UNSETTLED_LIMIT};
use crate::brokers::load::{Load, USUAL_PAYLOAD_BYTES};
use crate::brokers::ours::{self, Taking};
use crate::compare::{Case, Turn};
use crate::flavour::Flavour;

/// How many ours takes at a time where it takes many.
pub(super) const MANY_MESSAGES: usize = 512;

/// Payloads in bytes; other cases have the usual one.
pub(super) const PAYLOAD_SIZES: [usize; 4] = [100, USUAL_PAYLOAD_BYTES, 1_024, 16 * 1_024];

pub(super) fn all(sides: &Arc<Sides>) -> Vec<Case> {
    let mut cases = Vec::new();
    for partitions in PARTITIONS {
        let on = |load| Setup { sides: Arc::clone(sides), partitions, load };
        for size in PAYLOAD_SIZES {
            cases.push(publish(&on(Load::of(size)), IN_FLIGHT_LIMIT));
            cases.push(consume(&on(Load::of(size)), Taking::Many(MANY_MESSAGES)));
        }
        cases.push(publish(&on(Load::of(USUAL_PAYLOAD_BYTES)), 1));
        cases.push(consume(&on(Load::of(USUAL_PAYLOAD_BYTES)), Taking::One));
        cases.push(listen(&on(Load::order())));
    }
    cases
}

/// Settings that all sides of a case share.
#[derive(Clone)]
struct Setup {
    sides: Arc<Sides>,
    partitions: i32,
    load: Load,
}

impl Setup {
    /// A turn on a topic of its own, which is removed afterwards.
    fn publishing<F>(&self, act: impl Fn(Self, String, u64) -> F + 'static) -> Turn
    where
        F: Future<Output = Duration> + Send + 'static,
    {
        let setup = self.clone();
        Box::new(move |messages| {
            let run = |topic| setup.sides.site.run(act(setup.clone(), topic, messages));
            setup.sides.with_topic(setup.partitions, run)
        })
    }

    /// A turn on a topic that has the messages, which are left there.
    fn reading<F>(&self, act: impl Fn(Self, String, u64) -> F + 'static) -> Turn
    where
        F: Future<Output = Duration> + Send + 'static,
    {
        let setup = self.clone();
        Box::new(move |messages| {
            let topic = setup.sides.filled(&setup.load, setup.partitions, messages);
            setup.sides.site.run(act(setup.clone(), topic, messages))
        })
    }

    /// A new group of the raw client that reads the topic from its beginning.
    fn reader(&self, topic: &str) -> Reader {
        Reader::open(&self.sides.servers, topic, &self.sides.fresh("raw"))
    }

    fn setting(&self, how: &str) -> String {
        format!("p{}, {how}, {}", self.partitions, self.load.size())
    }

    fn is_usual(&self) -> bool {
        self.load.payload.len() == USUAL_PAYLOAD_BYTES
    }
}

fn publish(setup: &Setup, window: usize) -> Case {
    let equal = || {
        setup.publishing(move |setup, topic, messages| async move {
            setup.sides.sender.publish(&topic, &setup.load, messages, window).await
        })
    };
    let ours = match setup.sides.ours.clone() {
        None => equal(),
        Some(broker) => setup.publishing(move |setup, topic, messages| {
            let broker = Arc::clone(&broker);
            async move {
                let publisher = ours::publisher(&*broker, &setup.sides.from(topic).destination(), window).await;
                // As on the other side.
                ours::publish(&*publisher, &setup.load, 1, 1).await;
                ours::publish(&*publisher, &setup.load, messages, window).await
            }
        }),
    };
    let mut references = vec![("equal", Some(CONFIRMED_GOAL), equal())];
    if window > 1 && setup.is_usual() {
        let floor = setup.publishing(|setup, topic, messages| async move {
            setup.sides.sender.publish_floor(&topic, &setup.load, messages).await
        });
        references.push(("floor", None, floor));
    }
    let begin = if window == 1 { 500 } else { 20_000 };
    let setting = setup.setting(&format!("{window} in flight"));
    Case { name: "publish", setting, flavour: Flavour::TwoThreads, begin, ours, references }
}

fn consume(setup: &Setup, taking: Taking) -> Case {
    let equal = || {
        setup.reading(|setup, topic, messages| async move {
            let mut reader = setup.reader(&topic);
            let took = raw::consume(&mut reader, messages).await;
            reader.close().await;
            took
        })
    };
    let ours = match setup.sides.ours.clone() {
        None => equal(),
        Some(broker) => setup.reading(move |setup, topic, messages| {
            let broker = Arc::clone(&broker);
            async move {
                let consumer = setup.sides.from(topic).consumer(&*broker, UNSETTLED_LIMIT).await;
                ours::consume(consumer, messages, taking).await
            }
        }),
    };
    let mut references = vec![("equal", Some(CONSUMED_GOAL), equal())];
    if matches!(taking, Taking::Many(_)) && setup.is_usual() {
        let floor = setup.reading(|setup, topic, messages| async move {
            let group = setup.sides.fresh("raw");
            tokio::task::block_in_place(|| raw::floor(&setup.sides.servers, &topic, &group, messages))
        });
        references.push(("floor", None, floor));
    }
    let setting = setup.setting(if matches!(taking, Taking::One) { "one" } else { "many" });
    Case { name: "consume", setting, flavour: Flavour::TwoThreads, begin: 50_000, ours, references }
}

fn listen(setup: &Setup) -> Case {
    let equal = || {
        setup.reading(|setup, topic, messages| async move {
            let mut reader = setup.reader(&topic);
            let took = raw::listen(&mut reader, messages).await;
            reader.close().await;
            took
        })
    };
    let ours = match &setup.sides.ours {
        None => equal(),
        Some(_) => setup.reading(|setup, topic, messages| async move {
            let broker = setup.sides.connect().await;
            ours::listen(broker, &setup.sides.from(topic), messages, UNSETTLED_LIMIT).await
        }),
    };
    let references = vec![("equal", Some(LISTENED_GOAL), equal())];
    let setting = setup.setting("JSON");
    Case { name: "listener", setting, flavour: Flavour::TwoThreads, begin: 50_000, ours, references }
}
