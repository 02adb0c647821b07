//! What is compared: publishing, consuming and listening, with 1 and 4 partitions and several sizes.

use std::sync::Arc;

use super::raw::{self, Reader};
use super::{CONFIRMED, CONSUMED, LISTENED, PARTITIONS, PREFETCH, Sides, WINDOW};
use crate::brokers::load::{Load, USUAL};
use crate::brokers::ours::{self, Taking};
use crate::compare::{Case, Turn};
use crate::flavour::Flavour;

/// How many ours takes at a time where it takes many.
pub(super) const MANY: usize = 512;

const SIZES: [usize; 3] = [100, 1_024, 16 * 1_024];

pub(super) fn all(sides: &Arc<Sides>) -> Vec<Case> {
    let mut cases = Vec::new();
    for partitions in PARTITIONS {
        cases.push(publish(sides, partitions, USUAL, WINDOW));
        cases.push(consume(sides, partitions, USUAL, Taking::Many(MANY)));
        cases.push(consume(sides, partitions, USUAL, Taking::One));
        cases.push(listen(sides, partitions));
    }
    cases.push(publish(sides, 1, USUAL, 1));
    for size in SIZES {
        cases.push(publish(sides, 1, size, WINDOW));
        cases.push(consume(sides, 1, size, Taking::Many(MANY)));
    }
    cases
}

fn publish(sides: &Arc<Sides>, partitions: i32, size: usize, window: usize) -> Case {
    let load = Load::of(size);
    let setting = format!("p{partitions}, {window} in flight, {}", load.size());
    let raw = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            sides.with_topic(partitions, |topic| {
                let (sender, load) = (Arc::clone(&sides.sender), load.clone());
                sides.site.run(async move { sender.publish(&topic, &load, messages, window).await })
            })
        }
    };
    let floor = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            sides.with_topic(partitions, |topic| {
                let (sender, load) = (Arc::clone(&sides.sender), load.clone());
                sides.site.run(async move { sender.publish_floor(&topic, &load, messages).await })
            })
        }
    };
    let ours: Turn = match sides.ours.clone() {
        None => Box::new(raw.clone()),
        Some(broker) => {
            let sides = Arc::clone(sides);
            Box::new(move |messages| {
                sides.with_topic(partitions, |topic| {
                    let (broker, load, to) = (Arc::clone(&broker), load.clone(), sides.from(topic).destination());
                    sides.site.run(async move {
                        let publisher = ours::publisher(&*broker, &to, window).await;
                        // As on the other side.
                        ours::publish(&*publisher, &load, 1, 1).await;
                        ours::publish(&*publisher, &load, messages, window).await
                    })
                })
            })
        }
    };
    let mut references: Vec<(&'static str, Option<f64>, Turn)> = vec![("equal", Some(CONFIRMED), Box::new(raw))];
    if window > 1 && size == USUAL {
        references.push(("floor", None, Box::new(floor)));
    }
    let begin = if window == 1 { 500 } else { 20_000 };
    Case { name: "publish", setting, flavour: Flavour::TwoThreads, begin, ours, references }
}

fn consume(sides: &Arc<Sides>, partitions: i32, size: usize, taking: Taking) -> Case {
    let load = Load::of(size);
    let how = if matches!(taking, Taking::One) { "one" } else { "many" };
    let setting = format!("p{partitions}, {how}, {}", load.size());
    let raw = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (topic, group) = (sides.filled(&load, partitions, messages), sides.fresh("raw"));
            let servers = sides.servers.clone();
            sides.site.run(async move {
                let mut reader = Reader::open(&servers, &topic, &group);
                let took = raw::consume(&mut reader, messages).await;
                reader.close().await;
                took
            })
        }
    };
    let floor = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (topic, group) = (sides.filled(&load, partitions, messages), sides.fresh("raw"));
            raw::floor(&sides.servers, &topic, &group, messages)
        }
    };
    let ours: Turn = match sides.ours.clone() {
        None => Box::new(raw.clone()),
        Some(broker) => {
            let sides = Arc::clone(sides);
            Box::new(move |messages| {
                let (broker, from) = (Arc::clone(&broker), sides.from(sides.filled(&load, partitions, messages)));
                sides.site.run(async move {
                    let consumer = from.consumer(&*broker, PREFETCH).await;
                    ours::consume(consumer, messages, taking).await
                })
            })
        }
    };
    let mut references: Vec<(&'static str, Option<f64>, Turn)> = vec![("equal", Some(CONSUMED), Box::new(raw))];
    if matches!(taking, Taking::Many(_)) && size == USUAL {
        references.push(("floor", None, Box::new(floor)));
    }
    Case { name: "consume", setting, flavour: Flavour::TwoThreads, begin: 50_000, ours, references }
}

fn listen(sides: &Arc<Sides>, partitions: i32) -> Case {
    let load = Load::order();
    let setting = format!("p{partitions}, JSON, {}", load.size());
    let raw = {
        let (sides, load) = (Arc::clone(sides), load.clone());
        move |messages| {
            let (topic, group) = (sides.filled(&load, partitions, messages), sides.fresh("raw"));
            let servers = sides.servers.clone();
            sides.site.run(async move {
                let mut reader = Reader::open(&servers, &topic, &group);
                let took = raw::listen(&mut reader, messages).await;
                reader.close().await;
                took
            })
        }
    };
    let ours: Turn = if sides.ours.is_none() {
        Box::new(raw.clone())
    } else {
        let sides = Arc::clone(sides);
        Box::new(move |messages| {
            let (broker, from) = (sides.connect(), sides.from(sides.filled(&load, partitions, messages)));
            sides.site.run(async move { ours::listen(broker.await, &from, messages, PREFETCH).await })
        })
    };
    let references: Vec<(&'static str, Option<f64>, Turn)> = vec![("equal", Some(LISTENED), Box::new(raw))];
    Case { name: "listener", setting, flavour: Flavour::TwoThreads, begin: 50_000, ours, references }
}
