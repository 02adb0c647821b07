//! The weather: two durable subscriptions and an ephemeral one; the server of two of them reboots half way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use messaging::{App, DeadLetterPolicy, Json, Listen, Message, Result};

use crate::input::{Line, Weather, weather_lines};
use crate::picture::{self, Progress};
use crate::report::{Faults, Report, expect};
use crate::stage::Stage;

const ARCHIVE_NAME: &str = "archive";
const DASHBOARD_NAME: &str = "dashboard";
const LIVE_NAME: &str = "live";

#[derive(Default)]
struct Counts {
    archive: Arc<AtomicU64>,
    dashboard: Arc<AtomicU64>,
    live: Arc<AtomicU64>,
    rainy: Arc<AtomicU64>,
}

pub(crate) async fn play(stage: &mut Stage, report: &mut Report, faults: &mut Faults) -> Result<()> {
    picture::title(
        3,
        "Weather",
        "A topic: \"archive\" on server 1; \"dashboard\" (durable) and \"live\" (ephemeral) on server 3, which reboots.",
    );
    stage.clear(&[], &[("weather", ARCHIVE_NAME), ("weather", DASHBOARD_NAME)]).await?;
    let days = weather_lines();
    let (before, rest) = days.split_at(days.len() / 2);
    let (away, after) = rest.split_at(rest.len() / 2);
    let counts = Counts::default();

    let mut app = stage.app();
    let station = app.publisher("weather");
    let listen = Listen::topic("weather").subscription(ARCHIVE_NAME);
    let server_1 = counting(app, listen, &counts.archive, Some(&counts.rainy)).start().await?;
    let server_3 = server_3(stage, &counts).start().await?;

    let progress = Progress::of(days.len());
    let mut published = stage.publish(station.publisher()?, messages(before)?, &progress).await?;
    stage.until("days seen by server 3", 2 * published, || counts.seen_by_3()).await?;
    let live_before = counts.live.load(Ordering::Relaxed);
    stage.close(server_3).await?;
    published += stage.publish(station.publisher()?, messages(away)?, &progress).await?;
    stage.until("days in the archive", published, || counts.archive.load(Ordering::Relaxed)).await?;
    let dashboard_before = counts.dashboard.load(Ordering::Relaxed);

    let server_3 = self::server_3(stage, &counts).start().await?;
    stage.until("days on the dashboard", published, || counts.dashboard.load(Ordering::Relaxed)).await?;
    let caught_up = counts.dashboard.load(Ordering::Relaxed) - dashboard_before;
    let last = stage.publish(station.publisher()?, messages(after)?, &progress).await?;
    published += last;
    drop(progress);
    let expected = 2 * published + live_before + last;
    stage.until("days seen in all", expected, || counts.seen_by_3() + counts.archive.load(Ordering::Relaxed)).await?;
    stage.close(server_3).await?;
    stage.close(server_1).await?;

    let received = [(ARCHIVE_NAME, &counts.archive), (DASHBOARD_NAME, &counts.dashboard), (LIVE_NAME, &counts.live)]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)));
    let missed = published - received[2].1;
    let notes = [
        String::new(),
        format!("caught up on {caught_up} after the reboot"),
        format!("missed {missed} during the reboot"),
    ];
    picture::bars(received.iter().zip(notes).map(|((name, count), note)| (*name, *count, note)));
    picture::line(&format!("{published} days published, {} of them wet", counts.rainy.load(Ordering::Relaxed)));

    report.weather.published = published;
    report.weather.received = received.map(|(name, count)| (name.to_owned(), count)).into();
    if !stage.is_interrupted() {
        expect(faults, "days in the archive", received[0].1, published);
        expect(faults, "days on the dashboard", received[1].1, published);
        expect(faults, "days missed by the ephemeral subscription", missed, away.len() as u64);
    }
    Ok(())
}

impl Counts {
    fn seen_by_3(&self) -> u64 {
        self.dashboard.load(Ordering::Relaxed) + self.live.load(Ordering::Relaxed)
    }
}

/// The server that reboots: it is started twice.
fn server_3(stage: &Stage, counts: &Counts) -> App {
    let app = counting(stage.app(), Listen::topic("weather").subscription(DASHBOARD_NAME), &counts.dashboard, None);
    counting(
        app,
        Listen::topic("weather").ephemeral().id(LIVE_NAME).dead_letter(DeadLetterPolicy::Discard),
        &counts.live,
        None,
    )
}

fn counting(app: App, listen: Listen, count: &Arc<AtomicU64>, rainy: Option<&Arc<AtomicU64>>) -> App {
    let (count, rainy) = (Arc::clone(count), rainy.cloned());
    app.listen(listen, move |Json(day): Json<Weather>| {
        if let Some(rainy) = rainy.as_ref().filter(|_| day.precipitation_mm > 0.0) {
            rainy.fetch_add(1, Ordering::Relaxed);
        }
        count.fetch_add(1, Ordering::Relaxed);
        async {}
    })
}

fn messages(lines: &[Line]) -> Result<Vec<Message>> {
    let message = |line: &Line| {
        Message::builder(line.bytes.clone()).content_type("application/json").message_type("weather.observed").build()
    };
    lines.iter().map(message).collect()
}
