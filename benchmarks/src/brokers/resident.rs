//! Memory of the process while very many messages wait at the broker and a slow consumer drains them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use messaging::{App, Broker, Listen};

use super::Site;
use super::load::Load;
use super::ours::{self, From};
use crate::report::Amount;

const RESIDENT_PREFETCH: usize = 1_000;

/// How much the resident memory may differ, in MB.
const RESIDENT_GOAL_MIB: f64 = 40.0;

/// Publishes `messages` that nobody consumes, then has a listener take about 500 of them a second for `drain`.
pub(crate) fn measure<F>(site: &Site, open: impl Fn() -> F, queue: &str, messages: u64, drain: Duration) -> Vec<Amount>
where
    F: Future<Output = Arc<dyn Broker>> + Send + 'static,
{
    eprintln!("{messages} waiting");
    let from = From::Queue(queue.to_owned());
    let broker = open();
    let (to, few) = (from.destination(), (messages / 20).clamp(1, 20_000));
    let filled = site.run(async move {
        let broker = broker.await;
        let publisher = ours::publisher(&*broker, &to, 1_000).await;
        // Buffers that grow once have grown.
        ours::publish(&*publisher, &Load::of(super::load::USUAL_PAYLOAD_BYTES), few, 1_000).await;
        let publishing = async {
            ours::publish(&*publisher, &Load::of(super::load::USUAL_PAYLOAD_BYTES), messages - few, 1_000).await;
        };
        watched(publishing).await
    });
    let broker = open();
    let drained = site.run(async move {
        let handler = |payload: Bytes| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            drop(payload);
        };
        let listen = Listen::queue(from_name(&from)).prefetch(RESIDENT_PREFETCH);
        let running = App::new().broker("main", broker.await).listen(listen, handler).start().await.unwrap();
        // A full prefetch is there.
        tokio::time::sleep(Duration::from_secs(1).min(drain)).await;
        let seen = watched(tokio::time::sleep(drain)).await;
        let handled = running.ledger().total().acked;
        let _report = running.shutdown().await;
        (seen, handled)
    });
    let (slow, handled) = drained;
    assert!(handled > 0, "the slow consumer got nothing");
    let both = Range { least: filled.least.min(slow.least), most: filled.most.max(slow.most) };
    let amount = |what: String, value, goal| Amount { what, unit: "MB between least and most resident", value, goal };
    vec![
        amount(format!("while {messages} are published and wait"), filled.width(), None),
        amount(format!("while a slow listener takes {handled} of them"), slow.width(), None),
        amount("both together".to_owned(), both.width(), Some(RESIDENT_GOAL_MIB)),
    ]
}

fn from_name(from: &From) -> String {
    match from {
        From::Queue(name) => name.clone(),
        From::Topic { topic, .. } => topic.clone(),
    }
}

/// The least and the most that was resident, in bytes.
#[derive(Clone, Copy)]
struct Range {
    least: u64,
    most: u64,
}

impl Range {
    fn width(self) -> f64 {
        (self.most - self.least) as f64 / 1e6
    }
}

/// Looks at the resident memory ten times a second while `act` runs.
async fn watched(act: impl Future<Output = ()>) -> Range {
    let mut seen = Range { least: u64::MAX, most: 0 };
    let mut act = std::pin::pin!(act);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        let resident = resident_bytes();
        seen = Range { least: seen.least.min(resident), most: seen.most.max(resident) };
        tokio::select! {
            () = &mut act => return seen,
            _ = ticks.tick() => {}
        }
    }
}

/// Resident memory of the process; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * 4_096
}
