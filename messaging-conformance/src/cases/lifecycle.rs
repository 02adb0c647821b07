//! Lifecycle: stop, drain, close.

use std::time::Duration;

use messaging_core::{Delivery, ErrorKind, Flow, PublisherExt};
use tokio::time::Instant;

use super::traffic::Task;
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::tap::same_multiset;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Kind, Place, text};

cases! {
    /// A drain waits for what was started, and counts it.
    L1_drain_waits_for_the_started on Queue Durable => drain_waits;
    /// At its deadline a drain gives back what is still held: it is delivered again, and not dead-lettered.
    L2_drain_ends_by_its_deadline on Queue Durable => drain_ends;
    /// A consumer that was stopped ends, its unstarted go to the next, and a new one goes on.
    L3_stop_and_start_again on Queue Durable => stop_and_start_again;
    /// Closing the broker wakes a receive that waits.
    L4_close_wakes_a_blocked_receive on Queue Durable => close_wakes;
    /// Closing makes settlements final and publishes sent.
    L5_close_flushes on Queue Durable => close_flushes;
    /// After close, every handle says that it is closed.
    L6_handles_after_close on Queue Durable => handles_after_close;
    /// Dropping everything leaves no task behind.
    L7_dropping_everything_leaks_no_task on Queue Durable => no_task_is_left;
}

async fn drain_waits(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(2).await?;
        place.publish_numbers(5).await?;
        let held = tap.hold(2).await?;
        let work = place.moment() * 2;
        let begun = Instant::now();
        let working = Task::spawn(async move {
            // The work of a handler: the drain must wait for it.
            tokio::time::sleep(work).await;
            for delivery in held {
                delivery.ack().await?;
            }
            Verdict::Ok(())
        });
        let report = tap.drain(PATIENCE).await?;
        ensure!(begun.elapsed() >= work, "the drain ended after {:?}, the work took {work:?}", begun.elapsed());
        ensure!(begun.elapsed() < PATIENCE, "the drain went on until its deadline, though all was settled");
        working.join("the handler").await??;
        ensure_eq!((report.settled, report.abandoned), (2, 0), "how many were settled and abandoned in {report:?}");

        let mut next = place.consumer(8).await?;
        next.drink(3).await?;
        place.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}

async fn drain_ends(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish_numbers(3).await?;
        let mut held = tap.hold(3).await?;
        let limit = place.moment();
        let begun = Instant::now();
        at.settled(held.remove(0).ack()).await?;
        let report = tap.drain(limit).await?;
        ensure!(begun.elapsed() >= limit, "the drain gave up after {:?}, its limit was {limit:?}", begun.elapsed());
        ensure!(begun.elapsed() < limit + Duration::from_secs(15), "the drain took {:?}", begun.elapsed());
        ensure_eq!(report.abandoned, 2, "how many were abandoned in {report:?}");
        let texts: Vec<String> = held.iter().map(text).collect();

        let mut next = place.consumer(4).await?;
        let again = next.hold(2).await?;
        same_multiset(&texts, &again.iter().map(text).collect::<Vec<_>>())?;
        for delivery in again {
            at.settled(delivery.ack()).await?;
        }
        drop(held);
        drop(tap);
        place.nothing_but_a_sentinel(&mut next).await?;
        if place.capabilities().supports(messaging_core::Feature::DeadLetter) {
            let dead =
                at.wait("asking for dead letters", place.broker().inspect().dead_letters(&place.source(), 10)).await?;
            ensure!(dead.is_empty(), "the drain dead-lettered {} messages", dead.len());
        }
    }
    Ok(())
}

async fn stop_and_start_again(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        place.publish_numbers(5).await?;
        let held = tap.hold(2).await?;
        tap.control().set_flow(Flow::Stopped);
        let ended = within("a receive after the stop", PATIENCE, tap.consumer().next()).await??;
        ensure!(ended.is_none(), "a delivery came after the stop");
        let mut got: Vec<String> = held.iter().map(text).collect();
        for delivery in held {
            // What was started may still be settled.
            at.settled(delivery.ack()).await?;
        }
        tap.flush().await?;

        let mut next = place.consumer(8).await?;
        got.extend(next.drink(3).await?);
        same_multiset(&(0..5).map(|number| number.to_string()).collect::<Vec<_>>(), &got)?;
        drop(tap);
        place.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}

async fn close_wakes(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let broker = at.open().await?;
        let mut tap = place.through(broker.clone()).consumer(1).await?;
        let waiting = Task::spawn(async move { tap.consumer().next().await.map(|next| next.is_none()) });
        // Let it begin to wait, as far as that can be seen from outside.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let _ = within("closing", PATIENCE * 2, broker.close(Instant::now() + Duration::from_secs(5))).await?;
        at.did(1);
        match waiting.join("the receive that waits").await? {
            Ok(ended) => ensure!(ended, "a delivery came out of a closed broker"),
            Err(error) => ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of {error}"),
        }
    }
    Ok(())
}

async fn close_flushes(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let broker = at.open().await?;
        let through = place.through(broker.clone());
        let mut tap = through.consumer(16).await?;
        through.publish_numbers(10).await?;
        for delivery in tap.hold(10).await? {
            at.settled(delivery.ack()).await?;
        }
        let publisher = through.publisher().await?;
        let last = publisher.send("last".into(), messaging_core::spi::Permit::none());
        // Neither flushed nor closed by hand: closing the broker has to do it.
        let report = within("closing", PATIENCE * 2, broker.close(Instant::now() + Duration::from_secs(10))).await?;
        ensure!(report.errors.is_empty(), "closing reports {:?}", report.errors);
        let last = within("the outcome of the last publish", PATIENCE, last).await?;
        drop(tap);

        let mut next = place.consumer(16).await?;
        if last.is_ok() {
            next.expect_next("last").await?;
        }
        place.nothing_but_a_sentinel(&mut next).await?;
    }
    Ok(())
}

async fn handles_after_close(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let broker = at.open().await?;
        let through = place.through(broker.clone());
        let mut tap = through.consumer(2).await?;
        let publisher = through.publisher().await?;
        place.publish(["held"]).await?;
        let held = tap.next().await?;
        let report = within("closing", PATIENCE * 2, broker.close(Instant::now() + Duration::from_millis(50))).await?;
        ensure_eq!(report.abandoned, 1, "how many were abandoned in {report:?}");

        let closed = |what: &str, error: messaging_core::Error| {
            ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of {error}, {what}");
            Ok(())
        };
        closed("publish", at.refused("a publish after the close", publisher.publish("x")).await?)?;
        closed("receive", at.refused("a receive after the close", tap.consumer().next()).await?)?;
        let opening = broker.publisher(place.destination(), Default::default());
        closed("publisher", at.refused("opening a publisher after the close", opening).await?)?;
        let error = at.refused("opening a consumer after the close", consume(&through, &broker)).await?;
        closed("consumer", error)?;
        let declared = [messaging_core::Declaration::Destination(place.destination().clone())];
        closed("plan", at.refused("a plan after the close", broker.topology().plan(&declared)).await?)?;
        let settled = within("settling after the close", PATIENCE, held.ack()).await?;
        let error = settled.err().map(|error| error.kind());
        let known = [ErrorKind::Closed, ErrorKind::StaleDelivery, ErrorKind::Disconnected];
        ensure!(error.is_some_and(|kind| known.contains(&kind)), "settling after the close came to {error:?}");

        let mut next = place.consumer(2).await?;
        next.expect_next("held").await?;
    }
    Ok(())
}

async fn consume(place: &Place, broker: &std::sync::Arc<dyn messaging_core::Broker>) -> messaging_core::Result<()> {
    match (place.source(), place.kind()) {
        (messaging_core::Source::Queue(queue), _) => broker.consume(&queue, place.options()).await.map(drop),
        (messaging_core::Source::Subscription(topic, name), _) => {
            let options = messaging_core::SubscribeOptions::durable(name).with_consume(place.options());
            broker.subscribe(&topic, options).await.map(drop)
        }
    }
}

/// How many tasks there are once it is always as many: what was closed before is still about to end.
async fn at_rest(metrics: &tokio::runtime::RuntimeMetrics) -> usize {
    let (mut tasks, mut same) = (metrics.num_alive_tasks(), 0);
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = metrics.num_alive_tasks();
        same = if now == tasks { same + 1 } else { 0 };
        tasks = now;
    }
    tasks
}

async fn no_task_is_left(at: &Bench) -> Verdict {
    for kind in [Kind::Queue, Kind::Durable] {
        if !at.case().kinds.contains(&kind) || !at.declared(kind).await? {
            continue;
        }
        // Made by the case's own handle, which keeps the tasks it needs for that.
        let made = [Place::fresh(at, kind).await?, Place::fresh(at, kind).await?];
        let metrics = tokio::runtime::Handle::current().metrics();
        let before = at_rest(&metrics).await;
        for (politely, made) in [true, false].into_iter().zip(made) {
            let broker = at.open_unowned().await?;
            let place = made.through(broker.clone());
            let mut tap = place.consumer(4).await?;
            place.publish_numbers(4).await?;
            let held: Vec<Delivery> = tap.hold(2).await?;
            if politely {
                for delivery in held {
                    at.settled(delivery.ack()).await?;
                }
                tap.close().await?;
                let _ = within("closing", PATIENCE * 2, broker.close(Instant::now() + Duration::from_secs(5))).await?;
            } else {
                drop(held);
                drop(tap);
            }
            drop(place);
            drop(broker);
            at.eventually("all tasks of the adapter have ended", || async { Ok(metrics.num_alive_tasks() <= before) })
                .await?;
        }
    }
    Ok(())
}
