//! Batches: one outcome an item.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::{ErrorKind, ErrorOutcome, Message, PublishOptions, Publisher, PublisherExt, Receipt, Result};
use tokio::time::Instant;

use crate::bench::within;
use crate::case::cases;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Place};

cases! {
    /// A batch arrives whole, each item once, with one outcome each.
    B1_batch_round_trip on Queue Durable => round_trip;
    /// A batch over the broker's limit is split, and arrives whole.
    B2_above_the_batch_limit on Queue Durable => above_the_limit;
    /// One bad item has its own error, in its own place; the others arrive.
    B3_one_bad_item on Queue Durable => one_bad_item;
    /// Receiving many returns promptly with what is there.
    B4_a_partial_batch_returns_promptly on Queue Durable => a_partial_batch;
}

async fn publish(at: &Bench, publisher: &Arc<dyn Publisher>, messages: Vec<Message>) -> Verdict<Vec<Result<Receipt>>> {
    let count = messages.len();
    let results = within("publishing a batch", Duration::from_secs(120), publisher.publish_batch(messages)).await?;
    ensure_eq!(results.len(), count, "how many outcomes a batch of {count} has");
    at.did(count);
    Ok(results)
}

async fn whole(at: &Bench, place: &Place, count: usize) -> Verdict {
    let mut tap = place.consumer(64).await?;
    let messages = (0..count).map(|number| Message::new(number.to_string())).collect();
    for result in publish(at, &place.publisher().await?, messages).await? {
        result?;
    }
    tap.expect_all((0..count).map(|number| number.to_string())).await?;
    place.nothing_but_a_sentinel(&mut tap).await
}

async fn round_trip(at: &Bench) -> Verdict {
    for place in at.places().await? {
        whole(at, &place, 100).await?;
        for result in publish(at, &place.publisher().await?, Vec::new()).await? {
            result?;
        }
    }
    Ok(())
}

async fn above_the_limit(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let limit = place.publish_capabilities().limits.batch;
        // Also more than may be in flight at once.
        whole(at, &place, (limit.saturating_mul(2) + 1).min(2_500)).await?;
    }
    Ok(())
}

async fn one_bad_item(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let limit = place.publish_capabilities().limits.message_bytes;
        // Room for all of them at once: otherwise the large one would go in a part of its own.
        let roomy = PublishOptions::default().with_in_flight_bytes(limit.saturating_mul(8));
        let opening = place.broker().publisher(place.destination(), roomy);
        let publisher = at.wait("opening a publisher", opening).await?;
        let mut messages: Vec<Message> = (0..5).map(|number: usize| Message::new(number.to_string())).collect();
        messages[3] = Message::new(vec![b'x'; limit + 1]);
        for (index, result) in publish(at, &publisher, messages).await?.into_iter().enumerate() {
            match (index, result) {
                (3, Err(error)) => {
                    ensure_eq!(error.kind(), ErrorKind::TooLarge, "the kind of {error}");
                    ensure_eq!(error.outcome(), ErrorOutcome::NotSent, "the outcome of {error}");
                }
                (3, Ok(_)) => ensure!(false, "the item that is too large was accepted, or its outcome is another's"),
                (_, Err(error)) => ensure!(false, "item {index} is good and failed: {error}"),
                (_, Ok(_)) => {}
            }
        }
        let mut tap = place.consumer(8).await?;
        tap.expect_all(["0", "1", "2", "4"].map(str::to_owned)).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn a_partial_batch(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(100).await?;
        place.publish_numbers(3).await?;
        let begun = Instant::now();
        let mut held = Vec::new();
        while held.len() < 3 {
            let limit = Duration::from_secs(20);
            let some = within("receiving many", limit, tap.consumer().next_many(100)).await??;
            ensure!(!some.is_empty(), "the consumer ended, though nobody stopped it");
            at.did(some.len());
            held.extend(some);
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "three of a hundred took {:?}", begun.elapsed());
        ensure_eq!(held.len(), 3, "how many came of three");
        let acked = at.wait("acknowledging many", messaging_core::Delivery::ack_all(held)).await?;
        ensure_eq!((acked.acked, acked.stale), (3, 0), "how many were acknowledged, and stale");
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}
