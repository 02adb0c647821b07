//! Redelivery: what a consumer holds when it dies, and what comes again.

use std::time::Duration;

use messaging_core::{Attempts, Delivery, Destination, Feature, Lease, Message};
use tokio::time::Instant;

use super::traffic::Task;
use crate::bench::within;
use crate::case::cases;
use crate::child::{Child, Role};
use crate::tap::same_multiset;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Place, Tap, text};

cases! {
    /// What a consumer holds when its handle is dropped goes to another within the declared bound.
    R1_a_dropped_consumer_hands_over on Queue Durable => a_dropped_consumer_hands_over;
    /// What a consumer holds when its connection is cut comes again within the declared bound, or is still its own.
    R1_a_cut_consumer_hands_over on Queue Durable, with Cut => a_cut_consumer_hands_over;
    /// What a consumer holds when its process is killed goes to another within the declared bound.
    R1_a_killed_consumer_hands_over on Queue, with Processes => a_killed_consumer_hands_over;
    /// A lease that runs out hands the delivery to another, and not before.
    R2_a_lease_runs_out_not_before on Queue Durable, needs Lease => a_lease_runs_out;
    /// A lease that is extended, by hand or by itself while the delivery lives, keeps the delivery.
    R3_an_extended_lease_keeps_the_delivery on Queue Durable, needs Lease => an_extended_lease;
    /// Attempts count 1, 2, 3, as exactly as declared.
    R4_attempts_count_as_declared on Queue Durable => attempts_count;
    /// What is delivered again is the same to the byte: payload, headers, id and properties.
    R5_redelivered_content_is_identical on Queue Durable => redelivered_content;
    /// The committed position is the lowest that is not acknowledged, so that nothing behind a gap is skipped.
    R6_committed_is_the_lowest_open on Queue Durable, needs Positions => committed_is_the_lowest_open;
}

async fn a_dropped_consumer_hands_over(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut dying = place.consumer(5).await?;
        place.publish_numbers(5).await?;
        let held = dying.hold(5).await?;
        let mut heir = place.consumer(5).await?;
        // The handles of the deliveries outlive their consumer, as in a handler that is still running.
        drop(dying);

        let begun = Instant::now();
        let inherited = heir.hold(5).await?;
        check_bound(&place, begun.elapsed())?;
        let texts: Vec<String> = inherited.iter().map(text).collect();
        same_multiset(&(0..5).map(|number| number.to_string()).collect::<Vec<_>>(), &texts)?;
        for delivery in inherited {
            at.settled(delivery.ack()).await?;
        }
        drop(held);
        place.nothing_but_a_sentinel(&mut heir).await?;
    }
    Ok(())
}

/// The bound is declared; some seconds of grace are for a slow machine.
fn check_bound(place: &Place, took: Duration) -> Verdict {
    let bound = place.capabilities().limits.redelivery_within;
    ensure!(took <= bound + Duration::from_secs(10), "it took {took:?} until another got it, declared is {bound:?}");
    Ok(())
}

async fn a_cut_consumer_hands_over(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(5).await?;
        place.publish_numbers(5).await?;
        let held = tap.hold(5).await?;
        at.stage().cut().await?;
        if !place.is_held_by_connection() {
            settled_or_again(at, &place, &mut tap, held).await?;
            continue;
        }

        let begun = Instant::now();
        let again = tap.hold(5).await?;
        check_bound(&place, begun.elapsed())?;
        let texts: Vec<String> = again.iter().map(text).collect();
        same_multiset(&(0..5).map(|number| number.to_string()).collect::<Vec<_>>(), &texts)?;
        for delivery in again {
            at.settled(delivery.ack()).await?;
        }
        drop(held);
        place.nothing_but_a_sentinel_after_a_cut(&mut tap).await?;
    }
    Ok(())
}

/// Where what is held outlives a connection: each is settled, or comes again, and nothing else comes.
pub(super) async fn settled_or_again(at: &Bench, place: &Place, tap: &mut Tap, held: Vec<Delivery>) -> Verdict {
    let mut missing = Vec::new();
    for delivery in held {
        let name = text(&delivery);
        let settled = within("an acknowledgement after the cut", Duration::from_secs(60), delivery.ack()).await?;
        at.did(1);
        if settled.is_err() {
            missing.push(name);
        }
    }
    tap.expect_all(missing).await?;
    place.nothing_but_a_sentinel_after_a_cut(tap).await
}

async fn a_killed_consumer_hands_over(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let Destination::Queue(queue) = place.destination() else { continue };
        let mut child = Child::start(at, Role::Hold, queue)?;
        place.publish_numbers(5).await?;
        child.has_told(at, 5).await?;
        let mut heir = place.consumer(5).await?;
        child.kill();
        let begun = Instant::now();
        heir.expect_all((0..5).map(|number| number.to_string())).await?;
        check_bound(&place, begun.elapsed())?;
    }
    Ok(())
}

async fn a_lease_runs_out(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let lease = place.short_lease();
        let mut slow = place.consumer_with(place.options().with_prefetch(1).with_lease(lease)).await?;
        let begun = Instant::now();
        place.publish(["leased"]).await?;
        let held = slow.next().await?;
        let mut other = place.consumer(1).await?;

        let moved = other.next().await?;
        ensure_eq!(text(&moved), "leased", "what moved to the other");
        ensure!(begun.elapsed() >= lease.duration, "a lease of {lease:?} ended after {:?}: early", begun.elapsed());
        at.settled(moved.ack()).await?;
        drop(held);
        drop(slow);
        place.nothing_but_a_sentinel(&mut other).await?;
    }
    Ok(())
}

async fn an_extended_lease(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let short = place.short_lease();
        let (by_hand, by_itself) = (short, Lease { duration: short.duration, max: short.duration * 20 });
        for (lease, extend) in [(by_hand, true), (by_itself, false)] {
            let options = place.options().with_prefetch(1).with_lease(lease);
            let mut slow = place.consumer_with(options).await?;
            place.publish(["kept"]).await?;
            let held = slow.next().await?;
            let mut other = place.consumer(1).await?;
            let begun = Instant::now();
            if extend {
                at.settled(held.extend(lease.duration * 20)).await?;
            }

            // The handler works for three leases; the other consumer waits, and must get nothing but what comes after.
            let working = lease.duration * 3;
            let waiting = Task::spawn(async move { other.next().await.map(|delivery| (other, delivery)) });
            at.outlast(working).await;
            ensure!(!waiting.is_over(), "the delivery moved on after {:?} within an extended lease", begun.elapsed());
            place.publish(["sentinel"]).await?;
            let (_other, sentinel) = waiting.join("the other consumer").await??;
            ensure_eq!(text(&sentinel), "sentinel", "what the other consumer got");
            at.settled(sentinel.ack()).await?;
            at.settled(held.ack()).await?;
        }
    }
    Ok(())
}

async fn attempts_count(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(1).await?;
        place.publish(["counted"]).await?;
        let mut seen = Vec::new();
        for round in 0..4 {
            let delivery = tap.next().await?;
            seen.push(delivery.attempt());
            match round {
                0 => at.settled(delivery.retry()).await?,
                1 => drop(delivery),
                2 => {
                    // A crash: the connection of the consumer goes, with the delivery in hand.
                    drop(tap);
                    drop(delivery);
                    tap = place.consumer(1).await?;
                }
                _ => at.settled(delivery.ack()).await?,
            }
        }
        let good = match place.capabilities().attempts {
            Attempts::Exact => seen == [1, 2, 3, 4],
            // After a retry and a drop they are exact; after a crash they do not fall.
            Attempts::AtLeast => seen[..3] == [1, 2, 3] && seen[3] >= 3,
            Attempts::FlagOnly => seen[0] == 1 && seen[1..].iter().all(|attempt| *attempt > 1),
        };
        ensure!(good, "attempts were {seen:?}, declared is {:?}", place.capabilities().attempts);
    }
    Ok(())
}

async fn redelivered_content(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(1).await?;
        let sent = Message::builder((0..=255_u8).collect::<Vec<_>>())
            .key("key")
            .subject("eu.created")
            .message_type("order.placed")
            .content_type("application/octet-stream")
            .correlation_id("belongs-to")
            .header("tenant", "acme")
            .header("empty", "")
            .build()?;
        place.publish([sent.clone()]).await?;
        for round in 0..4 {
            let delivery = tap.next().await?;
            super::message::same(delivery.message(), &sent, &format!("attempt {}", round + 1))?;
            match round {
                0 => at.settled(delivery.retry()).await?,
                1 => drop(delivery),
                2 if place.capabilities().supports(Feature::DelayedRetry) => {
                    at.settled(delivery.retry_after(place.moment())).await?;
                }
                2 => at.settled(delivery.retry()).await?,
                _ => at.settled(delivery.ack()).await?,
            }
        }
    }
    Ok(())
}

async fn committed_is_the_lowest_open(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        // One key, so that all are in one partition.
        let message = |number: usize| Message::builder(number.to_string()).key("one").build();
        place.publish((0..4).map(message).collect::<Result<Vec<_>, _>>()?).await?;
        let mut held = tap.hold(4).await?;
        let first = held.remove(0);
        let Some(position) = first.position() else {
            return Err(crate::Stop::failed("a delivery of a log has no position, though positions are declared"));
        };
        for delivery in held {
            at.settled(delivery.ack()).await?;
        }
        tap.flush().await?;
        let committed = || async {
            let positions =
                at.wait("asking for positions", place.broker().inspect().positions(&place.source())).await?;
            Verdict::Ok(positions.into_iter().find(|one| one.partition == position.partition).map(|one| one.committed))
        };
        ensure_eq!(committed().await?, Some(position.offset), "the committed position while the first is open");
        at.settled(first.ack()).await?;
        tap.flush().await?;
        at.eventually("the committed position moves past all", || async {
            Ok(committed().await?.is_some_and(|committed| committed > position.offset + 3))
        })
        .await?;
    }
    Ok(())
}
