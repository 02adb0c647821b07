//! Queues: competing consumers.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use messaging_core::{Delivery, ErrorKind, Feature};

use super::traffic::{Drinkers, exact, publish_all};
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::history::Recorder;
use crate::tap::same_multiset;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Tap, text};

cases! {
    /// Each message of a queue goes to exactly one of its competing consumers, and none is lost.
    Q1_competing_consumers on Queue => competing_consumers;
    /// With nobody acknowledging, every consumer holds one message before any holds two.
    Q2_every_consumer_gets_work on Queue => every_consumer_gets_work;
    /// What was published before the first consumer came waits for it.
    Q3_backlog_waits_for_the_first_consumer on Queue Durable => backlog_waits;
    /// Messages of one queue never show up in another.
    Q4_queues_do_not_mix on Queue => queues_do_not_mix;
    /// A consumer that joins later gets a share of what still waits.
    Q5_a_late_consumer_gets_a_share on Queue => a_late_consumer_gets_a_share;
}

async fn competing_consumers(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let taps = try_join_all((0..3).map(|_| place.consumer(8))).await?;
        let drinkers = Drinkers::start(at, &recorder, 0, taps);

        publish_all(at.clone(), recorder.clone(), place.publisher().await?, None, 300).await?;

        drinkers.finish(&place).await?;
        exact(&recorder)?;
    }
    Ok(())
}

async fn every_consumer_gets_work(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut taps = try_join_all((0..3).map(|_| place.consumer(1))).await?;
        place.publish_numbers(3).await?;

        let held = try_join_all(taps.iter_mut().map(|tap| tap.next())).await?;

        let texts: Vec<String> = held.iter().map(text).collect();
        same_multiset(&["0".to_owned(), "1".to_owned(), "2".to_owned()], &texts)?;
        for delivery in held {
            at.settled(delivery.ack()).await?;
        }
    }
    Ok(())
}

async fn backlog_waits(at: &Bench) -> Verdict {
    for place in at.places().await? {
        place.publish_numbers(20).await?;
        let mut tap = place.consumer(64).await?;
        tap.expect_all((0..20).map(|number| number.to_string())).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn queues_do_not_mix(at: &Bench) -> Verdict {
    for (one, two) in at.places().await?.zip(at.places().await?) {
        let (mut first, mut second) = (one.consumer(64).await?, two.consumer(64).await?);
        // What is published last is received first: in one queue it would be the other way round.
        two.publish((0..10).map(|number| format!("two-{number}"))).await?;
        one.publish((0..10).map(|number| format!("one-{number}"))).await?;

        first.expect_all((0..10).map(|number| format!("one-{number}"))).await?;
        second.expect_all((0..10).map(|number| format!("two-{number}"))).await?;

        one.nothing_but_a_sentinel(&mut first).await?;
        two.nothing_but_a_sentinel(&mut second).await?;
    }
    Ok(())
}

async fn a_late_consumer_gets_a_share(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut early = place.consumer(2).await?;
        place.publish_numbers(20).await?;
        let held = early.hold(2).await?;

        let mut late = place.consumer(2).await?;
        let share = late.hold(2).await?;
        if place.capabilities().supports(Feature::Positions) {
            share_of_a_log(at, early, held, late, share).await?;
            continue;
        }

        let mut texts: Vec<String> = held.iter().chain(&share).map(text).collect();
        texts.sort();
        texts.dedup();
        ensure_eq!(texts.len(), 4, "how many different messages the two hold");
        for delivery in held.into_iter().chain(share) {
            at.settled(delivery.ack()).await?;
        }
        // What may be on its way to the early one by now, for which nobody there waits.
        early.close().await?;
        let rest = late.drink(16).await?;
        ensure!(rest.iter().all(|text| !texts.contains(text)), "a message came twice: {rest:?} after {texts:?}");
    }
    Ok(())
}

/// In a log partitions change hands, and with them what the early one holds of them: it is told so, and nothing is lost.
async fn share_of_a_log(
    at: &Bench,
    mut early: Tap,
    held: Vec<Delivery>,
    mut late: Tap,
    share: Vec<Delivery>,
) -> Verdict {
    let mut missing: BTreeSet<String> = (0..20).map(|number: usize| number.to_string()).collect();
    for delivery in held.into_iter().chain(share) {
        let text = text(&delivery);
        match within("an acknowledgement", PATIENCE, delivery.ack()).await? {
            Ok(()) => drop(missing.remove(&text)),
            Err(error) => ensure_eq!(error.kind(), ErrorKind::StaleDelivery, "the kind of {error}"),
        }
        at.did(1);
    }
    while !missing.is_empty() {
        let delivery = tokio::select! {
            next = early.next() => next?,
            next = late.next() => next?,
        };
        missing.remove(&text(&delivery));
        at.settled(delivery.ack()).await?;
    }
    Ok(())
}
