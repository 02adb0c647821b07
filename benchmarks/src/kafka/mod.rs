//! Kafka: ours beside rdkafka, and Kafka's own measuring tools for orientation.

mod cases;
mod outer;
mod raw;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use integration_tests::Kind;
use messaging::{Broker, BrokerUrl};

use self::raw::{Reader, Sender, Topics};
use crate::brokers::Site;
use crate::brokers::latency::{self, WARM_UP};
use crate::brokers::load::Load;
use crate::brokers::ours::{self, From};
use crate::report::{Environment, Report};
use crate::{BrokerOptions, Options};

/// How many deliveries may be unsettled.
pub(crate) const UNSETTLED_LIMIT: usize = 10_000;

const IN_FLIGHT_LIMIT: usize = 10_000;

const CONFIRMED_GOAL: f64 = 0.95;
const CONSUMED_GOAL: f64 = 0.95;
const LISTENED_GOAL: f64 = 0.80;
const LATENCY_GOAL: f64 = 1.2;

const PARTITIONS: [i32; 2] = [1, 4];

pub(crate) fn measure(options: &BrokerOptions) -> Report {
    let site = Site::find(Kind::Kafka, options.url.as_deref());
    let sides = Arc::new(Sides::open(site, options.null));
    let options = &options.options;
    let mut comparisons = Vec::new();
    for case in cases::all(&sides).iter().filter(|case| options.wants(case.name) || options.wants(&case.setting)) {
        comparisons.extend(case.measure(options));
    }
    let mut latencies = Vec::new();
    if options.wants("latency") {
        for partitions in PARTITIONS {
            latencies.push(sides.latency(partitions).measure(options));
        }
    }
    let amounts = if options.wants("outer") { outer::measure(&sides, options.quick) } else { Vec::new() };
    let versions = [
        "Kafka as installed".to_owned(),
        format!("rdkafka 0.39, librdkafka {}", rdkafka::util::get_rdkafka_version().1),
    ];
    let environment = Environment::of(options, &versions, settings(options));
    Report { broker: "kafka", environment, comparisons, latencies, amounts }
}

/// Both sides on one broker.
struct Sides {
    site: Site,
    /// `host:port,…`.
    servers: String,
    topics: Topics,
    sender: Arc<Sender>,
    /// Publishes and consumes; listeners open one of their own, because they close it. None where the raw client stands
    /// beside itself.
    ours: Option<Arc<dyn Broker>>,
    /// How many messages each of the topics has that are read again and again.
    filled: Mutex<HashMap<String, u64>>,
    names: AtomicU64,
}

impl Sides {
    fn open(site: Site, null: bool) -> Self {
        let url = BrokerUrl::parse(&site.url).unwrap();
        let servers = url.hosts().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut sides = Self {
            topics: Topics::at(&servers),
            sender: Arc::new(Sender::open(&servers)),
            servers,
            site,
            ours: None,
            filled: Mutex::default(),
            names: AtomicU64::new(0),
        };
        if !null {
            sides.ours = Some(sides.site.run(sides.connect()));
        }
        sides
    }

    fn connect(&self) -> impl Future<Output = Arc<dyn Broker>> + Send + use<> {
        Site::open(self.site.options())
    }

    /// A name that was not used before, also by another run on the same broker.
    fn fresh(&self, what: &str) -> String {
        format!("{what}.{}.{}", std::process::id(), self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A new topic for what is done with it; removed afterwards.
    fn with_topic<T>(self: &Arc<Self>, partitions: i32, act: impl FnOnce(String) -> T) -> T {
        let name = self.fresh("bench");
        self.create(&name, partitions);
        let done = act(name.clone());
        let sides = Arc::clone(self);
        self.site.run(async move { sides.topics.delete(&name).await });
        done
    }

    fn create(self: &Arc<Self>, name: &str, partitions: i32) {
        let (sides, name) = (Arc::clone(self), name.to_owned());
        self.site.run(async move { sides.topics.create(&name, partitions).await });
    }

    /// A topic that has at least so many messages of this load. They are read again and again by fresh groups.
    fn filled(self: &Arc<Self>, load: &Load, partitions: i32, messages: u64) -> String {
        let name = format!("bench.{}.{}.p{partitions}", std::process::id(), load.payload.len());
        let known = self.filled.lock().unwrap().get(&name).copied();
        if known.is_none() {
            self.create(&name, partitions);
        }
        let missing = messages.saturating_sub(known.unwrap_or(0));
        if missing > 0 {
            let (sender, name, load) = (Arc::clone(&self.sender), name.clone(), load.clone());
            self.site.run(async move { sender.publish(&name, &load, missing, IN_FLIGHT_LIMIT).await });
        }
        self.filled.lock().unwrap().insert(name.clone(), known.unwrap_or(0).max(messages));
        name
    }

    /// Our source for a topic: a subscription that was not there before.
    fn from(&self, topic: String) -> From {
        From::Topic { topic, subscription: self.fresh("reader") }
    }

    fn latency(self: &Arc<Self>, partitions: i32) -> latency::Case {
        let raw = Arc::clone(self);
        let reference = move |messages| {
            raw.with_topic(partitions, |topic| {
                let (sides, group) = (Arc::clone(&raw), raw.fresh("raw"));
                raw.site.run(async move {
                    let mut reader = Reader::open(&sides.servers, &topic, &group);
                    // The group has met when the first message is there.
                    sides.sender.publish_stamped(&topic, 1).await;
                    reader.ages(1).await;
                    let all = messages + WARM_UP;
                    let (ages, ()) = tokio::join!(reader.ages(all), sides.sender.publish_stamped(&topic, all));
                    reader.close().await;
                    ages[WARM_UP as usize..].to_vec()
                })
            })
        };
        let ours: latency::Turn = if self.ours.is_none() {
            Box::new(reference.clone())
        } else {
            let sides = Arc::clone(self);
            Box::new(move |messages| {
                sides.with_topic(partitions, |topic| {
                    let (broker, from) = (sides.connect(), sides.from(topic));
                    sides.site.run(async move { ours::latency(broker.await, &from, messages, WARM_UP).await })
                })
            })
        };
        let setting = format!("p{partitions}");
        latency::Case { setting, goal: LATENCY_GOAL, ours, reference: Box::new(reference) }
    }
}

fn settings(options: &Options) -> Vec<String> {
    vec![
        "256 B payload of random letters and 2 headers unless said; each message built anew on both sides, with an id; p1 and p4: partitions".to_owned(),
        "2 runtime threads beside those of the clients; acks=all, idempotent, linger 0, lz4, batches of 1 MB, murmur2_random; group.protocol=consumer, commits every 500 ms; the same on both sides".to_owned(),
        "publish: confirmed, by one publisher, with so many in flight; equal is a threaded producer whose delivery reports free the places".to_owned(),
        format!("consume: a fresh group reads from the beginning what lies there, prefetch {UNSETTLED_LIMIT}; ours takes up to {} at a time (many) or one (one) and acknowledges; equal polls on a thread and hands over up to {} at a time with payload and headers copied, to a task that acknowledges; the lowest contiguous offset is stored", cases::MANY_MESSAGES, raw::POLL_BATCH),
        "listener: the same with JSON decoded, 1 worker; equal decodes with serde_json".to_owned(),
        format!("floor: publishing without a look at reports, polling and counting on the client's own thread; latency: 200 messages/s, turns of {} s, the first {WARM_UP} messages of a turn do not count", options.seconds * 2.0),
        "ratio: how many messages ours moves while the reference moves one; of latency, ours for the reference's p99".to_owned(),
    ]
}
