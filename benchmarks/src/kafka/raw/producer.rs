//! A threaded producer whose delivery reports free the places in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::Notify;

use crate::brokers::load::{self, Load, MESSAGE_HEADERS};
use crate::brokers::ours;
use crate::stopwatch::Stopwatch;

/// How long a message may take.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Sender {
    producer: ThreadedProducer<Reports, NoCustomPartitioner>,
    reports: Reports,
}

impl Sender {
    pub(crate) fn open(servers: &str) -> Self {
        let mut config = super::client(servers);
        config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0");
        config.set("batch.size", "1000000").set("compression.type", "lz4").set("partitioner", "murmur2_random");
        config.set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string());
        config.set("queue.buffering.max.messages", "10000000").set("queue.buffering.max.kbytes", "2097151");
        let reports = Reports::default();
        Self { producer: config.create_with_context(reports.clone()).unwrap(), reports }
    }

    /// Publishes with up to `window` messages in flight and sees each one's delivery report.
    pub(crate) async fn publish(&self, topic: &str, load: &Load, messages: u64, window: usize) -> Duration {
        // The topic's metadata is there, as it is after ours has opened a publisher.
        self.send(topic, &load.payload, u64::MAX);
        self.reports.at_most(0).await;
        let begun = Stopwatch::start();
        let mut room = window;
        for number in 0..messages {
            if room == 0 {
                // Woken when an eighth is free: a wake-up for each message would cost more than sending it.
                let left = self.reports.at_most(window - window.div_ceil(8)).await;
                room = window - left;
            }
            self.send(topic, &load.payload, number);
            room -= 1;
        }
        self.reports.at_most(0).await;
        begun.stop()
    }

    /// Publishes without looking at any delivery report.
    pub(crate) async fn publish_floor(&self, topic: &str, load: &Load, messages: u64) -> Duration {
        self.send(topic, &load.payload, u64::MAX);
        self.reports.at_most(0).await;
        let begun = Stopwatch::start();
        for number in 0..messages {
            self.send(topic, &load.payload, number);
        }
        let producer = self.producer.clone();
        tokio::task::spawn_blocking(move || producer.flush(MESSAGE_TIMEOUT)).await.unwrap().unwrap();
        begun.stop()
    }

    /// Publishes messages that say when they were made, at a steady pace.
    pub(crate) async fn publish_stamped(&self, topic: &str, messages: u64) {
        let mut ticks = ours::ticks();
        for number in 0..messages {
            ticks.tick().await;
            self.send(topic, &load::stamp(), number);
        }
        self.reports.at_most(0).await;
    }

    /// The same headers that ours sends.
    fn send(&self, topic: &str, payload: &Bytes, number: u64) {
        let id = id(number);
        let mut headers = OwnedHeaders::new_with_capacity(1 + MESSAGE_HEADERS.len());
        headers = headers.insert(Header { key: "ce_id", value: Some(id.as_slice()) });
        for (key, value) in MESSAGE_HEADERS {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, number as usize);
        self.reports.0.waiting.fetch_add(1, Ordering::SeqCst);
        self.producer.send(record.payload(payload).headers(headers)).map_err(|(error, _)| error).unwrap();
    }
}

/// An id that looks like ours, without an allocation.
fn id(number: u64) -> [u8; 36] {
    let mut text = *b"0198d0c0-7a5b-7e3c-9c7d-000000000000";
    for (digit, place) in text[24..].iter_mut().rev().enumerate() {
        *place = b"0123456789abcdef"[(number >> (4 * digit) & 15) as usize];
    }
    text
}

/// How many messages have no report yet.
#[derive(Clone, Default)]
struct Reports(Arc<Counts>);

#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
    /// Number of open sends at which a waiting publisher is woken.
    wanted: AtomicUsize,
    fewer: Notify,
}

impl Reports {
    /// Waits until at most so many are left, and says how many those are.
    async fn at_most(&self, wanted: usize) -> usize {
        self.0.wanted.store(wanted, Ordering::SeqCst);
        loop {
            let left = self.0.waiting.load(Ordering::SeqCst);
            if left <= wanted {
                return left;
            }
            // One that came in between left a permit.
            self.0.fewer.notified().await;
        }
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, _number: usize) {
        if let Err((error, _)) = report {
            // A panic here would cross librdkafka: the run would end without a word.
            eprintln!("a message was not delivered: {error}");
            std::process::exit(1);
        }
        let left = self.0.waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == self.0.wanted.load(Ordering::SeqCst) {
            self.0.fewer.notify_one();
        }
    }
}
