//! The few calls of librdkafka that `rdkafka` does not wrap, each with its safety argument.

#![allow(unsafe_code, reason = "librdkafka's own functions; every block says why it is sound")]

mod fetch;

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, OwnedHeaders};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafka;

pub(crate) use self::fetch::{FetchQueue, FetchReport, Fetched, NativeRecord, QueueWaker};

/// Returns whether librdkafka says that a message it failed to deliver never reached a log.
pub(crate) fn was_not_persisted(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the pointer is that of a message which the borrow keeps alive; the function only reads a field of it.
    let status = unsafe { bindings::rd_kafka_message_status(message.ptr()) };
    status == bindings::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// Adds a header whose name need not be text: `rdkafka` takes only names that are.
pub(crate) fn add_header(headers: &mut OwnedHeaders, name: &[u8], value: Option<&[u8]>) {
    let list: *const BorrowedHeaders = headers.as_borrowed();
    let (value, len) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
    // A list of headers and a name have bounds far below what a signed length can count.
    let (name_len, len) = (isize::try_from(name.len()).unwrap_or(0), isize::try_from(len).unwrap_or(0));
    // SAFETY: `rdkafka` hands out the address of librdkafka's list as that of a `BorrowedHeaders`. The list is alive and nobody
    // else's, as the exclusive borrow shows; name and value have so many bytes, and are copied before the call returns.
    unsafe {
        bindings::rd_kafka_header_add(list.cast_mut().cast(), name.as_ptr().cast(), name_len, value.cast(), len);
    }
}

/// Metadata of an offset in a list, by its index.
///
/// `rdkafka` panics where it is not UTF-8, and any client of the group can commit what it likes.
pub(crate) fn metadata_at(offsets: &TopicPartitionList, index: usize) -> &[u8] {
    assert!(index < offsets.count(), "the list has {} elements, asked for {index}", offsets.count());
    // SAFETY: the list is alive as long as the borrow, and has more elements than `index` (above).
    let one = unsafe { &*(*offsets.ptr()).elems.add(index) };
    if one.metadata.is_null() {
        return &[];
    }
    // SAFETY: metadata that is not null has so many bytes, which belong to the element; a list is not changed while borrowed.
    unsafe { std::slice::from_raw_parts(one.metadata.cast::<u8>(), one.metadata_size) }
}

/// Sends a commit whose answer comes as an event of the consumer's own queue, so that nobody has to wait for it.
///
/// `rdkafka`'s asynchronous commit reports no result.
pub(crate) fn commit_with_answer(client: *mut RDKafka, offsets: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
    // SAFETY: the caller's client is alive; the queue that comes back is counted until it is destroyed below.
    let queue = unsafe { bindings::rd_kafka_queue_get_consumer(client) };
    if queue.is_null() {
        return Err(RDKafkaErrorCode::State);
    }
    // SAFETY: client, list and queue are alive; the list is copied before the call returns, and without a callback the answer
    // becomes an event that needs no opaque.
    let sent = unsafe { bindings::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut()) };
    // SAFETY: counted above, given back here once; a commit under way counts the queue itself.
    unsafe { bindings::rd_kafka_queue_destroy(queue) };
    match RDKafkaErrorCode::from(sent) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code),
    }
}

/// Commits and waits for the answer, no longer than `limit`; none is an answer that did not come.
///
/// librdkafka's own synchronous commit has no limit: with a dead broker it holds the thread until the broker is back, if ever.
pub(crate) fn commit_within(
    client: *mut RDKafka,
    offsets: &TopicPartitionList,
    limit: Duration,
) -> Option<RDKafkaErrorCode> {
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the caller's client is alive; the queue is ours until it is destroyed below.
    let queue = unsafe { bindings::rd_kafka_queue_new(client) };
    // SAFETY: client, list and queue are alive; the list is copied before the call returns, and without a callback the answer
    // becomes an event that needs no opaque.
    let sent = unsafe { bindings::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut()) };
    let answer = match RDKafkaErrorCode::from(sent) {
        RDKafkaErrorCode::NoError => {
            // SAFETY: the queue is alive. Nothing else is ever put there, so that the first event is the answer.
            let event = unsafe { bindings::rd_kafka_queue_poll(queue, limit) };
            // SAFETY: an event that is not null is alive until it is destroyed, here and once.
            (!event.is_null()).then(|| unsafe {
                let error = bindings::rd_kafka_event_error(event);
                bindings::rd_kafka_event_destroy(event);
                RDKafkaErrorCode::from(error)
            })
        }
        code => Some(code),
    };
    // SAFETY: made above, given back here once; a commit that is still under way counts the queue itself.
    unsafe { bindings::rd_kafka_queue_destroy(queue) };
    answer
}

/// Ends a consumer without leaving its group, for a broker that does not answer: the client's own close waits for it without a
/// limit, and so does the drop. The group learns of the end by the session's.
pub(crate) fn end_without_goodbye<C: ConsumerContext>(consumer: BaseConsumer<C>) {
    let client = consumer.client().native_ptr();
    // Never dropped: the drop would close, and destroy the client a second time. The context and the queue's count are lost with
    // it, which keeps the callbacks sound until the client is gone.
    std::mem::forget(consumer);
    let flags = bindings::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE;
    // SAFETY: the client is alive, and with the consumer forgotten nothing else destroys or uses it.
    unsafe { bindings::rd_kafka_destroy_flags(client, flags) };
}

/// Tells a client that knows no broker any more where they are, and says whether it had to.
///
/// The client forgets every broker that an answer does not name (librdkafka 2.12.1), and a lone broker that stood still for
/// longer than its session names none right after; nor does one that is going down or coming up in order. The client would wait
/// for ever with nobody to ask. Does nothing while it knows one, because every list that is added is kept.
pub(crate) fn remind_of_servers(client: *mut RDKafka, servers: &str) -> bool {
    let mut known = 0;
    // SAFETY: the caller's client is alive; the call writes the count and returns a list of its own.
    let ids = unsafe { bindings::rd_kafka_brokers_learned_ids(client, &mut known) };
    // SAFETY: the list is ours to free, once, and is not looked at; without a list there is nothing to do.
    unsafe { bindings::rd_kafka_mem_free(client, ids.cast()) };
    let Ok(servers) = CString::new(servers) else { return false };
    if known == 0 {
        // SAFETY: the client is alive; the text ends with a zero byte and is copied before the call returns.
        unsafe { bindings::rd_kafka_brokers_add(client, servers.as_ptr()) };
    }
    known == 0
}

/// Delivery report of one message: its place, or the error and whether the message is known never to have reached a log.
pub(crate) type Report = Result<(i32, i64), (KafkaError, bool)>;

/// Events of a producer's client, one at a time.
///
/// `rdkafka` calls back for each message without a word of where an event ends; here those of an event come together.
pub(crate) struct ProducerEvents(*mut bindings::rd_kafka_queue_t);

// SAFETY: librdkafka's queues are locked inside and may be used from any thread.
unsafe impl Send for ProducerEvents {}

impl ProducerEvents {
    /// The events of a producer. They must be dropped before the client is, and while they are used nobody else may poll it.
    pub(crate) fn of(client: *mut RDKafka) -> Self {
        // SAFETY: the caller's client is alive; the queue that comes back is counted until it is destroyed in `drop`.
        Self(unsafe { bindings::rd_kafka_queue_get_main(client) })
    }

    /// Waits for one event, no longer than `wait`. Of reports, `each` gets the number that the message carried and what became of
    /// it; a complaint or a line of the log is returned.
    pub(crate) fn next(&self, wait: Duration, mut each: impl FnMut(usize, Report)) -> Option<String> {
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is ours until `drop`; what comes back is null or ours until it is destroyed.
        let event = ProducerEvent(unsafe { bindings::rd_kafka_queue_poll(self.0, wait) });
        let mut said = ptr::null();
        // SAFETY: the event is null, which the function knows, or alive.
        match unsafe { bindings::rd_kafka_event_type(event.0) } {
            bindings::RD_KAFKA_EVENT_DR => loop {
                // SAFETY: the event is alive; a message that comes back lives as long as it, and after the last comes null.
                let message = unsafe { bindings::rd_kafka_event_message_next(event.0).as_ref() }?;
                each(message._private as usize, report_of(message));
            },
            // SAFETY: the event is alive.
            bindings::RD_KAFKA_EVENT_ERROR => said = unsafe { bindings::rd_kafka_event_error_string(event.0) },
            bindings::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut level) = (ptr::null(), 0);
                // SAFETY: the event is alive; where the call fails, nothing is written.
                unsafe { bindings::rd_kafka_event_log(event.0, &mut facility, &mut said, &mut level) };
            }
            _ => {}
        }
        // SAFETY: a text ends with a zero byte and lives as long as the event.
        (!said.is_null()).then(|| unsafe { CStr::from_ptr(said) }.to_string_lossy().trim().to_owned())
    }
}

impl Drop for ProducerEvents {
    fn drop(&mut self) {
        // SAFETY: counted in `of`, given back here once.
        unsafe { bindings::rd_kafka_queue_destroy(self.0) };
    }
}

fn report_of(message: &bindings::rd_kafka_message_t) -> Report {
    match RDKafkaErrorCode::from(message.err) {
        RDKafkaErrorCode::NoError => Ok((message.partition, message.offset)),
        code => {
            // SAFETY: the borrow keeps the message alive; the function only reads a field of it.
            let status = unsafe { bindings::rd_kafka_message_status(message) };
            let was_not_persisted = status == bindings::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED;
            Err((KafkaError::MessageProduction(code), was_not_persisted))
        }
    }
}

/// An event, or null.
struct ProducerEvent(*mut bindings::rd_kafka_event_t);

impl Drop for ProducerEvent {
    fn drop(&mut self) {
        // SAFETY: it came from the queue and goes back once; the function leaves null alone.
        unsafe { bindings::rd_kafka_event_destroy(self.0) };
    }
}
