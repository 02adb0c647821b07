//! Faults: whatever breaks, what was confirmed is received, nothing is invented, and what comes twice is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use messaging_core::{Destination, ErrorKind, ErrorOutcome, Event, PublishOptions, Publisher, PublisherExt};

use super::traffic::{Drinkers, Task, publish_marked};
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::child::{Child, Role};
use crate::history::Recorder;
use crate::tap::same_multiset;
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Line, Place, Power, Tap};

cases! {
    /// Through a kill of the server and its start, nothing confirmed is lost.
    X1_server_killed_and_started on Queue Durable, needs SurvivesRestart, with Kill => server_killed;
    /// Through a restart of the server in order, nothing confirmed is lost.
    X1_server_restarted on Queue Durable, needs SurvivesRestart, with Restart => server_restarted;
    /// After its connection was killed a consumer resumes by itself, says so, and is registered once.
    X2_connection_killed on Queue Durable, with Cut CountConsumers => connection_killed;
    /// Through repeated cuts of the connection nothing confirmed is lost.
    X2_cut_again_and_again on Queue Durable, with Cut => cut_again_and_again;
    /// Through a line that swallows everything for a while, nothing confirmed is lost.
    X3_black_hole on Queue Durable, with Line => black_hole;
    /// Over a slow line all arrives.
    X3_slow_line on Queue Durable, with SlowLine => slow_line;
    /// A queue deleted under its users is told to them: no publish is lost silently, no consumer waits for ever unwarned.
    X4_queue_removed_under_us on Queue, with RemoveQueue => queue_removed;
    /// A subscription ended under its consumer is told to it.
    X4_unsubscribed_under_us on Durable => unsubscribed;
    /// Publishing through an outage ends in time, tells what it knows, and goes on by itself afterwards.
    X5_publishing_through_an_outage on Queue Durable, with Line => publishing_through_an_outage;
    /// Consumer processes killed at random lose nothing.
    X6_consumers_killed_at_random on Queue, with Processes => consumers_killed;
    /// The loss of the leading node of a cluster loses nothing confirmed.
    X7_leader_lost on Queue, needs SurvivesRestart, with LeaderLoss => leader_lost;
}

/// Publishes and consumes while a fault happens, and checks the history: nothing confirmed lost, nothing invented.
async fn through<F: Future<Output = Verdict>>(at: &Bench, place: &Place, fault: impl FnOnce() -> F) -> Verdict {
    let recorder = Recorder::new(1);
    let mut taps = Vec::new();
    for _ in 0..2 {
        taps.push(place.consumer(8).await?);
    }
    let drinkers = Drinkers::start(at, &recorder, 0, taps);
    drinkers.forgive_settlements();
    let stop = Arc::<AtomicBool>::default();
    let options = PublishOptions::default().with_timeout(Duration::from_secs(3));
    let opening = place.broker().publisher(place.destination(), options);
    let publisher = at.wait("opening a publisher", opening).await?;
    let publishing =
        Task::spawn(publish_until(at.clone(), recorder.clone(), Arc::clone(&publisher), Arc::clone(&stop)));

    flows(at, &recorder, 20).await?;
    recorder.fault_began();
    fault().await?;
    recorder.fault_ended();
    flows(at, &recorder, 20).await?;
    stop.store(true, Ordering::Release);
    publishing.join("the publisher").await??;
    drinkers.finish(place).await?;

    let findings = recorder.history().check();
    findings.at_least_once().map_err(Stop::failed)?;
    ensure!(findings.time_to_recover.is_some(), "nothing was received after the fault: {findings}");
    Ok(())
}

/// Waits until so many more are confirmed and received.
async fn flows(at: &Bench, recorder: &Recorder, more: usize) -> Verdict {
    let confirmed = recorder.confirmed() + more;
    at.eventually("messages flow", || async { Ok(recorder.confirmed() >= confirmed) }).await
}

async fn publish_until(at: Bench, recorder: Recorder, publisher: Arc<dyn Publisher>, stop: Arc<AtomicBool>) -> Verdict {
    let mut pause = Duration::from_millis(1);
    while !stop.load(Ordering::Acquire) {
        let sent = publish_marked(&at, &recorder, &publisher, None).await?;
        // A broker that refuses at once would be asked thousands of times: the pause grows, as in an application.
        pause = if sent { Duration::from_millis(1) } else { (pause * 2).min(Duration::from_millis(100)) };
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

async fn server_killed(at: &Bench) -> Verdict {
    restarted(at, Power::Kill).await
}

async fn server_restarted(at: &Bench) -> Verdict {
    restarted(at, Power::Restart).await
}

/// With a backlog that nobody consumes, and with messages on the move.
async fn restarted(at: &Bench, how: Power) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let publisher = place.publisher().await?;
        for _ in 0..50 {
            publish_marked(at, &recorder, &publisher, None).await?;
        }
        at.stage().restart(how).await?;
        let tap = place.consumer(16).await?;
        Drinkers::start(at, &recorder, 0, vec![tap]).finish(&place).await?;
        recorder.history().check().at_least_once().map_err(Stop::failed)?;

        through(at, &place, || async { Ok(at.stage().restart(how).await?) }).await?;
    }
    Ok(())
}

async fn connection_killed(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        place.publish(["before"]).await?;
        tap.expect_next("before").await?;
        tap.flush().await?;
        let registered = || async { Verdict::Ok(at.stage().consumers(&place.source()).await?) };
        at.eventually("one consumer is registered", || async { Ok(registered().await? == 1) }).await?;

        at.stage().cut().await?;
        tap.event(|event| matches!(event, Event::Reconnected)).await?;
        place.publish_again("after").await?;
        tap.expect_next("after").await?;
        at.eventually("one consumer is registered after the cut", || async { Ok(registered().await? == 1) }).await?;
        place.publish_numbers(10).await?;
        let mut numbers = Vec::new();
        while numbers.len() < 10 {
            // One whose outcome was not known may have arrived too.
            numbers.extend(tap.drink(1).await?.into_iter().filter(|text| text != "after"));
        }
        same_multiset(&(0..10).map(|number| number.to_string()).collect::<Vec<_>>(), &numbers)?;
        ensure_eq!(registered().await?, 1, "how many consumers are registered after the cut");
    }
    Ok(())
}

async fn cut_again_and_again(at: &Bench) -> Verdict {
    for place in at.places().await? {
        through(at, &place, || async {
            for _ in 0..3 {
                at.stage().cut().await?;
                at.outlast(place.moment()).await;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn black_hole(at: &Bench) -> Verdict {
    for place in at.places().await? {
        through(at, &place, || async {
            at.stage().set_line(Line::BlackHole).await?;
            at.outlast(Duration::from_millis(500)).await;
            Ok(at.stage().set_line(Line::Up).await?)
        })
        .await?;
    }
    Ok(())
}

async fn slow_line(at: &Bench) -> Verdict {
    for place in at.places().await? {
        through(at, &place, || async {
            at.stage().set_line(Line::Slow).await?;
            at.outlast(Duration::from_secs(2)).await;
            Ok(at.stage().set_line(Line::Up).await?)
        })
        .await?;
    }
    Ok(())
}

async fn queue_removed(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let Destination::Queue(queue) = place.destination() else { continue };
        let publisher = place.publisher().await?;
        let mut tap = place.consumer(4).await?;
        at.wait("a publish before the removal", publisher.publish("before")).await?;
        tap.expect_next("before").await?;
        at.stage().remove_queue(queue).await?;

        // Either the adapter makes it again and the message arrives, or the publish says that it did not.
        let published = within("a publish after the removal", PATIENCE, publisher.publish("after")).await?;
        at.did(1);
        match published {
            Err(error) => {
                let known = [
                    ErrorKind::NotFound,
                    ErrorKind::Unroutable,
                    ErrorKind::Disconnected,
                    ErrorKind::Timeout,
                    // A broker that was about to store it says that it could not, and not why.
                    ErrorKind::Full,
                ];
                ensure!(known.contains(&error.kind()), "a publish to a queue that was removed: {error}");
                told_or_made_again(at, &publisher, tap).await?;
            }
            Ok(_) => {
                drop(tap);
                let mut anew = place.consumer(4).await?;
                anew.expect_next("after").await?;
            }
        }
        // Opened again, all works.
        let mut anew = place.consumer(4).await?;
        place.nothing_but_a_sentinel(&mut anew).await?;
    }
    Ok(())
}

/// A consumer whose queue was removed is told so; or it made the queue again, and gets what is published from then on.
async fn told_or_made_again(at: &Bench, publisher: &Arc<dyn Publisher>, mut tap: Tap) -> Verdict {
    let waiting = Task::spawn(async move {
        let received = tap.consumer().next().await;
        received.map(|delivery| (delivery, tap))
    });
    let sent = AtomicBool::new(false);
    at.eventually("a consumer of a removed queue is told, or goes on", || async {
        if !waiting.is_over() && !sent.load(Ordering::Acquire) {
            sent.store(publisher.publish("later").await.is_ok(), Ordering::Release);
        }
        Ok(waiting.is_over())
    })
    .await?;
    match waiting.join("a receive after the removal").await? {
        Ok((Some(delivery), _tap)) => {
            ensure_eq!(crate::text(&delivery), "later", "what a consumer gets that made its queue again");
            at.settled(delivery.ack()).await
        }
        Ok((None, _)) => Err(Stop::failed("a consumer of a removed queue ended without a reason")),
        Err(error) => {
            ensure_eq!(error.kind(), ErrorKind::NotFound, "what a consumer of a removed queue is told: {error}");
            Ok(())
        }
    }
}

async fn unsubscribed(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let (Some(topic), Some(name)) = (place.topic(), place.subscription()) else { continue };
        let mut tap = place.consumer(4).await?;
        place.publish(["before"]).await?;
        tap.expect_next("before").await?;
        at.wait("unsubscribing", place.broker().repair().unsubscribe(topic, name)).await?;
        let received = within("a receive after unsubscribing", PATIENCE * 2, tap.consumer().next()).await?;
        at.did(1);
        let kind = received.err().map(|error| error.kind());
        ensure_eq!(kind, Some(ErrorKind::NotFound), "what a consumer of an ended subscription gets");
    }
    Ok(())
}

async fn publishing_through_an_outage(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let tap = place.consumer(16).await?;
        let drinkers = Drinkers::start(at, &recorder, 0, vec![tap]);
        drinkers.forgive_settlements();
        let limit = Duration::from_millis(500);
        let options = PublishOptions::default().with_timeout(limit);
        let publisher = at.wait("opening a publisher", place.broker().publisher(place.destination(), options)).await?;
        publish_marked(at, &recorder, &publisher, None).await?;
        for line in [Line::Down, Line::BlackHole] {
            recorder.fault_began();
            at.stage().set_line(line).await?;
            for number in 0..5 {
                let (mark, message) = recorder.intend(None);
                let begun = tokio::time::Instant::now();
                let result = within("a publish through an outage", PATIENCE, publisher.publish(message)).await?;
                recorder.outcome(mark, &result);
                at.did(1);
                let Err(error) = result else { return Err(Stop::failed("a publish without a line was confirmed")) };
                ensure!(error.is_retryable(), "an outage is no reason to give up for good: {error}");
                ensure!(begun.elapsed() < limit + Duration::from_secs(10), "it took {:?}", begun.elapsed());
                // Later ones may be kept back, once the silence is noticed: whether those arrived all the same is in the history.
                if line == Line::BlackHole && number == 0 {
                    ensure_eq!(error.outcome(), ErrorOutcome::Unknown, "the outcome of {error}");
                }
            }
            at.stage().set_line(Line::Up).await?;
            recorder.fault_ended();
            at.eventually("publishing works again", || publish_marked(at, &recorder, &publisher, None)).await?;
        }
        drinkers.finish(&place).await?;
        recorder.history().check().at_least_once().map_err(Stop::failed)?;
    }
    Ok(())
}

async fn consumers_killed(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let Destination::Queue(queue) = place.destination() else { continue };
        let recorder = Recorder::new(1);
        let publisher = place.publisher().await?;
        for _ in 0..10 {
            let mut child = Child::start(at, Role::Hold, queue)?;
            for _ in 0..20 {
                publish_marked(at, &recorder, &publisher, None).await?;
            }
            let enough = usize::try_from(at.random(10)).unwrap_or(0) + 1;
            child.has_told(at, enough).await?;
            child.kill();
        }
        let tap = place.consumer(32).await?;
        Drinkers::start(at, &recorder, 0, vec![tap]).finish(&place).await?;
        recorder.history().check().at_least_once().map_err(Stop::failed)?;
    }
    Ok(())
}

async fn leader_lost(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let destination = place.destination().clone();
        through(at, &place, || async { Ok(at.stage().lose_leader(&destination, Duration::from_secs(10)).await?) })
            .await?;
    }
    Ok(())
}
