//! The scenarios that all kinds of broker share.

use std::{sync::Arc, time::Duration};

use integration_tests::{Error, until};
use messaging::{Broker, ErrorKind, HealthState, SettlementTiming};
use tokio::time::Instant;

use crate::{
    address::Address,
    committed,
    harness::Verdict,
    length::Length,
    run::{Demand, Phase, Run},
    stage::{Fault, Stage},
    traffic::{self, Consuming, Load, Manner, PATIENCE, Publishing},
};

/// A fault that is not seen by then is not seen at all.
pub(crate) const NOTICED: Duration = Duration::from_secs(10);

/// Publishes, consumes and settles while a fault comes and goes: nothing is lost or invented, and all goes on soon after,
/// with one consumer.
pub(crate) async fn through(stage: &dyn Stage, fault: Fault, phase: Phase) -> Verdict {
    through_at(stage, fault, phase, stage.queue(), Load::default(), Length::chosen().messages()).await
}

/// As [`through`], with a place, a load and a number of messages of the caller's.
pub(crate) async fn through_at(
    stage: &dyn Stage,
    fault: Fault,
    phase: Phase,
    at: Address,
    load: Load,
    messages: usize,
) -> Verdict {
    let run = Arc::new(Run::new(format!("{} {fault:?} while {phase:?}", stage.name())));
    let broker = at.open().await?;
    let slack = slack(&*broker, &at)?;
    // What nobody receives yet is no reason to wait.
    let load = if phase == Phase::Both { load } else { Load { backlog: usize::MAX, ..load } };

    let consume = || Consuming::start(&run, &broker, &at, Manner::default());
    let mut consuming = if phase == Phase::Both { Some(consume().await?) } else { None };
    let mut publishing = Some(Publishing::start(&run, &broker, &at, load).await?);
    traffic::confirmed(&run, if phase == Phase::Consuming { messages } else { messages / 2 }).await?;
    if phase == Phase::Consuming {
        stop(publishing.take()).await?;
        consuming = Some(consume().await?);
        until("half of it received", PATIENCE, || async {
            if run.missing() <= messages / 2 { Ok(()) } else { Err(Error::failed(format!("{} left", run.missing()))) }
        })
        .await?;
    }

    run.fault_began();
    stage.begin(fault, &at).await?;
    last(&run, &*broker, fault).await?;
    stage.end(fault, &at).await?;
    run.fault_ended();

    match phase {
        Phase::Consuming => {
            // All that was left may have been read ahead: one more shows that it is back.
            let one = Load { messages: 1, ..Load::default() };
            Publishing::start(&run, &broker, &at, one).await?.ended().await?;
            traffic::back(&run, false, true).await?;
        }
        Phase::Publishing => traffic::back(&run, true, false).await?,
        Phase::Both => traffic::back(&run, true, true).await?,
    }
    committed::nothing_is_skipped(stage, &run, &at).await?;
    if phase == Phase::Consuming {
        traffic::received(&run).await?;
    }
    stage.repair().await?;
    traffic::confirmed(&run, messages).await?;
    stop(publishing).await?;
    let consuming = match consuming {
        Some(consuming) => consuming,
        None => consume().await?,
    };
    traffic::received(&run).await?;
    one_consumer(stage, &run, &at).await?;
    healthy(&*broker).await?;
    committed::all_is_committed(stage, &run, &at).await?;
    consuming.stop().await?;
    close(&*broker).await?;
    committed::nothing_is_skipped(stage, &run, &at).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;

    run.judge(Demand::of(messages).while_(phase).with_slack(slack))
}

async fn stop(publishing: Option<Publishing>) -> Verdict {
    if let Some(publishing) = publishing {
        publishing.stop().await?;
    }
    Ok(())
}

/// Lets the fault last as long as it means something; what cannot be overlooked must show in the broker's health.
async fn last(run: &Run, broker: &dyn Broker, fault: Fault) -> Verdict {
    match fault {
        Fault::Cut | Fault::Closed | Fault::LeaderKilled | Fault::CoordinatorKilled => {}
        Fault::Slow => tokio::time::sleep(Duration::from_secs(5)).await,
        Fault::LeaderPaused => tokio::time::sleep(Duration::from_secs(20)).await,
        Fault::Killed | Fault::Paused | Fault::BlackHole | Fault::AnswersLost => {
            let seen = run.notice(broker, NOTICED).await;
            seen.ok_or_else(|| Error::failed(format!("health says up {NOTICED:?} after the fault began")))?;
            // So that an attempt to come back meets the fault too.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// How long after a receipt the broker may still not know of its settlement: the time it is held by us, and by the adapter.
pub(crate) fn slack(broker: &dyn Broker, at: &Address) -> messaging::Result<Duration> {
    let deferred = match settlement(broker, at)? {
        SettlementTiming::Deferred(most) => most,
        SettlementTiming::Confirmed | SettlementTiming::Sent => Duration::ZERO,
    };
    Ok(Manner::default().hold + deferred + Duration::from_secs(1))
}

/// When the broker knows of a settlement.
fn settlement(broker: &dyn Broker, at: &Address) -> messaging::Result<SettlementTiming> {
    let options = messaging::ConsumeOptions::default();
    let publish = messaging::PublishOptions::default();
    let destination = at.destination()?;
    let place = match &destination {
        messaging::Destination::Queue(queue) => messaging::Place::Consume(queue, &options),
        _ => messaging::Place::Publish(&destination, &publish),
    };
    Ok(broker.capabilities(place).settlement)
}

/// How many may come twice when a consumer is cut off: what it holds, and where settlements are deferred also what it has read
/// ahead and handles in vain, and what it settled since it last told the broker.
fn may_come_twice(broker: &dyn Broker, at: &Address, load: Load) -> messaging::Result<usize> {
    /// An adapter of a log keeps so many ready at most.
    const AHEAD: usize = 10_000;
    let prefetch = Manner::default().prefetch;
    Ok(match settlement(broker, at)? {
        SettlementTiming::Deferred(most) => prefetch + AHEAD + (f64::from(load.rate) * most.as_secs_f64()) as usize,
        SettlementTiming::Confirmed | SettlementTiming::Sent => usize::MAX,
    })
}

/// Exactly one is registered, once the broker has noticed that the other is gone.
pub(crate) async fn one_consumer(stage: &dyn Stage, run: &Run, at: &Address) -> Verdict {
    let registered = until("one registered consumer", Duration::from_secs(10), || async {
        match stage.consumers(at).await? {
            None => Ok(None),
            Some(1) => Ok(Some(1)),
            Some(other) => Err(Error::failed(format!("{other} are registered"))),
        }
    })
    .await?;
    run.remark(registered.map_or_else(|| "consumers not told".to_owned(), |count| format!("{count} consumer")));
    Ok(())
}

/// Health says up again.
pub(crate) async fn healthy(broker: &dyn Broker) -> Verdict {
    until("health that is up again", Duration::from_secs(10), || async {
        let health = broker.health();
        if health.state == HealthState::Up { Ok(()) } else { Err(Error::failed(health.to_string())) }
    })
    .await?;
    Ok(())
}

/// Closes in order: nothing is left over, and it takes no longer than it may. Settlements that a fault took along are told at
/// the end; what they concern has come again by then.
pub(crate) async fn close(broker: &dyn Broker) -> Verdict {
    let (limit, began) = (Duration::from_secs(15), Instant::now());
    let report = broker.close(began + limit).await;
    if began.elapsed() > limit + Duration::from_secs(1) {
        return Err(format!("closing took {:?}, though it had {limit:?}", began.elapsed()).into());
    }
    let only_lost = report.errors.iter().all(|error| error.kind() == ErrorKind::StaleDelivery);
    if report.abandoned > 0 || !only_lost {
        return Err(format!("closing a broker that is well left something over: {report:?}").into());
    }
    Ok(())
}

/// Deletes the queue or topic while it is in use: each later publish is confirmed and received, or fails and says so; a
/// consumer goes on or is told.
pub(crate) async fn deleted_under_us(stage: &dyn Stage, at: Address) -> Verdict {
    let messages = Length::chosen().messages();
    let run = Arc::new(Run::new(format!("{} {} deleted", stage.name(), at.name)));
    let broker = at.open().await?;
    let consuming = Consuming::start(&run, &broker, &at, Manner::default()).await?;
    // A place that is gone is asked for in vain until it is there again; the pace keeps the count of that small.
    let load = Load { rate: 5_000, ..Load::default() };
    let publishing = Publishing::start(&run, &broker, &at, load).await?;
    traffic::confirmed(&run, messages / 2).await?;

    run.fault_began();
    stage.delete(&at).await?;
    run.fault_ended();

    let told = Duration::from_secs(10);
    let goes_on = until("a consumer that goes on or is told", told * 2, || async {
        if consuming.is_over() || run.consumes_again() { Ok(()) } else { Err(Error::failed("it waits unwarned")) }
    });
    goes_on.await?;
    let consuming = if run.consumes_again() {
        run.remark("made again by itself");
        consuming
    } else {
        let kind = consuming.end().await?.map(|error| error.kind());
        if kind != Some(ErrorKind::NotFound) {
            return Err(format!("a consumer of a deleted place was told {kind:?}, not that it is not found").into());
        }
        run.remark("consumer told");
        Consuming::start(&run, &broker, &at, Manner::default()).await?
    };
    let before = run.confirmed();
    publishing.stop().await?;
    // Whoever was told opens a publisher anew.
    let publishing = Publishing::start(&run, &broker, &at, load).await?;
    traffic::confirmed(&run, before.max(messages / 2) + messages / 2).await?;
    publishing.stop().await?;
    traffic::back(&run, true, true).await?;
    settled_down(&run).await;
    healthy(&*broker).await?;
    consuming.stop().await?;
    close(&*broker).await?;

    run.judge_by(run.forgive_before_the_end_of_the_fault(), Demand::of(messages / 2).without_end())
}

/// Waits until nothing more is received: what was deleted does not come, so that no count says when it is over.
async fn settled_down(run: &Run) {
    let mut last = (run.missing(), Instant::now());
    while last.1.elapsed() < Duration::from_secs(2) {
        if run.missing() != last.0 {
            last = (run.missing(), Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Closing with a dead broker ends within its deadline, says what it could not do, and leaves no thread behind.
pub(crate) async fn closed_with_a_dead_broker(stage: &dyn Stage, fault: Fault) -> Verdict {
    let threads = threads();
    let at = stage.queue();
    let run = Arc::new(Run::new(format!("{} closing after {fault:?}", stage.name())));
    let broker = at.open().await?;
    let consuming = Consuming::start(&run, &broker, &at, Manner::default()).await?;
    let publishing = Publishing::start(&run, &broker, &at, Load::default()).await?;
    traffic::confirmed(&run, 2_000).await?;
    run.fault_began();
    stage.begin(fault, &at).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (limit, began) = (Duration::from_secs(5), Instant::now());
    run.closing();
    let report = broker.close(began + limit).await;
    let took = began.elapsed();
    publishing.stop().await?;
    drop(consuming.end().await?);
    drop(broker);
    // A runtime keeps an idle thread for blocking calls for 10 s, and a client may finish by its own time limits.
    let gone = until("the end of the adapter's threads", Duration::from_secs(150), || async {
        let left = self::threads();
        if left.len() <= threads.len() {
            Ok(())
        } else {
            Err(Error::failed(format!("before: {}; now: {}", threads.join(" "), left.join(" "))))
        }
    })
    .await;
    stage.end(fault, &at).await?;
    run.fault_ended();
    gone?;
    committed::nothing_is_skipped(stage, &run, &at).await?;
    if took > limit + Duration::from_millis(500) {
        return Err(format!("closing with a dead broker took {took:?}, though it had {limit:?}").into());
    }
    let all = (Instant::now() - began).as_secs_f32();
    run.remark(format!(
        "closed in {:.1} s, {} abandoned, no thread after {all:.1} s",
        took.as_secs_f32(),
        report.abandoned
    ));

    let again = stage.beside(&at).open().await?;
    let consuming = Consuming::start(&run, &again, &at, Manner::default()).await?;
    traffic::received(&run).await?;
    committed::all_is_committed(stage, &run, &at).await?;
    consuming.stop().await?;
    close(&*again).await?;
    committed::nothing_is_skipped(stage, &run, &at).await?;
    run.judge(Demand::of(2_000).without_end())
}

/// One of two consumers is cut off from the broker, for longer than the broker waits for it: the other gets what it held, and
/// both go on afterwards.
pub(crate) async fn member_cut_off(stage: &dyn Stage, fault: Fault, at: Address) -> Verdict {
    let messages = Length::chosen().messages();
    let run = Arc::new(Run::new(format!("{} {fault:?} between one of two consumers and the broker", stage.name())));
    let well_off = stage.beside(&at);
    let (broker, cut_off) = (well_off.open().await?, at.open().await?);
    let slack = slack(&*broker, &at)?;
    let consuming = Consuming::start(&run, &broker, &well_off, Manner::default()).await?;
    let other = Consuming::start(&run, &cut_off, &at, Manner::default()).await?;
    let load = Load { keys: if at.ordered { 100 } else { 0 }, rate: 10_000, ..Load::default() };
    let most = may_come_twice(&*broker, &at, load)?;
    let publishing = Publishing::start(&run, &broker, &well_off, load).await?;
    traffic::confirmed(&run, messages / 2).await?;

    run.fault_began();
    stage.begin(fault, &at).await?;
    last(&run, &*cut_off, fault).await?;
    // What the one holds has to come to the other while the fault is on.
    publishing.stop().await?;
    let all = if fault == Fault::BlackHole { traffic::received(&run).await } else { Ok(()) };
    stage.end(fault, &at).await?;
    run.fault_ended();
    all?;
    committed::nothing_is_skipped(stage, &run, &at).await?;

    let publishing = Publishing::start(&run, &broker, &well_off, load).await?;
    traffic::back(&run, true, true).await?;
    traffic::confirmed(&run, messages).await?;
    publishing.stop().await?;
    traffic::received(&run).await?;
    healthy(&*cut_off).await?;
    committed::all_is_committed(stage, &run, &at).await?;
    consuming.stop().await?;
    other.stop().await?;
    close(&*cut_off).await?;
    close(&*broker).await?;
    committed::nothing_is_skipped(stage, &run, &at).await?;
    traffic::nothing_comes_back(&run, &well_off).await?;
    let demand = Demand::of(messages).with_slack(slack).with_duplicates(0, most);
    run.judge(if at.ordered { demand.in_order() } else { demand })
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    // A thread that ends while it is looked at has no name any more.
    let mut names: Vec<String> =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect();
    names.iter_mut().for_each(|name| name.truncate(name.trim_end().len()));
    names.sort_unstable();
    names
}
