//! Flow: how much a consumer holds, and what it leaves to others.

use messaging_core::{Feature, Flow, Message};

use super::traffic::Task;
use crate::case::cases;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Place, Tap, text};

cases! {
    /// A consumer never holds more than its prefetch unsettled, also by the broker's own count.
    F1_unsettled_within_the_prefetch on Queue Durable => unsettled_within_the_prefetch;
    /// Settling admits more, one for one or by half the prefetch.
    F2_settling_admits_more on Queue Durable => settling_admits_more;
    /// A consumer that stalls holds its prefetch and no more: another gets the rest.
    F3_a_stalled_consumer_does_not_hoard on Queue Durable => a_stalled_consumer;
    /// A paused consumer gets nothing, keeps what it holds, and goes on when it is resumed.
    F4_pause_and_resume on Queue Durable => pause_and_resume;
}

async fn unsettled_within_the_prefetch(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish_numbers(20).await?;
        let mut held = tap.hold(4).await?;
        for _ in 0..16 {
            ensure!(tap.is_dry().await?, "a fifth delivery came while four are held, with a prefetch of four");
            if place.capabilities().supports(Feature::Depth) {
                let depth = at.wait("asking for the depth", place.broker().inspect().depth(&place.source())).await?;
                let unsettled = depth.unsettled.unwrap_or(0);
                ensure!(
                    unsettled <= 4 || depth.approximate,
                    "the broker counts {unsettled} unsettled, the prefetch is 4"
                );
            }
            at.settled(held.remove(0).ack()).await?;
            held.push(tap.next().await?);
        }
        for delivery in held {
            at.settled(delivery.ack()).await?;
        }
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn settling_admits_more(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish_numbers(12).await?;
        let held = tap.hold(4).await?;
        // Somebody waits already when room comes.
        let waiting = Task::spawn(async move { tap.hold(2).await.map(|more| (tap, more)) });
        let mut held = held.into_iter();
        for delivery in held.by_ref().take(2) {
            at.settled(delivery.ack()).await?;
        }
        let (mut tap, more) = waiting.join("a consumer that waits for room").await??;
        for delivery in held.chain(more) {
            at.settled(delivery.ack()).await?;
        }
        for delivery in tap.hold(4).await? {
            at.settled(delivery.retry()).await?;
        }
        let rest = tap.drink(6).await?;
        ensure_eq!(rest.len(), 6, "what is left of twelve");
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn a_stalled_consumer(at: &Bench) -> Verdict {
    for place in at.places().await? {
        // Of a log with partitions another has its share only if keys spread the messages over them.
        let is_log = place.capabilities().supports(Feature::Positions);
        let count = if is_log { 60 } else { 20 };
        let mut stalled = place.consumer(3).await?;
        let mut busy = place.consumer(3).await?;
        let message = |number: usize| Message::builder(number.to_string()).key(format!("key-{number}")).build();
        place.publish((0..count).map(message).collect::<Result<Vec<_>, _>>()?).await?;
        let held = stalled.hold(3).await?;

        let flowing = if is_log { 1 } else { count - 3 };
        busy.drink(flowing).await?;

        drop(stalled);
        drop(held);
        if !is_log {
            busy.drink(3).await?;
            place.nothing_but_a_sentinel(&mut busy).await?;
        }
    }
    Ok(())
}

async fn pause_and_resume(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        let control = tap.control();
        place.publish(["held"]).await?;
        let held = tap.next().await?;
        control.set_flow(Flow::Paused);
        place.publish_numbers(5).await?;
        if place.capabilities().supports(Feature::Positions) {
            // A paused member of a log keeps its partitions, and what is in them: nobody else proves that it was there.
            at.outlast(place.moment()).await;
            ensure!(tap.is_dry().await?, "a paused consumer got a delivery");
        } else {
            others_take(at, &place, &mut tap).await?;
        }
        at.settled(held.ack()).await?;

        place.publish(["after"]).await?;
        ensure!(tap.is_dry().await?, "a paused consumer got a delivery");
        let waiting = Task::spawn(async move { tap.next().await.map(|delivery| (tap, delivery)) });
        control.set_flow(Flow::Running);
        let (mut tap, first) = waiting.join("a consumer that was resumed").await??;
        let mut got = vec![text(&first)];
        at.settled(first.ack()).await?;
        if place.capabilities().supports(Feature::Positions) {
            got.extend(tap.drink(5).await?);
            got.sort();
            ensure_eq!(got, ["0", "1", "2", "3", "4", "after"], "what comes after the resume");
        } else {
            ensure_eq!(got, ["after"], "what comes after the resume");
        }
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

/// Whoever takes the five meanwhile proves that they were there to be had.
async fn others_take(at: &Bench, place: &Place, paused: &mut Tap) -> Verdict {
    let mut other = place.consumer(8).await?;
    for _ in 0..5 {
        ensure!(paused.is_dry().await?, "a paused consumer got a delivery");
        let taken = other.next().await?;
        ensure!(text(&taken) != "held", "what a paused consumer holds went to another");
        at.settled(taken.ack()).await?;
    }
    other.close().await
}
