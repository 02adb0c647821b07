//! Fetching: the records of all partitions of a consumer, many with one call.
//!
//! `rdkafka` polls one record at a time, as an event: for each the clock is read four times and memory taken twice, which is a
//! seventh of all that a record costs. So records go to a queue of their own, and only what the group and the client have to say
//! comes to the consumer's.

use std::ffi::{CStr, CString};
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafka;

/// A queue of librdkafka's.
struct Queue(*mut bindings::rd_kafka_queue_t);

// SAFETY: librdkafka's queues are locked inside and may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it was made or counted for this handle, and is given back here once.
        unsafe { bindings::rd_kafka_queue_destroy(self.0) };
    }
}

/// Where the records of a consumer come together. It must be dropped before the client is, and its bells too.
pub(crate) struct FetchQueue {
    queue: Arc<Queue>,
    /// The consumer's own, where the client and the group say what they have to.
    events: Queue,
    /// Messages of one call; empty between two calls.
    batch: Vec<*mut bindings::rd_kafka_message_t>,
}

// SAFETY: the queue may be used from any thread, and no messages are kept.
unsafe impl Send for FetchQueue {}

impl FetchQueue {
    pub(crate) fn of(client: *mut RDKafka) -> Self {
        // SAFETY: the caller's client is alive, and one of a consumer.
        let queue = Queue(unsafe { bindings::rd_kafka_queue_new(client) });
        // SAFETY: as above; a consumer with a group, as all are here, has this queue.
        let events = Queue(unsafe { bindings::rd_kafka_queue_get_consumer(client) });
        Self { queue: Arc::new(queue), events, batch: Vec::new() }
    }

    /// Returns whether events of the client or the group wait, which a poll of the consumer serves.
    pub(crate) fn has_events(&self) -> bool {
        // SAFETY: the queue is alive.
        unsafe { bindings::rd_kafka_queue_length(self.events.0) > 0 }
    }

    /// Forwards the records of a partition to this queue from now on. To be called before each time that it is assigned: records that
    /// were fetched before stay where they are.
    pub(crate) fn attract(&self, client: *mut RDKafka, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        // SAFETY: the client is alive, and the name ends with a zero byte.
        let own = unsafe { bindings::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        if own.is_null() {
            return;
        }
        let own = Queue(own);
        // SAFETY: both queues are alive; the partition's counts the one that it is forwarded to. That an application forwarded it
        // is kept through later assignments (RD_KAFKA_Q_F_FWD_APP of librdkafka 2.12).
        unsafe { bindings::rd_kafka_queue_forward(own.0, self.queue.0) };
    }

    /// Wakes a thread that waits in [`fetch`](Self::fetch).
    pub(crate) fn waker(&self) -> QueueWaker {
        QueueWaker(Arc::clone(&self.queue))
    }

    /// A callback that wakes [`fetch`](Self::fetch) as long as the queue is there, without keeping it.
    pub(crate) fn weak_waker(&self) -> impl Fn() + Send + Sync + 'static {
        let queue = Arc::downgrade(&self.queue);
        move || {
            if let Some(queue) = queue.upgrade() {
                QueueWaker(queue).wake();
            }
        }
    }

    /// Waits up to `wait` for one record, then takes what is there, at most `most`.
    pub(crate) fn fetch(&mut self, wait: Duration, most: usize) -> Fetched<'_> {
        self.batch.reserve(most);
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // The call waits until it has as many as were asked for: one is waited for, the rest is not.
        self.take(wait, 1);
        if !self.batch.is_empty() && most > 1 {
            self.take(0, most - 1);
        }
        Fetched { batch: &mut self.batch }
    }

    fn take(&mut self, wait: i32, most: usize) {
        let room = self.batch.spare_capacity_mut();
        let most = most.min(room.len());
        // SAFETY: the queue is alive, and at most as many pointers are written as there is room for.
        let got = unsafe { bindings::rd_kafka_consume_batch_queue(self.queue.0, wait, room.as_mut_ptr().cast(), most) };
        let got = usize::try_from(got).unwrap_or(0);
        // SAFETY: so many were written.
        unsafe { self.batch.set_len(self.batch.len() + got) };
    }
}

/// Messages of one call, given back when dropped.
pub(crate) struct Fetched<'a> {
    batch: &'a mut Vec<*mut bindings::rd_kafka_message_t>,
}

impl Fetched<'_> {
    /// Records, and what the client reports of partitions between them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<NativeRecord<'_>, FetchReport<'_>>> {
        self.batch.iter().map(|message| {
            // SAFETY: each is alive until `drop`, which the borrow of this keeps away.
            let message = unsafe { &**message };
            let record = NativeRecord { message, of: PhantomData };
            match RDKafkaErrorCode::from(message.err) {
                RDKafkaErrorCode::NoError => Ok(record),
                code => Err(FetchReport { code, record }),
            }
        })
    }
}

impl Drop for Fetched<'_> {
    fn drop(&mut self) {
        for message in self.batch.drain(..) {
            // SAFETY: it came from the queue, and is given back here once.
            unsafe { bindings::rd_kafka_message_destroy(message) };
        }
    }
}

/// A report of a partition that came in place of a record: an error, or the end of what is there.
#[derive(Clone, Copy)]
pub(crate) struct FetchReport<'a> {
    pub(crate) code: RDKafkaErrorCode,
    /// Carries the partition and the offset, and the client's text as its payload.
    record: NativeRecord<'a>,
}

impl<'a> FetchReport<'a> {
    /// The partition that it is of, where it is of one.
    pub(crate) fn partition(self) -> Option<(&'a str, i32)> {
        (!self.record.topic_identity().is_null()).then(|| (self.record.topic(), self.record.partition()))
    }

    /// The offset that the client was about to read.
    pub(crate) fn offset(self) -> i64 {
        self.record.offset()
    }

    /// The client's own words.
    pub(crate) fn text(self) -> String {
        String::from_utf8_lossy(self.record.payload().unwrap_or_default()).into_owned()
    }
}

/// A record in librdkafka's hands.
#[derive(Clone, Copy)]
pub(crate) struct NativeRecord<'a> {
    message: *const bindings::rd_kafka_message_t,
    of: PhantomData<&'a ()>,
}

impl<'a> From<&'a BorrowedMessage<'_>> for NativeRecord<'a> {
    fn from(message: &'a BorrowedMessage<'_>) -> Self {
        Self { message: message.ptr(), of: PhantomData }
    }
}

impl<'a> NativeRecord<'a> {
    fn message(self) -> &'a bindings::rd_kafka_message_t {
        // SAFETY: the lifetime is that of a borrow of what keeps the message alive.
        unsafe { &*self.message }
    }

    /// Which topic it is of: the same for all records of a topic.
    pub(crate) fn topic_identity(self) -> *const () {
        self.message().rkt.cast()
    }

    pub(crate) fn topic(self) -> &'a str {
        // SAFETY: a record that is no error has a topic, which it counts; its name ends with a zero byte and lives as long.
        let name = unsafe { CStr::from_ptr(bindings::rd_kafka_topic_name(self.message().rkt)) };
        // Names of topics are ASCII.
        name.to_str().unwrap_or_default()
    }

    pub(crate) fn partition(self) -> i32 {
        self.message().partition
    }

    pub(crate) fn offset(self) -> i64 {
        self.message().offset
    }

    /// When it was made, in milliseconds since 1970; 0 where that is not known.
    pub(crate) fn made(self) -> u64 {
        // SAFETY: the message is alive, and the kind of the time may be left out.
        let made = unsafe { bindings::rd_kafka_message_timestamp(self.message, ptr::null_mut()) };
        u64::try_from(made).unwrap_or(0)
    }

    pub(crate) fn key(self) -> Option<&'a [u8]> {
        let message = self.message();
        // SAFETY: a key that is not null has so many bytes, kept as long as the message.
        (!message.key.is_null()).then(|| unsafe { slice::from_raw_parts(message.key.cast(), message.key_len) })
    }

    /// None for a tombstone.
    pub(crate) fn payload(self) -> Option<&'a [u8]> {
        let message = self.message();
        // SAFETY: a payload that is not null has so many bytes, kept as long as the message.
        (!message.payload.is_null()).then(|| unsafe { slice::from_raw_parts(message.payload.cast(), message.len) })
    }

    /// Calls `each` with the name and value of every header, in order.
    ///
    /// `rdkafka` panics where a name is not UTF-8, and anybody's client can send one.
    pub(crate) fn each_header(self, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; on success the list belongs to it and lives as long.
        let found = unsafe { bindings::rd_kafka_message_headers(self.message, &mut headers) };
        if found != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the list is alive (above); past its end the call says so and writes nothing.
            let got = unsafe { bindings::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
            if got != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: librdkafka ends every name with a zero byte, and keeps it as long as the list.
            let name = unsafe { CStr::from_ptr(name) }.to_bytes();
            // SAFETY: a value that is not null has `size` bytes, kept as long as the list.
            let value = (!value.is_null()).then(|| unsafe { slice::from_raw_parts(value.cast::<u8>(), size) });
            each(name, value);
        }
    }
}

/// Wakes a thread that waits for records. It must be dropped before the client is.
pub(crate) struct QueueWaker(Arc<Queue>);

impl QueueWaker {
    pub(crate) fn wake(&self) {
        // SAFETY: the queue is alive as long as a handle of it.
        unsafe { bindings::rd_kafka_queue_yield(self.0.0) };
    }
}

impl fmt::Debug for QueueWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueWaker")
    }
}
