//! Time: delays, expiry and priorities. Lower bounds are strict, upper ones generous.

use std::time::Duration;

use messaging_core::{DeadLetterReason, ErrorKind, Expired, Feature, Message, PublisherExt};
use tokio::time::Instant;

use crate::case::cases;
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Place, text};

cases! {
    /// A message published for later is never delivered early, and others do not wait for it.
    T1_delayed_publish_is_never_early on Queue Durable, needs DelayedPublish => delayed_is_never_early;
    /// A delay or time to live over the declared maximum is refused before anything is sent.
    T2_beyond_the_maximum_is_refused on Queue Durable, needs DelayedPublish => beyond_the_maximum;
    /// An expired message is never delivered, and goes where the broker says.
    T3_expired_is_never_delivered on Queue Durable, needs Ttl => expired_is_never_delivered;
    /// A message within its time to live is delivered.
    T4_live_within_its_time on Queue Durable, needs Ttl => live_within_its_time;
    /// Delayed messages come in the order in which they are due, to the declared granularity.
    T5_due_order on Queue Durable, needs DelayedPublish => due_order;
    /// Of a backlog, higher priorities go first.
    T6_higher_priorities_go_first on Queue Durable, needs Priority => higher_priorities_first;
}

async fn delayed_is_never_early(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        let delay = place.moment() * 3;
        let begun = Instant::now();
        // Together, because a broker may take its time to confirm a delay that it did not know yet.
        place.publish([Message::builder("later").delay(delay).build()?, Message::new("now")]).await?;
        let first = tap.next().await?;
        let waited = begun.elapsed();
        let body = text(&first);
        at.settled(first.ack()).await?;
        ensure!(body == "now" || waited >= delay, "{body:?} came after {waited:?}, the delay was {delay:?}");
        ensure_eq!(body, "now", "what comes first: the message without a delay, after {waited:?}");

        tap.expect_next("later").await?;
        ensure!(begun.elapsed() >= delay, "it came after {:?}, the delay was {delay:?}: early", begun.elapsed());
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn beyond_the_maximum(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let limits = place.publish_capabilities().limits;
        let publisher = place.publisher().await?;
        let over = Message::builder("x").delay(limits.publish_delay + Duration::from_secs(1)).build()?;
        let error = at.refused("a delay over the maximum", publisher.publish(over)).await?;
        ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of {error}");
        if place.publish_capabilities().supports(Feature::Ttl) {
            let over = Message::builder("x").ttl(limits.ttl + Duration::from_secs(1)).build()?;
            let error = at.refused("a time to live over the maximum", publisher.publish(over)).await?;
            ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of {error}");
        }
        // At the limit it is taken; nobody waits for it.
        at.wait(
            "a delay at the maximum",
            publisher.publish(Message::builder("x").delay(limits.publish_delay).build()?),
        )
        .await?;
        let mut tap = place.consumer(1).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn expired_is_never_delivered(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let ttl = place.moment();
        place.publish([Message::builder("short-lived").ttl(ttl).build()?]).await?;
        // The time to live itself, and the declared coarseness twice: it is expired for certain.
        at.outlast(ttl + place.capabilities().limits.time_granularity * 2).await;
        let mut tap = place.consumer(4).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
        if place.capabilities().expired == Expired::DeadLettered {
            let inspect = place.broker().inspect();
            at.eventually("the expired message is in the dead letter", || async {
                let dead = at.wait("asking for dead letters", inspect.dead_letters(&place.source(), 10)).await?;
                Ok(dead.len() == 1 && dead[0].reason.code == DeadLetterReason::EXPIRED)
            })
            .await?;
        }
    }
    Ok(())
}

async fn live_within_its_time(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut ttl = place.moment() * 6;
        for _ in 0..6 {
            if lives(at, &place, ttl).await? {
                ttl = Duration::ZERO;
                break;
            }
            // The machine was too slow for so short a life.
            ttl *= 2;
        }
        ensure!(ttl.is_zero(), "it took longer than {:?} to receive a message that waited", ttl / 2);
    }
    Ok(())
}

/// Whether a message is delivered after most of its life; false if too much time had passed to tell.
async fn lives(at: &Bench, place: &Place, ttl: Duration) -> Verdict<bool> {
    let begun = Instant::now();
    place.publish([Message::builder("alive").ttl(ttl).build()?]).await?;
    // Most of its life, so that one that ends early is noticed.
    at.outlast(ttl * 6 / 10).await;
    let mut tap = place.consumer(1).await?;
    place.publish(["sentinel"]).await?;
    let first = tap.next().await?;
    let (body, at_receipt) = (text(&first), begun.elapsed());
    at.settled(first.ack()).await?;
    if body == "alive" {
        tap.expect_next("sentinel").await?;
        return Ok(true);
    }
    if at_receipt < ttl.saturating_sub(place.capabilities().limits.time_granularity) {
        return Err(Stop::failed(format_args!("a message with {ttl:?} to live was gone after {at_receipt:?}")));
    }
    Ok(false)
}

async fn due_order(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        let step = place.moment() * 3;
        let delayed = |(body, steps): (&'static str, u32)| Message::builder(body).delay(step * steps).build();
        let messages = [("third", 3), ("first", 1), ("second", 2)].into_iter().map(delayed);
        // Together, because a broker may take its time to confirm a delay that it did not know yet.
        place.publish(messages.collect::<Result<Vec<_>, _>>()?).await?;
        for body in ["first", "second", "third"] {
            tap.expect_next(body).await?;
        }
    }
    Ok(())
}

async fn higher_priorities_first(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let message = |body: String, priority| Message::builder(body).priority(priority).build();
        for number in 0..6 {
            place.publish([message(format!("low-{number}"), 0)?]).await?;
        }
        for number in 0..6 {
            place.publish([message(format!("high-{number}"), 9)?]).await?;
        }
        // One at a time: the broker decides on each.
        let mut tap = place.consumer(1).await?;
        let seen = tap.drink(12).await?;
        ensure!(seen[0].starts_with("high"), "the first of a backlog was {:?}", seen[0]);
        let places = |prefix: &str| -> usize {
            seen.iter().enumerate().filter(|(_, body)| body.starts_with(prefix)).map(|(at, _)| at).sum()
        };
        // Brokers with shares instead of strict priorities let some of the low ones through in between.
        ensure!(places("high") < places("low"), "low priorities went first: {seen:?}");
        if place.capabilities().limits.priority_levels >= 3 {
            place
                .publish([message("mid".to_owned(), 4)?, message("top".to_owned(), 9)?, message("end".to_owned(), 0)?])
                .await?;
            let publisher = place.publisher().await?;
            at.wait("a publish without a priority", publisher.publish("plain")).await?;
            let rest = tap.drink(4).await?;
            ensure!(rest.first().is_some_and(|body| body == "top"), "of four levels the first was {rest:?}");
        }
    }
    Ok(())
}
