//! Groups: the same orders as a topic. Each subscription gets all of them, its members share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use messaging::{
    App, Destination, Feature, Headers, Listen, Place, Result, RunningApp, Source, Start, SubscribeOptions,
    SubscriptionName, UsedAs,
};

use tokio::sync::watch;

use crate::input::Line;
use crate::picture::{self, Progress};
use crate::report::{Faults, Report, expect};
use crate::stage::Stage;

const FULFILMENT: &str = "fulfilment";
const ML: &str = "ml";
/// Small, so that the members share well.
const PREFETCH: usize = 16;
/// How many orders a member handles at once.
const HANDLERS: usize = 4;
const MEMBERS: [&str; 3] = ["fulfilment-1", "fulfilment-2", "fulfilment-3"];

pub(crate) async fn play(stage: &mut Stage, report: &mut Report, lines: &[Line], faults: &mut Faults) -> Result<()> {
    picture::title(
        2,
        "Groups",
        "The same orders as a topic: \"fulfilment\" with three members, and \"ml\", which joins late.",
    );
    stage.clear(&[], &[("feed", FULFILMENT), ("feed", ML)]).await?;
    let counts: Vec<(&str, Arc<AtomicU64>)> = MEMBERS.iter().chain([&ML]).map(|name| (*name, Arc::default())).collect();

    let slow = Arc::new(SlowOrder::at(lines.get(lines.len() / 2).map_or(0, |line| line.number)));
    let mut app = stage.app();
    let feed = app.publisher("feed");
    for (member, count) in &counts[..MEMBERS.len()] {
        let listen = Listen::topic("feed").subscription(FULFILMENT).id(*member).prefetch(PREFETCH);
        // On a log a member has its partitions to itself: others of its handlers go on while one takes long.
        let listen = listen.concurrency(HANDLERS);
        app = counting(app, listen, count, Some(&slow));
    }
    let members = app.start().await?;
    let can_replay = can_replay(stage, &members)?;
    if !can_replay {
        picture::note("this broker keeps no past: \"ml\" subscribes before the orders come, and reads them later");
        drop(
            stage
                .app()
                .listen(Listen::topic("feed").subscription(ML).id(ML), || async {})
                .start()
                .await?
                .shutdown()
                .await?,
        );
    }

    let progress = Progress::of(lines.len());
    let messages = lines.iter().map(super::orders::message).collect::<Result<Vec<_>>>()?;
    let published = stage.publish(feed.publisher()?, messages, &progress).await?;
    drop(progress);
    let fulfilled = || counts[..MEMBERS.len()].iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum::<u64>();
    // The member that holds the slow order may hold its whole prefetch.
    stage.until("orders received by fulfilment", published.saturating_sub(PREFETCH as u64), fulfilled).await?;
    if !lines.is_empty() {
        picture::line(&format!(
            "one order (line {}) takes long: delivery goes on, the committed position waits for it",
            slow.line
        ));
    }
    positions(&members, &[FULFILMENT]).await?;
    slow.finish();
    stage.until("orders acknowledged by fulfilment", published, || members.ledger().total().acked).await?;
    positions(&members, &[FULFILMENT]).await?;

    picture::line("\"ml\" joins now and starts at the earliest:");
    let start = if can_replay { Start::Earliest } else { Start::New };
    let listen = Listen::topic("feed").subscription(ML).id(ML).start(start).prefetch(64);
    let ml_count = &counts[MEMBERS.len()].1;
    let ml = counting(stage.app(), listen, ml_count, None).start().await?;
    stage.until("orders acknowledged by ml", published, || ml.ledger().total().acked).await?;
    positions(&ml, &[FULFILMENT, ML]).await?;
    picture::bars(counts.iter().map(|(name, count)| (*name, count.load(Ordering::Relaxed), "orders".to_owned())));
    stage.close(members).await?;
    stage.close(ml).await?;

    let ml_received = ml_count.load(Ordering::Relaxed);
    report.groups.published = published;
    report.groups.received = [(FULFILMENT.to_owned(), fulfilled()), (ML.to_owned(), ml_received)].into();
    if !stage.is_interrupted() {
        expect(faults, "orders received by fulfilment", fulfilled(), published);
        expect(faults, "orders received by ml", ml_received, published);
    }
    Ok(())
}

/// An order that takes until it is told to be finished.
struct SlowOrder {
    line: usize,
    finished: watch::Sender<bool>,
}

impl SlowOrder {
    fn at(line: usize) -> Self {
        Self { line, finished: watch::Sender::new(false) }
    }

    fn finish(&self) {
        self.finished.send_replace(true);
    }

    async fn handle(&self, headers: &Headers) {
        if headers.get("line").is_some_and(|line| line == self.line.to_string()) {
            // The sender is alive as long as `self`.
            let _ = self.finished.subscribe().wait_for(|finished| *finished).await;
        }
    }
}

fn counting(app: App, listen: Listen, count: &Arc<AtomicU64>, slow: Option<&Arc<SlowOrder>>) -> App {
    let (count, slow) = (Arc::clone(count), slow.cloned());
    app.listen(listen, move |headers: Headers| {
        let (count, slow) = (Arc::clone(&count), slow.clone());
        async move {
            if let Some(slow) = slow {
                slow.handle(&headers).await;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
}

fn can_replay(stage: &Stage, running: &RunningApp) -> Result<bool> {
    let options = SubscribeOptions::durable(SubscriptionName::parse(ML)?).with_start(Start::Earliest);
    let Destination::Topic(topic) = stage.config.binding("feed", UsedAs::Topic)?.destination else { return Ok(false) };
    Ok(running.broker_of("feed")?.capabilities(Place::Subscribe(&topic, &options)).supports(Feature::Replay))
}

/// Each group's own place in the log: what it gets next, and up to where everything is acknowledged.
async fn positions(running: &RunningApp, groups: &[&str]) -> Result<()> {
    let broker = running.broker_of("feed")?;
    for group in groups {
        let source: Source = running.subscription_of("feed", group)?;
        match broker.inspect().positions(&source).await {
            Ok(partitions) => {
                let (current, committed, end) =
                    partitions.iter().fold((0, 0, 0), |(current, committed, end), partition| {
                        (current + partition.current, committed + partition.committed, end + partition.end)
                    });
                picture::line(&format!("   {group:<12} current {current:>5}   committed {committed:>5}   of {end}"));
            }
            Err(_) => {
                let waiting = broker.inspect().lag(&source).await?;
                picture::line(&format!("   {group:<12} {waiting} behind (this broker has no positions)"));
            }
        }
    }
    Ok(())
}
