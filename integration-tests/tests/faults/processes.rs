//! Processes that die: publishers and members of a group, killed at random while the rest goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::address::Address;
use crate::committed;
use crate::length::Length;
use crate::members::{MEMBER, PUBLISHER, Part, Troupe};
use crate::run::{Demand, Run};
use crate::shared::{close, healthy, slack};
use crate::stage::Stage;
use crate::traffic::{self, Consuming, Load, Manner, Publishing};
use integration_tests::runner::Verdict;

/// Publisher processes killed every few seconds: what they were told is confirmed arrives.
pub(crate) async fn publishers_killed(stage: &dyn Stage) -> Verdict {
    let at = stage.queue();
    let run = Arc::new(Run::new(format!("{} publisher processes killed", stage.name())));
    let broker = at.open().await?;
    let consuming = Consuming::start(&run, &broker, &at, Manner::default()).await?;
    let mut troupe = Troupe::new(&run);
    let part = Part { work: Duration::from_micros(500), ..Part::of(&at) };
    for _ in 0..2 {
        troupe.start(PUBLISHER, &part)?;
    }

    let end = Instant::now() + Length::chosen().turmoil();
    while Instant::now() < end {
        let more = run.confirmed() + 500;
        troupe.until("a publisher that publishes", |_| run.confirmed() >= more).await?;
        troupe.kill_one()?;
        troupe.start(PUBLISHER, &part)?;
    }
    while troupe.len() > 0 {
        troupe.kill_one()?;
    }
    troupe.until("all received", |_| run.missing() == 0).await?;
    healthy(&*broker).await?;
    consuming.stop().await?;
    close(&*broker).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;

    // The consumer is well all the time: what comes twice would be its own mistake.
    run.judge(Demand::of(2_000).with_slack(Duration::ZERO).without_end())
}

/// How consumers die.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dying {
    pub(crate) members: usize,
    pub(crate) every: Duration,
    /// A member's work for one message.
    pub(crate) work: Duration,
    /// Its work for each twentieth instead, where that is longer.
    pub(crate) twentieth: Duration,
    pub(crate) keys: u64,
    pub(crate) messages: usize,
}

/// Consumer processes killed every few seconds: what one held goes to another, and a broker's committed offsets are never
/// past what is not settled.
pub(crate) async fn consumers_killed(stage: &dyn Stage, at: Address, how: Dying) -> Verdict {
    let run = Arc::new(Run::new(format!(
        "{} {} consumer processes, one killed each {:?}",
        stage.name(),
        how.members,
        how.every
    )));
    let broker = at.open().await?;
    let mut troupe = Troupe::new(&run);
    let part = Part { work: how.work, ..Part::of(&at) };
    for _ in 0..how.members {
        troupe.start(MEMBER, &part)?;
    }
    troupe.until("members that consume", |troupe| troupe.ready() == how.members).await?;
    let load = Load { backlog: 5_000, keys: how.keys, ..Load::default() };
    let publishing = Publishing::start(&run, &broker, &at, load).await?;

    let end = Instant::now() + Length::chosen().turmoil();
    while Instant::now() < end {
        let again = Instant::now() + how.every;
        troupe.until("members that go on", |_| Instant::now() >= again).await?;
        troupe.kill_one()?;
        troupe.start(MEMBER, &part)?;
        committed::nothing_is_skipped_of(stage, &run, &at, || troupe.read()).await?;
    }
    troupe.until("enough confirmed", |_| run.confirmed() >= how.messages).await?;
    publishing.stop().await?;
    troupe.until("all received", |_| run.missing() == 0).await?;
    committed::all_is_committed_of(stage, &run, &at, || troupe.read()).await?;
    troupe.dismiss_all().await?;
    committed::nothing_is_skipped(stage, &run, &at).await?;
    let slack = slack(&*broker, &at)? + how.work * 100;
    close(&*broker).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;

    let demand = Demand::of(how.messages).with_slack(slack).without_end();
    run.judge(if how.keys > 0 { demand.in_order() } else { demand })
}

/// Consumer processes that come and go all the time, at slow work: what comes twice is at most what was under way at each coming
/// and going. Where some messages take long, a partition goes before its messages are settled, and something does come twice.
pub(crate) async fn members_come_and_go(stage: &dyn Stage, at: Address, how: Dying) -> Verdict {
    let is_slow = !how.twentieth.is_zero();
    let run = Arc::new(Run::new(format!(
        "{} a consumer process comes or goes each {:?}{}",
        stage.name(),
        how.every,
        if is_slow { ", some work takes long" } else { "" }
    )));
    let broker = at.open().await?;
    let mut troupe = Troupe::new(&run);
    let part = Part { work: how.work, twentieth: how.twentieth, prefetch: 20, ..Part::of(&at) };
    for _ in 0..how.members {
        troupe.start(MEMBER, &part)?;
    }
    troupe.until("members that consume", |troupe| troupe.ready() == how.members).await?;
    let load = Load { backlog: 1_000, keys: how.keys, ..Load::default() };
    let publishing = Publishing::start(&run, &broker, &at, load).await?;

    let end = Instant::now() + Length::chosen().turmoil();
    let mut changes = 0;
    run.fault_began();
    while Instant::now() < end {
        let again = Instant::now() + how.every;
        if troupe.len() < how.members {
            troupe.start(MEMBER, &part)?;
        } else {
            troupe.dismiss_one()?;
        }
        changes += 1;
        let due = troupe.until("members that go on", |_| Instant::now() >= again).await;
        due?;
    }
    // On a busy machine the last one comes seconds after it was started.
    troupe.until("members that have all come", |troupe| troupe.ready() == troupe.len()).await?;
    run.fault_ended();
    troupe.until("enough confirmed", |_| run.confirmed() >= how.messages).await?;
    publishing.stop().await?;
    troupe.until("all received", |_| run.missing() == 0).await?;
    committed::all_is_committed_of(stage, &run, &at, || troupe.read()).await?;
    troupe.dismiss_all().await?;
    committed::nothing_is_skipped(stage, &run, &at).await?;
    let slack = slack(&*broker, &at)? + how.work * 20 + how.twentieth * 2;
    close(&*broker).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;

    run.remark(format!("{changes} changes"));
    let under_way = (changes + 1) * how.members * part.prefetch;
    let demand =
        Demand::of(how.messages).with_slack(slack).without_end().with_duplicates(usize::from(is_slow), under_way);
    run.judge(if how.keys > 0 { demand.in_order() } else { demand })
}
