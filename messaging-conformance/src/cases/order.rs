//! Order: of one producer, of a key, through retries.

use messaging_core::{Message, RetryPlace};

use super::traffic::{Drinkers, Task, exact, publish_all};
use crate::case::cases;
use crate::history::Recorder;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Place, text};

cases! {
    /// Messages of one key, published one after the other, reach the only consumer in that order.
    O1_one_producer_one_consumer_is_fifo on Queue Durable, needs KeyOrder Hold => fifo;
    /// Messages of one key keep their order across competing consumers, of which at least two take part.
    O2_order_of_a_key_across_consumers on Queue Durable, needs KeyOrder Hold => order_across_consumers;
    /// While one message waits for its retry, later ones of its key wait too, and other keys flow.
    O3_order_of_a_key_is_kept_through_a_retry on Queue Durable, needs KeyOrder Hold DelayedRetry => order_through_a_retry;
    /// After a retry without delay a message stands where the broker says.
    O4_place_after_a_retry on Queue Durable => place_after_a_retry;
}

async fn fifo(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let tap = place.consumer(16).await?;
        let drinkers = Drinkers::start(at, &recorder, 0, vec![tap]);
        publish_all(at.clone(), recorder.clone(), place.publisher().await?, Some("only".to_owned()), 200).await?;
        drinkers.finish(&place).await?;
        exact(&recorder)?;
    }
    Ok(())
}

async fn order_across_consumers(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let mut taps = Vec::new();
        for _ in 0..3 {
            taps.push(place.consumer(8).await?);
        }
        let drinkers = Drinkers::start(at, &recorder, 0, taps);
        let mut producers = Vec::new();
        for key in 0..16 {
            let publisher = place.publisher().await?;
            let key = Some(format!("key-{key}"));
            producers.push(Task::spawn(publish_all(at.clone(), recorder.clone(), publisher, key, 25)));
        }
        for producer in producers {
            producer.join("a producer").await??;
        }
        let shares = drinkers.finish(&place).await?;
        exact(&recorder)?;
        let took_part = shares.iter().filter(|share| **share > 1).count();
        ensure!(took_part >= 2, "order among competing consumers is proved only if two take part; shares: {shares:?}");
    }
    Ok(())
}

async fn order_through_a_retry(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        for (key, body) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("b", "b2"), ("a", "a3")] {
            place.publish([Message::builder(body).key(key).build()?]).await?;
        }
        let mut seen = Vec::new();
        let mut b_after_retry = 0;
        let mut retried = false;
        while seen.len() < 5 {
            let delivery = tap.next().await?;
            let body = text(&delivery);
            if body == "a1" && !retried {
                retried = true;
                // Long enough for the other key to be seen meanwhile.
                at.settled(delivery.retry_after(place.moment() * 4)).await?;
                continue;
            }
            b_after_retry += usize::from(body.starts_with('b') && retried && !seen.contains(&"a1".to_owned()));
            at.settled(delivery.ack()).await?;
            seen.push(body);
        }
        let of = |key: char| seen.iter().filter(|body| body.starts_with(key)).cloned().collect::<Vec<_>>();
        ensure_eq!(of('a'), ["a1", "a2", "a3"], "the order of the key whose first was retried");
        ensure_eq!(of('b'), ["b1", "b2"], "the order of the other key");
        ensure!(b_after_retry > 0, "the other key waited for the retry, too: {seen:?}");
    }
    Ok(())
}

async fn place_after_a_retry(at: &Bench) -> Verdict {
    for place in at.places().await? {
        // With one message out at a time, the broker alone decides what comes next.
        let mut tap = place.consumer(1).await?;
        place.publish_numbers(3).await?;
        let first = tap.next().await?;
        let retried = text(&first);
        at.settled(first.retry()).await?;
        let seen = tap.drink(3).await?;
        check_place(&place, &retried, &seen)?;
    }
    Ok(())
}

fn check_place(place: &Place, retried: &str, seen: &[String]) -> Verdict {
    match place.capabilities().retry_place {
        RetryPlace::Head => ensure_eq!(seen[0], retried, "the first after a retry that goes to the head, of {seen:?}"),
        RetryPlace::Tail => ensure_eq!(seen[2], retried, "the last after a retry that goes to the tail, of {seen:?}"),
        RetryPlace::Unspecified => {
            ensure!(seen.iter().any(|text| text == retried), "{retried} did not come again: {seen:?}")
        }
    }
    Ok(())
}
