//! Concurrency: many tasks, cancelled calls, churn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use messaging_core::{Message, PublisherExt};
use tokio::sync::Barrier;
use tokio::time::Instant;

use super::traffic::{Drinkers, Task, exact, publish_all, publish_marked};
use crate::Bench;
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::history::{Fate, Recorder};
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};

cases! {
    /// Fifty publishers and twenty consumers lose, double and invent nothing.
    C1_fifty_publishers_twenty_consumers on Queue Durable => fifty_and_twenty;
    /// One publisher handle serves many tasks at once.
    C2_one_handle_many_tasks on Queue Durable => one_handle_many_tasks;
    /// Consumers that come and go lose nothing.
    C3_churn_of_consumers on Queue Durable => churn;
    /// With a prefetch of n, exactly n handlers run at once.
    C4_concurrency_is_exactly_n on Queue Durable => concurrency_is_exactly_n;
    /// Receives that are cancelled lose nothing.
    C5_cancelled_receives_lose_nothing on Queue Durable => cancelled_receives;
    /// Publishes that are cancelled are sent or not, harm no other, and give back their place in flight.
    C6_cancelled_publishes_harm_no_other on Queue Durable => cancelled_publishes;
}

async fn fifty_and_twenty(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let mut taps = Vec::new();
        for _ in 0..20 {
            taps.push(place.consumer(10).await?);
        }
        let drinkers = Drinkers::start(at, &recorder, 0, taps);
        let mut publishing = Vec::new();
        for number in 0..50 {
            let publisher = place.publisher().await?;
            let key = Some(format!("key-{number}"));
            publishing.push(Task::spawn(publish_all(at.clone(), recorder.clone(), publisher, key, 20)));
        }
        for task in publishing {
            task.join("a publisher").await??;
        }
        drinkers.finish(&place).await?;
        // Without order being asked for, keys may overtake each other: what counts is the set.
        let findings = recorder.history().check();
        findings.without(&[crate::history::OffenceKind::Reordered]).map_err(Stop::failed)?;
        ensure_eq!(findings.confirmed, 1_001, "how many were confirmed, with the sentinel");
    }
    Ok(())
}

async fn one_handle_many_tasks(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let tap = place.consumer(50).await?;
        let drinkers = Drinkers::start(at, &recorder, 0, vec![tap]);
        let publisher = place.publisher().await?;
        let tasks: Vec<_> = (0..25)
            .map(|_| Task::spawn(publish_all(at.clone(), recorder.clone(), Arc::clone(&publisher), None, 20)))
            .collect();
        for task in tasks {
            task.join("a task that publishes").await??;
        }
        drinkers.finish(&place).await?;
        exact(&recorder)?;
    }
    Ok(())
}

async fn churn(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let publisher = place.publisher().await?;
        let mut stuck = Vec::new();
        for round in 0..10 {
            for _ in 0..4 {
                publish_marked(at, &recorder, &publisher, None).await?;
            }
            let mut tap = place.consumer(4).await?;
            let delivery = tap.next().await?;
            let mark = recorder.receipt(&delivery, 0, round);
            if round % 2 == 0 {
                at.settled(delivery.ack()).await?;
                tap.close().await?;
            } else {
                // Gone while a handler is stuck over the message.
                drop(tap);
                stuck.push(delivery);
                recorder.returned(mark, 0);
            }
        }
        let last = place.consumer(16).await?;
        Drinkers::start(at, &recorder, 0, vec![last]).finish(&place).await?;
        drop(stuck);
        // What was acknowledged and not flushed may come again where settlements are not confirmed.
        let findings = recorder.history().check();
        findings.without(&[crate::history::OffenceKind::Reordered]).map_err(Stop::failed)?;
    }
    Ok(())
}

async fn concurrency_is_exactly_n(at: &Bench) -> Verdict {
    const N: usize = 5;
    for place in at.places().await? {
        let mut tap = place.consumer(N).await?;
        place.publish_numbers(N * 4).await?;
        let running = Arc::<AtomicUsize>::default();
        let most = Arc::<AtomicUsize>::default();
        // Handlers meet in groups of n: with fewer at once none gets on.
        let meeting = Arc::new(Barrier::new(N));
        let mut handlers = Vec::new();
        for _ in 0..N * 4 {
            let delivery = tap.next().await?;
            let (running, most, meeting) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&meeting));
            let now = running.fetch_add(1, Ordering::AcqRel) + 1;
            most.fetch_max(now, Ordering::AcqRel);
            handlers.push(Task::spawn(async move {
                meeting.wait().await;
                running.fetch_sub(1, Ordering::AcqRel);
                delivery.ack().await
            }));
        }
        for handler in handlers {
            handler.join("a handler").await??;
            at.did(1);
        }
        ensure_eq!(most.load(Ordering::Acquire), N, "how many handlers ran at once at most");
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn cancelled_receives(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let publisher = place.publisher().await?;
        let (mut one, mut two) = (place.consumer(4).await?, place.consumer(4).await?);
        let publishing = Task::spawn(publish_all(at.clone(), recorder.clone(), publisher, None, 100));
        let mut progress = Instant::now();
        loop {
            if publishing.is_over() && recorder.missing(0) == 0 {
                break;
            }
            // Both wait; whoever comes second is cancelled, and both are when neither is quick enough.
            let received = tokio::select! {
                received = one.consumer().next() => Some((0, received?)),
                received = two.consumer().next() => Some((1, received?)),
                () = give_way(at.random(4)) => None,
            };
            match received {
                None => {
                    let missing = recorder.missing(0);
                    ensure!(
                        progress.elapsed() < place.patience(),
                        "{missing} messages do not come, however often they are asked for"
                    );
                }
                Some((_, None)) => return Err(Stop::failed("a consumer ended, though nobody stopped it")),
                Some((consumer, Some(delivery))) => {
                    progress = Instant::now();
                    recorder.receipt(&delivery, 0, consumer);
                    at.settled(delivery.ack()).await?;
                }
            }
        }
        publishing.join("the publisher").await??;
        exact(&recorder)?;
        one.close().await?;
        place.nothing_but_a_sentinel(&mut two).await?;
    }
    Ok(())
}

/// Gives way a few times, and at the end long enough for a broker to come between.
async fn give_way(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
    // The pause is what cancels the receives; nothing is waited for.
    tokio::time::sleep(Duration::from_millis(times)).await;
}

async fn cancelled_publishes(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let tap = place.consumer(50).await?;
        let drinkers = Drinkers::start(at, &recorder, 0, vec![tap]);
        let publisher = place.publisher().await?;
        for round in 0..100 {
            let (mark, message): (_, Message) = recorder.intend(None);
            if round % 2 == 0 {
                let result = within("a publish", PATIENCE, publisher.publish(message)).await?;
                recorder.outcome(mark, &result);
            } else {
                // Dropped after so many polls: before it was handed over, on the way, or after all.
                tokio::select! {
                    biased;
                    () = give_way_briefly(at.random(3)) => recorder.fate(mark, Fate::Unknown),
                    result = publisher.publish(message) => recorder.outcome(mark, &result),
                }
            }
            at.did(1);
        }
        at.wait("a flush of the publisher", publisher.flush(tokio::time::Instant::now() + PATIENCE)).await?;
        drinkers.finish(&place).await?;
        exact(&recorder)?;
        // All places in flight are free again.
        let permit = within("room for everything", PATIENCE, publisher.core().in_flight().acquire(usize::MAX)).await?;
        drop(permit?);
    }
    Ok(())
}

async fn give_way_briefly(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}
