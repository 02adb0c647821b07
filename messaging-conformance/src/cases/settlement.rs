//! Settlements: each ends a delivery in its own way, at the call, and harms nobody.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use messaging_core::{Delivery, ErrorKind, Feature, SettlementTiming, StaleDetection};
use tokio::time::Instant;

use crate::bench::within;
use crate::case::cases;
use crate::tap::Tap;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Line, Place, Power, text};

cases! {
    /// After a flush an acknowledgement is final: not for another consumer, nor another connection does the message come again.
    A1_ack_is_final_after_a_flush on Queue Durable => ack_is_final;
    /// After a flush an acknowledgement is final across a restart of the server.
    A1_ack_is_final_across_a_restart on Queue Durable, needs SurvivesRestart, with Restart => ack_is_final_across_a_restart;
    /// A retry without delay brings the message back at once, as its next attempt.
    A2_retry_now_returns on Queue Durable => retry_now_returns;
    /// A delayed retry brings the message back, and never early.
    A3_delayed_retry_is_never_early on Queue Durable, needs DelayedRetry => delayed_retry_is_never_early;
    /// Acknowledgements in any order settle exactly the deliveries they are of.
    A4_acks_in_any_order on Queue Durable => acks_in_any_order;
    /// A delivery that is dropped unsettled comes back, at once the first time, backed off later.
    A5_a_dropped_delivery_returns on Queue Durable => a_dropped_delivery_returns;
    /// A settlement of a delivery that has moved on is recognised as declared, and never harms the new holder.
    A6_a_stale_settlement_harms_nobody on Queue Durable, needs Lease => a_stale_settlement;
    /// An acknowledgement after the connection was lost is an error or unknown, and the message comes again.
    A7_ack_after_connection_loss on Queue Durable, with Cut => ack_after_connection_loss;
    /// A retry within one subscription is not seen by another of the same topic.
    A8_a_retry_is_private_to_its_subscription on Durable => a_retry_is_private;
    /// A released delivery comes back, without counting as an attempt where that is declared.
    A9_release_comes_back on Queue Durable => release_comes_back;
    /// A settlement takes effect at the call, though its future is never polled.
    A10_a_settlement_needs_no_polling on Queue Durable => a_settlement_needs_no_polling;
    /// While the line is down a settlement comes back with an error or an unknown outcome in time, and nothing is lost.
    A7_settling_on_a_dead_line on Queue Durable, with Line => settling_on_a_dead_line;
}

async fn ack_is_final(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(64).await?;
        place.publish_numbers(10).await?;
        for delivery in tap.hold(10).await? {
            at.settled(delivery.ack()).await?;
        }
        tap.flush().await?;
        // Without a goodbye: whatever the broker believes to be unsettled goes to the next.
        drop(tap);

        let mut next = place.consumer(64).await?;
        place.nothing_but_a_sentinel(&mut next).await?;
        empty_at_the_broker(at, &place).await?;
        next.close().await?;

        let elsewhere = place.through(at.open().await?);
        let mut next = elsewhere.consumer(64).await?;
        elsewhere.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}

/// The broker counts nothing that is open, where it can say.
async fn empty_at_the_broker(at: &Bench, place: &Place) -> Verdict {
    if !place.capabilities().supports(Feature::Depth) {
        return Ok(());
    }
    at.eventually("the broker counts nothing that is open", || async {
        let depth = at.wait("asking for the depth", place.broker().inspect().depth(&place.source())).await?;
        Ok(depth.open() == 0)
    })
    .await
}

async fn ack_is_final_across_a_restart(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(64).await?;
        place.publish_numbers(10).await?;
        let mut kept = Vec::new();
        for (index, delivery) in tap.hold(10).await?.into_iter().enumerate() {
            if index % 2 == 0 {
                at.settled(delivery.ack()).await?;
            } else {
                kept.push(delivery);
            }
        }
        tap.flush().await?;
        let unsettled: Vec<String> = kept.iter().map(text).collect();

        at.stage().restart(Power::Restart).await?;
        drop(kept);
        drop(tap);

        let elsewhere = place.through(at.open().await?);
        let mut next = elsewhere.consumer(64).await?;
        if place.capabilities().supports(Feature::Positions) {
            // What was acknowledged behind a gap comes again; nothing is skipped.
            at_least(at, &mut next, unsettled).await?;
            continue;
        }
        next.expect_all(unsettled).await?;
        elsewhere.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}

async fn retry_now_returns(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["again"]).await?;
        for _ in 0..3 {
            let delivery = tap.next().await?;
            ensure_eq!(text(&delivery), "again", "the delivery to be retried");
            at.settled(delivery.retry()).await?;
        }
        tap.expect_next("again").await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn delayed_retry_is_never_early(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        place.publish(["late", "other"]).await?;
        let delay = place.moment() * 2;
        let mut begun = None;
        for delivery in tap.hold(2).await? {
            if text(&delivery) == "late" {
                begun = Some(Instant::now());
                at.settled(delivery.retry_after(delay)).await?;
            } else {
                at.settled(delivery.ack()).await?;
            }
        }
        let Some(begun) = begun else { continue };
        let again = tap.next().await?;
        ensure_eq!(text(&again), "late", "what comes after the delay");
        ensure!(begun.elapsed() >= delay, "it came {:?} after a retry of {delay:?}: early", begun.elapsed());
        at.settled(again.ack()).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn acks_in_any_order(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(16).await?;
        place.publish_numbers(10).await?;
        let held = tap.hold(10).await?;
        let mut kept = Vec::new();
        // Back to front, every third not at all.
        for (index, delivery) in held.into_iter().enumerate().rev() {
            if index % 3 == 0 { kept.push(delivery) } else { at.settled(delivery.ack()).await? }
        }
        tap.flush().await?;
        let unsettled: Vec<String> = kept.iter().map(text).collect();
        drop(tap);
        drop(kept);

        let mut next = place.consumer(16).await?;
        if place.capabilities().supports(Feature::Positions) {
            // A log commits up to the first gap: behind it, more than the unsettled may come again, but nothing is skipped.
            return at_least(at, &mut next, unsettled).await;
        }
        next.expect_all(unsettled).await?;
        place.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}

async fn at_least(at: &Bench, tap: &mut Tap, expected: Vec<String>) -> Verdict {
    let mut missing: std::collections::BTreeSet<String> = expected.into_iter().collect();
    while !missing.is_empty() {
        let delivery = tap.next().await?;
        missing.remove(&text(&delivery));
        at.settled(delivery.ack()).await?;
    }
    Ok(())
}

async fn a_dropped_delivery_returns(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["dropped"]).await?;
        drop(tap.next().await?);
        let second = tap.next().await?;
        ensure_eq!(text(&second), "dropped", "what comes after a drop");
        let (attempt, begun) = (second.attempt(), Instant::now());
        drop(second);

        let third = tap.next().await?;
        ensure_eq!(text(&third), "dropped", "what comes after a second drop");
        let backoff = Delivery::drop_backoff(attempt).min(place.capabilities().longest_retry());
        ensure!(begun.elapsed() >= backoff, "a second drop came back after {:?}, before {backoff:?}", begun.elapsed());
        at.settled(third.ack()).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn a_stale_settlement(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut slow = place.consumer_with(place.options().with_prefetch(1).with_lease(place.short_lease())).await?;
        place.publish(["moved"]).await?;
        let stale = slow.next().await?;
        let mut quick = place.consumer(1).await?;
        let moved = quick.next().await?;
        ensure_eq!(text(&moved), "moved", "what moved to the new holder");

        let verdict = within("a stale acknowledgement", Duration::from_secs(60), stale.ack()).await?;
        at.did(1);
        match (verdict, place.capabilities().stale) {
            (Err(error), _) => ensure_eq!(error.kind(), ErrorKind::StaleDelivery, "the kind of {error}"),
            (Ok(()), StaleDetection::AtCommit) => {}
            (Ok(()), declared) => {
                ensure!(false, "a stale acknowledgement went through as if it were good; declared is {declared:?}");
            }
        }

        // The new holder still holds it: nobody else gets it, and giving it back brings it again.
        at.settled(moved.retry()).await?;
        drop(slow);
        quick.expect_next("moved").await?;
        place.nothing_but_a_sentinel(&mut quick).await?;
    }
    Ok(())
}

async fn ack_after_connection_loss(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["lost"]).await?;
        let held = tap.next().await?;
        at.stage().cut().await?;
        if !place.is_held_by_connection() {
            super::redelivery::settled_or_again(at, &place, &mut tap, vec![held]).await?;
            continue;
        }
        // Where the broker says nothing back, the adapter may learn of the loss only later.
        let again = tap.next().await?;
        ensure_eq!(text(&again), "lost", "what comes again after the cut");
        let result = within("an acknowledgement after the cut", Duration::from_secs(60), held.ack()).await?;
        at.did(1);
        ensure!(result.is_err(), "an acknowledgement on a connection that was cut went through as if it were good");
        at.settled(again.ack()).await?;
        place.nothing_but_a_sentinel_after_a_cut(&mut tap).await?;
    }
    Ok(())
}

async fn settling_on_a_dead_line(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["held"]).await?;
        let held = tap.next().await?;
        at.stage().set_line(Line::Down).await?;
        let settled = within("an acknowledgement on a dead line", Duration::from_secs(60), held.ack()).await?;
        at.did(1);
        at.stage().set_line(Line::Up).await?;
        let timing = place.capabilities().settlement;
        ensure!(
            settled.is_err() || timing != SettlementTiming::Confirmed,
            "an acknowledgement on a dead line went through as if it were good"
        );
        if settled.is_err() || timing == SettlementTiming::Sent {
            tap.expect_next("held").await?;
            place.nothing_but_a_sentinel_after_a_cut(&mut tap).await?;
        } else {
            // It is on its way until the line is up again, or comes again in front of the sentinel.
            place.publish_again("sentinel").await?;
            let first = tap.next().await?;
            if text(&first) == "held" {
                at.settled(first.ack()).await?;
                tap.expect_next("sentinel").await?;
            } else {
                ensure_eq!(text(&first), "sentinel", "what comes after the acknowledgement");
                at.settled(first.ack()).await?;
            }
        }
    }
    Ok(())
}

async fn a_retry_is_private(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let sibling = place.sibling();
        let (mut tap, mut other) = (place.consumer(4).await?, sibling.consumer(4).await?);
        place.publish(["once"]).await?;
        other.expect_next("once").await?;
        at.settled(tap.next().await?.retry()).await?;
        let again = tap.next().await?;
        ensure_eq!(text(&again), "once", "what comes after the retry");
        if place.capabilities().supports(Feature::DelayedRetry) {
            at.settled(again.retry_after(place.moment())).await?;
            tap.expect_next("once").await?;
        } else {
            at.settled(again.ack()).await?;
        }
        place.publish(["behind"]).await?;
        tap.expect_next("behind").await?;
        other.expect_next("behind").await?;
    }
    Ok(())
}

async fn release_comes_back(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(1).await?;
        place.publish(["released"]).await?;
        let first = tap.next().await?;
        let attempt = first.attempt();
        at.settled(first.release()).await?;
        let second = tap.next().await?;
        ensure_eq!(text(&second), "released", "what comes after the release");
        if place.capabilities().supports(Feature::Release) {
            ensure_eq!(second.attempt(), attempt, "the attempt after a release that does not count");
        }
        at.settled(second.ack()).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn a_settlement_needs_no_polling(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        place.publish(["acked", "retried"]).await?;
        for delivery in tap.hold(2).await? {
            if text(&delivery) == "acked" {
                drop(delivery.ack());
            } else {
                // Polled once and forgotten, as a cancelled task does.
                let mut outcome = pin!(delivery.retry());
                let _ = outcome.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            at.did(1);
        }
        tap.expect_next("retried").await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
        tap.flush().await?;
        drop(tap);
        let mut next = place.consumer(8).await?;
        place.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}
