//! lapin as well as we can use it.
//!
//! *Equal* keeps the guarantees that ours keeps: every message has an id and is persistent and `mandatory`, every publish is
//! confirmed and every confirm is looked at; every delivery is acknowledged. One task writes to a channel, since confirms are
//! mixed up otherwise. *Floor* moves the same bytes and keeps nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, PublisherConfirm};

use super::UNSETTLED_LIMIT;
use crate::brokers::load::{self, Load, MESSAGE_HEADERS};
use crate::brokers::ours;
use crate::order::Order;
use crate::stopwatch::Stopwatch;

/// So many publishes are written together: 16 to 64 make no difference, 1 costs a third.
pub(super) const JOINED_PUBLISHES: usize = 32;

/// So many deliveries are acknowledged by one frame.
pub(super) const ACK_INTERVAL: u64 = 64;

/// Publishing and consuming have a connection each, so that a blocked publisher holds up no acknowledgement.
pub(crate) struct Raw {
    publishing: Connection,
    consuming: Connection,
}

impl Raw {
    pub(crate) async fn open(url: &str) -> Self {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        Self { publishing: connect().await.unwrap(), consuming: connect().await.unwrap() }
    }

    /// Makes a durable queue of this type.
    pub(crate) async fn declare(&self, queue: &str, of_type: &str) {
        let channel = self.publishing.create_channel().await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(of_type.into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), durable, arguments).await.unwrap();
        channel.close(200, "done".into()).await.unwrap();
    }

    /// Publishes with up to `window` messages in flight and sees each confirmed, in order.
    pub(crate) async fn publish(&self, queue: &str, load: &Load, messages: u64, window: usize) -> Duration {
        let channel = self.confirming().await;
        let begun = Stopwatch::start();
        let joined = JOINED_PUBLISHES.min(window);
        let mut sent = VecDeque::with_capacity(window + JOINED_PUBLISHES);
        let mut left = messages;
        while left > 0 {
            let now = left.min(joined as u64);
            left -= now;
            while sent.len() + now as usize > window {
                confirm(sent.pop_front()).await;
            }
            let writes = (0..now).map(|number| write(&channel, queue, &load.payload, left + number));
            sent.extend(in_order(writes).await);
        }
        while !sent.is_empty() {
            confirm(sent.pop_front()).await;
        }
        let took = begun.stop();
        channel.close(200, "done".into()).await.unwrap();
        took
    }

    /// Publishes without asking for confirms.
    pub(crate) async fn publish_floor(&self, queue: &str, load: &Load, messages: u64) -> Duration {
        let channel = self.publishing.create_channel().await.unwrap();
        let begun = Stopwatch::start();
        let mut left = messages;
        while left > 0 {
            let now = left.min(JOINED_PUBLISHES as u64);
            left -= now;
            drop(in_order((0..now).map(|number| write(&channel, queue, &load.payload, left + number))).await);
        }
        // The answer comes after all before it was read.
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        let took = begun.stop();
        channel.close(200, "done".into()).await.unwrap();
        took
    }

    /// Empties the queue and puts so many messages into it.
    pub(crate) async fn fill(&self, queue: &str, load: &Load, messages: u64) {
        let channel = self.publishing.create_channel().await.unwrap();
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
        channel.close(200, "done".into()).await.unwrap();
        self.publish(queue, load, messages, 4_000).await;
    }

    /// Takes and acknowledges so many messages; the time begins with the first of them.
    pub(crate) async fn consume(&self, queue: &str, messages: u64) -> Duration {
        self.take(queue, messages, |delivery| {
            black_box(&delivery.data);
        })
        .await
    }

    /// The same, and decodes each.
    pub(crate) async fn listen(&self, queue: &str, messages: u64) -> Duration {
        let mut sum = 0_u64;
        self.take(queue, messages, move |delivery| {
            let order: Order = serde_json::from_slice(&delivery.data).unwrap();
            sum = black_box(sum.wrapping_add(order.id));
        })
        .await
    }

    async fn take(&self, queue: &str, messages: u64, mut handle: impl FnMut(&Delivery)) -> Duration {
        let (channel, mut consumer) = self.consumer(queue, false).await;
        let mut begun = None;
        for number in 1..=messages {
            let delivery = consumer.next().await.unwrap().unwrap();
            begun.get_or_insert_with(Stopwatch::start);
            handle(&delivery);
            if number % ACK_INTERVAL == 0 || number == messages {
                let all_before = BasicAckOptions { multiple: true };
                channel.basic_ack(delivery.delivery_tag, all_before).await.unwrap();
            }
        }
        let took = begun.unwrap().stop();
        channel.close(200, "done".into()).await.unwrap();
        took
    }

    /// Takes so many messages that the broker forgets as it sends them.
    pub(crate) async fn consume_floor(&self, queue: &str, messages: u64) -> Duration {
        let (channel, mut consumer) = self.consumer(queue, true).await;
        let mut begun = None;
        for _ in 0..messages {
            black_box(consumer.next().await.unwrap().unwrap());
            begun.get_or_insert_with(Stopwatch::start);
        }
        let took = begun.unwrap().stop();
        channel.close(200, "done".into()).await.unwrap();
        took
    }

    /// Publishes at a steady pace to a consumer of its own. How long each message took from the publish call until it was in
    /// the consumer's hands, in nanoseconds; the first `warm_up` do not count.
    pub(crate) async fn latency(&self, queue: &str, messages: u64, warm_up: u64) -> Vec<u64> {
        let all = messages + warm_up;
        let (channel, mut consumer) = self.consumer(queue, false).await;
        let consuming = tokio::spawn(async move {
            let mut samples = Vec::new();
            for number in 0..all {
                let delivery = consumer.next().await.unwrap().unwrap();
                if number >= warm_up {
                    samples.push(load::age(&delivery.data).as_nanos() as u64);
                }
                channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
            }
            channel.close(200, "done".into()).await.unwrap();
            samples
        });
        let publishing = self.confirming().await;
        let mut ticks = ours::ticks();
        let mut sent = VecDeque::new();
        for number in 0..all {
            ticks.tick().await;
            let payload = load::stamp();
            sent.push_back(write(&publishing, queue, &payload, number).await.unwrap());
        }
        while !sent.is_empty() {
            confirm(sent.pop_front()).await;
        }
        publishing.close(200, "done".into()).await.unwrap();
        consuming.await.unwrap()
    }

    async fn confirming(&self) -> Channel {
        let channel = self.publishing.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        channel
    }

    async fn consumer(&self, queue: &str, no_ack: bool) -> (Channel, Consumer) {
        let channel = self.consuming.create_channel().await.unwrap();
        channel.basic_qos(UNSETTLED_LIMIT as u16, BasicQosOptions::default()).await.unwrap();
        let options = BasicConsumeOptions { no_ack, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
        (channel, consumer)
    }
}

async fn write(channel: &Channel, queue: &str, payload: &[u8], number: u64) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(ShortString::default(), queue.into(), options, payload, properties(number)).await
}

/// Writes all, and waits until the last has left. The first look at a publish hands its frames to the client, so that all are
/// looked at once and then awaited one by one; `join_all` takes longer, since each wakes and looks up its place in a queue.
async fn in_order(
    writes: impl Iterator<Item = impl Future<Output = lapin::Result<PublisherConfirm>>>,
) -> Vec<PublisherConfirm> {
    let mut begun = Vec::with_capacity(writes.size_hint().0);
    for write in writes {
        let mut write = Box::pin(write);
        begun.push(match write.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(written) => Err(written.unwrap()),
            Poll::Pending => Ok(write),
        });
    }
    let mut confirms = Vec::with_capacity(begun.len());
    for write in begun {
        confirms.push(match write {
            Ok(write) => write.await.unwrap(),
            Err(written) => written,
        });
    }
    confirms
}

async fn confirm(oldest: Option<PublisherConfirm>) {
    if let Some(oldest) = oldest {
        assert_eq!(oldest.await.unwrap(), Confirmation::Ack(None));
    }
}

/// The same properties that ours sends.
fn properties(number: u64) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in MESSAGE_HEADERS {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    BasicProperties::default()
        .with_message_id(format!("0198d0c0-7a5b-7e3c-9c7d-{number:012x}").into())
        .with_timestamp(now.as_secs())
        .with_delivery_mode(2)
        .with_headers(headers)
}
