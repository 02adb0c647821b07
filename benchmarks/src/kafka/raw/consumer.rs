//! A base consumer on a thread of its own, and the task that it feeds.

use std::hint::black_box;
use std::ops::Range;
use std::sync::mpsc as thread;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use tokio::sync::mpsc;

use super::window::Window;
use crate::brokers::load;
use crate::kafka::UNSETTLED_LIMIT;
use crate::order::Order;
use crate::stopwatch::Stopwatch;

/// So many messages are handed over together, at most.
pub(crate) const POLL_BATCH: usize = 512;

/// How long a poll waits for the first message.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// A whole message: where its parts lie in the memory of its batch.
struct Owned {
    partition: i32,
    offset: i64,
    /// In milliseconds since 1970.
    made: i64,
    key: Option<Range<usize>>,
    payload: Range<usize>,
    /// Which of the batch's headers are its own.
    headers: Range<usize>,
}

/// Messages that were polled together.
#[derive(Default)]
struct Batch {
    memory: Bytes,
    /// Where names and values of headers lie.
    headers: Vec<(Range<usize>, Range<usize>)>,
    messages: Vec<Owned>,
}

/// A consumer that reads a topic from its beginning, on its own thread, until it is dropped.
pub(crate) struct Reader {
    batches: mpsc::Receiver<Batch>,
    acks: Option<thread::Sender<Vec<(i32, i64)>>>,
    polling: Option<JoinHandle<()>>,
}

impl Reader {
    pub(crate) fn open(servers: &str, topic: &str, group: &str) -> Self {
        let consumer = group_consumer(servers, group);
        consumer.subscribe(&[topic]).unwrap();
        let (sender, batches) = mpsc::channel(64);
        let (acks, acked) = thread::channel();
        let topic = topic.to_owned();
        let thread = std::thread::Builder::new().name("raw-consumer".into());
        let polling = thread.spawn(move || Polling { consumer, topic, sender, acked }.run()).unwrap();
        Self { batches, acks: Some(acks), polling: Some(polling) }
    }

    async fn next(&mut self) -> Batch {
        self.batches.recv().await.unwrap()
    }

    fn ack(&self, batch: &Batch) {
        let acked = batch.messages.iter().map(|message| (message.partition, message.offset)).collect();
        if let Some(acks) = &self.acks {
            acks.send(acked).unwrap();
        }
    }

    /// Ends the thread, which commits what is stored; no part of any time.
    pub(crate) async fn close(mut self) {
        self.acks = None;
        self.batches.close();
        while self.batches.recv().await.is_some() {}
        let polling = self.polling.take();
        tokio::task::spawn_blocking(move || polling.map(JoinHandle::join)).await.unwrap();
    }

    /// How old so many messages are when the task has them, in nanoseconds.
    pub(crate) async fn ages(&mut self, messages: u64) -> Vec<u64> {
        let mut ages = Vec::with_capacity(messages as usize);
        while (ages.len() as u64) < messages {
            let batch = self.next().await;
            for message in &batch.messages {
                ages.push(load::age(&batch.memory[message.payload.clone()]).as_nanos() as u64);
            }
            self.ack(&batch);
        }
        ages
    }
}

/// Takes and acknowledges so many messages; the time begins with the first of them.
pub(crate) async fn consume(reader: &mut Reader, messages: u64) -> Duration {
    take(reader, messages, |payload| {
        black_box(payload);
    })
    .await
}

/// The same, and decodes each.
pub(crate) async fn listen(reader: &mut Reader, messages: u64) -> Duration {
    let mut sum = 0_u64;
    take(reader, messages, move |payload| {
        let order: Order = serde_json::from_slice(&payload).unwrap();
        sum = black_box(sum.wrapping_add(order.id));
    })
    .await
}

async fn take(reader: &mut Reader, messages: u64, mut handle: impl FnMut(Bytes)) -> Duration {
    let mut left = messages;
    let mut begun = None;
    while left > 0 {
        let batch = reader.next().await;
        begun.get_or_insert_with(Stopwatch::start);
        for message in &batch.messages {
            black_box((message.made, &message.key, &batch.headers[message.headers.clone()]));
            handle(batch.memory.slice(message.payload.clone()));
        }
        reader.ack(&batch);
        left = left.saturating_sub(batch.messages.len() as u64);
    }
    begun.unwrap().stop()
}

/// Polls and counts so many messages, and keeps nothing; the time begins with the first of them.
pub(crate) fn floor(servers: &str, topic: &str, group: &str, messages: u64) -> Duration {
    let consumer = group_consumer(servers, group);
    consumer.subscribe(&[topic]).unwrap();
    let mut begun = None;
    let mut left = messages;
    while left > 0 {
        if let Some(message) = consumer.poll(POLL_TIMEOUT) {
            black_box(message.unwrap().payload());
            begun.get_or_insert_with(Stopwatch::start);
            left -= 1;
        }
    }
    begun.unwrap().stop()
}

fn group_consumer(servers: &str, group: &str) -> BaseConsumer {
    let mut config = super::client(servers);
    config.set("group.id", group).set("group.protocol", "consumer").set("auto.offset.reset", "earliest");
    config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "500");
    config.set("enable.auto.offset.store", "false").set("enable.partition.eof", "false");
    config.set("fetch.wait.max.ms", "100").set("isolation.level", "read_committed");
    // A full queue is looked at again soon: the default is a second, in which the queue runs dry.
    config.set("queued.min.messages", "100000").set("queued.max.messages.kbytes", "32768");
    config.set("fetch.queue.backoff.ms", "5");
    config.create().unwrap()
}

/// The thread's part.
struct Polling {
    consumer: BaseConsumer,
    topic: String,
    sender: mpsc::Sender<Batch>,
    acked: thread::Receiver<Vec<(i32, i64)>>,
}

impl Polling {
    fn run(self) {
        let mut windows: Vec<Window> = Vec::new();
        let mut unsettled = 0;
        let mut room = 0;
        loop {
            // With a full prefetch there is nothing to do but to wait for acknowledgements.
            let first = match unsettled < UNSETTLED_LIMIT {
                true => self.acked.try_recv(),
                false => self.acked.recv().map_err(|_| thread::TryRecvError::Disconnected),
            };
            let mut next = first;
            while let Ok(acked) = next {
                for (partition, offset) in acked {
                    windows[partition as usize].ack(offset);
                }
                next = self.acked.try_recv();
            }
            unsettled -= self.store(&mut windows);
            if next == Err(thread::TryRecvError::Disconnected) {
                return;
            }
            if unsettled >= UNSETTLED_LIMIT {
                continue;
            }
            let batch = self.poll(POLL_BATCH.min(UNSETTLED_LIMIT - unsettled), room, &mut windows);
            // The next is likely to be about as large.
            room = room.max(batch.memory.len());
            unsettled += batch.messages.len();
            if !batch.messages.is_empty() && self.sender.blocking_send(batch).is_err() {
                return;
            }
        }
    }

    /// Stores the lowest contiguous offsets, for librdkafka to commit; how many messages came free.
    fn store(&self, windows: &mut [Window]) -> usize {
        let mut freed = 0;
        for (partition, window) in windows.iter_mut().enumerate() {
            let (last, count) = window.contiguous();
            freed += count;
            if let Some(last) = last {
                self.consumer.store_offset(&self.topic, partition as i32, last).unwrap();
            }
        }
        freed
    }

    /// Waits for one message, then takes what is there; `room` is for how many bytes memory is taken before.
    fn poll(&self, most: usize, room: usize, windows: &mut Vec<Window>) -> Batch {
        let mut patience = POLL_TIMEOUT;
        let (mut batch, mut memory) = (Batch::default(), Vec::new());
        while batch.messages.len() < most
            && let Some(message) = self.consumer.poll(patience)
        {
            if batch.messages.is_empty() {
                patience = Duration::ZERO;
                memory.reserve(room);
                batch.messages.reserve(most);
            }
            let message = message.unwrap();
            let partition = message.partition() as usize;
            if windows.len() <= partition {
                windows.resize_with(partition + 1, Window::default);
            }
            windows[partition].hand_over(message.offset());
            batch.messages.push(copy(&message, &mut memory, &mut batch.headers));
        }
        batch.memory = Bytes::from(memory);
        batch
    }
}

/// Copies key, payload and headers to the end of the batch's memory.
fn copy(message: &BorrowedMessage<'_>, memory: &mut Vec<u8>, headers: &mut Vec<(Range<usize>, Range<usize>)>) -> Owned {
    let mut place = |bytes: &[u8]| {
        let begin = memory.len();
        memory.extend_from_slice(bytes);
        begin..memory.len()
    };
    let key = message.key().map(&mut place);
    let payload = place(message.payload().unwrap_or_default());
    let first = headers.len();
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        headers.push((place(header.key.as_bytes()), place(header.value.unwrap_or_default())));
    }
    Owned {
        partition: message.partition(),
        offset: message.offset(),
        made: message.timestamp().to_millis().unwrap_or(0),
        key,
        payload,
        headers: first..headers.len(),
    }
}
