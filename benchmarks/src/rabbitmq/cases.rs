//! Cases of the comparison: publishing, consuming and listening, on both kinds of queue and with several sizes.

use std::sync::Arc;

use super::{CONFIRMED_GOAL, CONSUMED_GOAL, IN_FLIGHT_LIMIT, LISTENED_GOAL, Sides, Type, UNSETTLED_LIMIT};
use crate::brokers::load::{Load, USUAL_PAYLOAD_BYTES};
use crate::brokers::ours::{self, From, Taking};
use crate::compare::{Case, Turn};
use crate::flavour::Flavour;

/// How many ours takes at a time where it takes many.
pub(super) const MANY_MESSAGES: usize = 64;

const PAYLOAD_SIZES: [usize; 3] = [100, 1_024, 16 * 1_024];

pub(super) fn all(sides: &Arc<Sides>) -> Vec<Case> {
    let mut cases = Vec::new();
    for queue in Type::ALL_TYPES {
        cases.push(publish(sides, queue, USUAL_PAYLOAD_BYTES, IN_FLIGHT_LIMIT));
        cases.push(publish(sides, queue, USUAL_PAYLOAD_BYTES, 1));
        cases.push(consume(sides, queue, USUAL_PAYLOAD_BYTES, Taking::Many(MANY_MESSAGES)));
        cases.push(consume(sides, queue, USUAL_PAYLOAD_BYTES, Taking::One));
        cases.push(listen(sides, queue));
    }
    for size in PAYLOAD_SIZES {
        cases.push(publish(sides, Type::Quorum, size, IN_FLIGHT_LIMIT));
        cases.push(consume(sides, Type::Quorum, size, Taking::Many(MANY_MESSAGES)));
    }
    cases
}

fn publish(sides: &Arc<Sides>, queue: Type, size: usize, window: usize) -> Case {
    let load = Load::of(size);
    let setting = format!("{}, {window} in flight, {}", queue.name(), load.size());
    let raw = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (raw, load, queue) = (Arc::clone(&sides.raw), load.clone(), queue.queue());
            sides.empty(&queue);
            sides.site.run(async move { raw.publish(&queue, &load, messages, window).await })
        }
    };
    let floor = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (raw, load, queue) = (Arc::clone(&sides.raw), load.clone(), queue.queue());
            sides.empty(&queue);
            sides.site.run(async move { raw.publish_floor(&queue, &load, messages).await })
        }
    };
    let ours: Turn = match sides.ours.clone() {
        None => Box::new(raw.clone()),
        Some(broker) => {
            let sides = Arc::clone(sides);
            Box::new(move |messages| {
                let (broker, load, queue) = (Arc::clone(&broker), load.clone(), queue.queue());
                sides.empty(&queue);
                sides.site.run(async move {
                    let publisher = ours::publisher(&*broker, &From::Queue(queue).destination(), window).await;
                    ours::publish(&*publisher, &load, messages, window).await
                })
            })
        }
    };
    let mut references: Vec<(&'static str, Option<f64>, Turn)> = vec![("equal", Some(CONFIRMED_GOAL), Box::new(raw))];
    if window > 1 && size == USUAL_PAYLOAD_BYTES {
        references.push(("floor", None, Box::new(floor)));
    }
    let begin = if window == 1 { 100 } else { 2_000 };
    Case { name: "publish", setting, flavour: Flavour::TwoThreads, begin, ours, references }
}

fn consume(sides: &Arc<Sides>, queue: Type, size: usize, taking: Taking) -> Case {
    let load = Load::of(size);
    let how = if matches!(taking, Taking::One) { "one" } else { "many" };
    let setting = format!("{}, {how}, {}", queue.name(), load.size());
    let raw = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (raw, queue) = (Arc::clone(&sides.raw), queue.queue());
            sides.fill(&queue, &load, messages);
            sides.site.run(async move { raw.consume(&queue, messages).await })
        }
    };
    let floor = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (raw, queue) = (Arc::clone(&sides.raw), queue.queue());
            sides.fill(&queue, &load, messages);
            sides.site.run(async move { raw.consume_floor(&queue, messages).await })
        }
    };
    let ours: Turn = match sides.ours.clone() {
        None => Box::new(raw.clone()),
        Some(broker) => {
            let sides = Arc::clone(sides);
            Box::new(move |messages| {
                let (broker, queue) = (Arc::clone(&broker), queue.queue());
                sides.fill(&queue, &load, messages);
                sides.site.run(async move {
                    let consumer = From::Queue(queue).consumer(&*broker, UNSETTLED_LIMIT).await;
                    ours::consume(consumer, messages, taking).await
                })
            })
        }
    };
    let mut references: Vec<(&'static str, Option<f64>, Turn)> = vec![("equal", Some(CONSUMED_GOAL), Box::new(raw))];
    if matches!(taking, Taking::Many(_)) && size == USUAL_PAYLOAD_BYTES {
        references.push(("floor", None, Box::new(floor)));
    }
    Case { name: "consume", setting, flavour: Flavour::TwoThreads, begin: 4_000, ours, references }
}

fn listen(sides: &Arc<Sides>, queue: Type) -> Case {
    let load = Load::order();
    let setting = format!("{}, JSON, {}", queue.name(), load.size());
    let raw = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (raw, queue) = (Arc::clone(&sides.raw), queue.queue());
            sides.fill(&queue, &load, messages);
            sides.site.run(async move { raw.listen(&queue, messages).await })
        }
    };
    let ours: Turn = if sides.null {
        Box::new(raw.clone())
    } else {
        let sides = Arc::clone(sides);
        Box::new(move |messages| {
            sides.fill(&queue.queue(), &load, messages);
            let broker = sides.connect();
            sides.site.run(async move {
                ours::listen(broker.await, &From::Queue(queue.queue()), messages, UNSETTLED_LIMIT).await
            })
        })
    };
    let references: Vec<(&'static str, Option<f64>, Turn)> = vec![("equal", Some(LISTENED_GOAL), Box::new(raw))];
    Case { name: "listener", setting, flavour: Flavour::TwoThreads, begin: 4_000, ours, references }
}
