//! RabbitMQ: ours beside lapin.

mod cases;
mod raw;

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use integration_tests::Kind;
use messaging::{Broker, BrokerUrl, Destination, DestinationSettings, Settings};

use self::raw::Raw;
use crate::brokers::latency::{self, WARM_UP};
use crate::brokers::load::{Load, USUAL_PAYLOAD_BYTES};
use crate::brokers::ours::{self, From};
use crate::brokers::{Site, resident};
use crate::report::{Environment, Report};
use crate::{BrokerOptions, Options};

/// How many deliveries may be unsettled.
pub(crate) const UNSETTLED_LIMIT: usize = 1_000;

const IN_FLIGHT_LIMIT: usize = 1_000;

const CONFIRMED_GOAL: f64 = 0.97;
const CONSUMED_GOAL: f64 = 0.97;
const LISTENED_GOAL: f64 = 0.95;
const LATENCY_GOAL: f64 = 1.1;

/// How long to drain slowly while memory is watched.
const SLOW_DRAIN_TIME: Duration = Duration::from_secs(30);

/// Which kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Quorum,
    Classic,
}

impl Type {
    const ALL_TYPES: [Self; 2] = [Self::Quorum, Self::Classic];

    fn name(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }

    fn queue(self) -> String {
        format!("bench.{}", self.name())
    }
}

pub(crate) fn measure(options: &BrokerOptions) -> Report {
    let site = Site::find(Kind::RabbitMq, options.url.as_deref());
    let sides = Arc::new(Sides::open(site, options.null));
    let options = &options.options;
    let mut amounts = Vec::new();
    // First, while the process holds nothing.
    if options.wants("resident") && !sides.null {
        let (messages, drain) =
            if options.quick { (10_000, Duration::from_secs(1)) } else { (1_000_000, SLOW_DRAIN_TIME) };
        let queue = Type::Quorum.queue();
        amounts = resident::measure(&sides.site, || sides.connect(), &queue, messages, drain);
        sides.empty(&queue);
    }
    let mut comparisons = Vec::new();
    for case in cases::all(&sides).iter().filter(|case| options.wants(case.name) || options.wants(&case.setting)) {
        comparisons.extend(case.measure(options));
    }
    let mut latencies = Vec::new();
    if options.wants("latency") {
        for queue in Type::ALL_TYPES {
            latencies.push(sides.latency(queue).measure(options));
        }
    }
    let environment = Environment::of(options, &versions(&sides.site.url), settings(options));
    Report { broker: "rabbitmq", environment, comparisons, latencies, amounts }
}

/// Both sides on one broker.
struct Sides {
    site: Site,
    raw: Arc<Raw>,
    /// Publishes and consumes; listeners open one of their own, because they close it.
    ours: Option<Arc<dyn Broker>>,
    /// The raw client beside itself.
    null: bool,
}

impl Sides {
    fn open(site: Site, null: bool) -> Self {
        let url = site.url.clone();
        let raw = Arc::new(site.run(async move { Raw::open(&url).await }));
        let mut sides = Self { site, raw, ours: None, null };
        if null {
            let raw = Arc::clone(&sides.raw);
            sides.site.run(async move {
                for queue in Type::ALL_TYPES {
                    raw.declare(&queue.queue(), queue.name()).await;
                }
            });
            return sides;
        }
        let ours = sides.connect();
        let ours = sides.site.run(async move {
            let broker = ours.await;
            for queue in Type::ALL_TYPES {
                // Makes the queue.
                drop(From::Queue(queue.queue()).consumer(&*broker, UNSETTLED_LIMIT).await);
            }
            broker
        });
        sides.ours = Some(ours);
        sides
    }

    fn connect(&self) -> impl Future<Output = Arc<dyn Broker>> + Send + use<> {
        let mut options = self.site.options();
        for queue in Type::ALL_TYPES {
            let driver = Settings::new("the benchmark", [("type", queue.name())]);
            let settings = DestinationSettings { driver, ..DestinationSettings::default() };
            options = options.with_destination(Destination::queue(queue.queue()).unwrap(), settings);
        }
        Site::open(options)
    }

    /// Empties the queue and puts so many messages into it; no part of any time.
    fn fill(&self, queue: &str, load: &Load, messages: u64) {
        let (raw, queue, load) = (Arc::clone(&self.raw), queue.to_owned(), load.clone());
        self.site.run(async move { raw.fill(&queue, &load, messages).await });
    }

    fn empty(&self, queue: &str) {
        self.fill(queue, &Load::of(USUAL_PAYLOAD_BYTES), 0);
    }
}

impl Sides {
    fn latency(self: &Arc<Self>, queue: Type) -> latency::Case {
        let (ours, raw) = (Arc::clone(self), Arc::clone(self));
        let reference = move |messages| {
            let (client, queue) = (Arc::clone(&raw.raw), queue.queue());
            raw.empty(&queue);
            raw.site.run(async move { client.latency(&queue, messages, WARM_UP).await })
        };
        let ours: latency::Turn = if self.null {
            Box::new(reference.clone())
        } else {
            Box::new(move |messages| {
                ours.empty(&queue.queue());
                let broker = ours.connect();
                ours.site.run(async move {
                    ours::latency(broker.await, &From::Queue(queue.queue()), messages, WARM_UP).await
                })
            })
        };
        latency::Case { setting: queue.name().to_owned(), goal: LATENCY_GOAL, ours, reference: Box::new(reference) }
    }
}

fn versions(url: &str) -> Vec<String> {
    let url = BrokerUrl::parse(url).unwrap();
    let server = url.hosts().first().and_then(|host| server_version(&host.to_string()).ok().flatten());
    vec![format!("RabbitMQ {}", server.as_deref().unwrap_or("unknown")), "lapin 4.12".to_owned()]
}

/// Version that the server reports in its greeting, which the client does not expose.
fn server_version(address: &str) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut greeting = vec![0; 4_096];
    let length = stream.read(&mut greeting)?;
    // A name, its type, the length of the text in four bytes, of which the last is enough, and the text.
    let name = b"\x07versionS\0\0\0";
    let found = greeting[..length].windows(name.len()).position(|window| window == name);
    let text = found.and_then(|at| {
        let (length, text) = greeting[at + name.len()..].split_first()?;
        text.get(..usize::from(*length))
    });
    Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
}

fn settings(options: &Options) -> Vec<String> {
    vec![
        "256 B payload and 2 headers unless said; each message built anew on both sides, with an id and a time; the same bytes on the wire".to_owned(),
        "2 runtime threads beside those of the clients; publishing and consuming each on a connection of its own; queues durable, messages persistent and mandatory".to_owned(),
        format!("publish: confirmed, by one publisher, with so many in flight; equal writes {} at a time and awaits the confirms in order", raw::JOINED_PUBLISHES),
        format!("consume: prefetch {UNSETTLED_LIMIT}, all are waiting; ours takes up to {} at a time (many) or one (one); equal acknowledges {} by one frame; publishing does not count", cases::MANY_MESSAGES, raw::ACK_INTERVAL),
        "listener: the same with JSON decoded, 1 worker; equal decodes with serde_json".to_owned(),
        format!("floor: publishing without confirms, consuming without acknowledgements; latency: 200 messages/s, turns of {} s, the first {WARM_UP} messages of a turn do not count", options.seconds * 2.0),
        "ratio: how many messages ours moves while the reference moves one; of latency, ours for the reference's p99".to_owned(),
    ]
}
