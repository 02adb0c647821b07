//! What the group tells a member: kept here until the polling thread has time for it.
//!
//! A partition that is taken away is not let go of inside the callback, as `rdkafka` does by itself: what is out of it gets a
//! bounded time to be settled, while the other partitions go on. Only then its offsets are committed and it is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::error::code_of;
use crate::raw::FetchQueue;

/// A partition by name and number. Never a `TopicPartitionList`: one that is kept makes the client's drop hang.
pub(crate) type Place = (String, i32);

#[derive(Debug)]
pub(super) enum GroupEvent {
    Assigned(Vec<Place>),
    Revoked(Vec<Place>),
}

/// What the client says between two polls.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) group: Vec<GroupEvent>,
    pub(super) commits: Vec<KafkaResult<()>>,
    /// A broker was lost.
    pub(super) is_cut: bool,
    /// A connection was lost that was not in use.
    pub(super) is_disturbed: bool,
    /// Something is wrong with a partition: its topic may be gone, or not ours to read.
    pub(super) is_in_doubt: bool,
    /// The client cannot go on.
    pub(super) is_fatal: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Ear {
    heard: Arc<Mutex<Heard>>,
    /// The client is being dropped: nobody is left to take care.
    is_closing: Arc<AtomicBool>,
}

impl Ear {
    pub(super) fn listen(&self) -> Heard {
        std::mem::take(&mut *self.heard.lock())
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }
}

impl ClientContext for Ear {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "messaging::kafka", %error, reason, "a consumer complains");
        let mut heard = self.heard.lock();
        match code_of(&error) {
            Some(Code::BrokerTransportFailure | Code::AllBrokersDown) => heard.is_cut = true,
            Some(Code::Fatal) => heard.is_fatal = true,
            _ => {}
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A client raises no error event for a lost connection or an answer that does not come, but says so in its log.
        if matches!(facility, "FAIL" | "REQTMOUT") {
            let mut heard = self.heard.lock();
            // A connection that was not in use is told at a lower level.
            *(if level as i32 <= RDKafkaLogLevel::Warning as i32 {
                &mut heard.is_cut
            } else {
                &mut heard.is_disturbed
            }) = true;
        }
        // So it says what is wrong with a partition's topic, where records are fetched many with one call.
        if facility == "ERROR" {
            self.heard.lock().is_in_doubt = true;
        }
        tracing::debug!(target: "messaging::kafka", facility, message);
    }
}

impl ConsumerContext for Ear {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let places = || list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        let closing = self.is_closing.load(Ordering::Acquire);
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS if !closing => {
                self.heard.lock().group.push(GroupEvent::Assigned(places()));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS if !closing => {
                self.heard.lock().group.push(GroupEvent::Revoked(places()));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => drop(assign(consumer, list)),
            _ => give_up(consumer, list),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.heard.lock().commits.push(result);
    }
}

/// Lets go of partitions, as the protocol in use wants it.
pub(super) fn give_up(consumer: &BaseConsumer<Ear>, list: &TopicPartitionList) {
    let result = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    };
    if let Err(error) = result {
        tracing::debug!(target: "messaging::kafka", %error, "partitions cannot be given up");
    }
}

/// Takes partitions, as the protocol in use wants it; what is fetched of them comes to the queue.
pub(super) fn take_up(consumer: &BaseConsumer<Ear>, fetch: &FetchQueue, list: &TopicPartitionList) -> KafkaResult<()> {
    for one in list.elements() {
        fetch.attract(consumer.client().native_ptr(), one.topic(), one.partition());
    }
    assign(consumer, list)
}

fn assign(consumer: &BaseConsumer<Ear>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}
