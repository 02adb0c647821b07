//! Reports of the client and of the group, kept until the polling thread has time for them.
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

/// A partition by name and number. Never a `TopicPartitionList`: one that is kept makes the client's drop hang.
pub(crate) type PartitionId = (String, i32);

#[derive(Debug)]
pub(super) enum GroupEvent {
    Assigned(Vec<PartitionId>),
    Revoked(Vec<PartitionId>),
}

/// Reports of the client since the last poll.
#[derive(Debug, Default)]
pub(super) struct Reported {
    pub(super) group: Vec<GroupEvent>,
    pub(super) commits: Vec<KafkaResult<()>>,
    /// Why a broker was lost.
    pub(super) cut: Option<String>,
    /// Why a connection was lost that was not in use.
    pub(super) disturbed: Option<String>,
    /// Something is wrong with a partition: its topic may be gone, or not ours to read.
    pub(super) is_in_doubt: bool,
    /// The client cannot go on.
    pub(super) is_fatal: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ClientEvents {
    reported: Arc<Mutex<Reported>>,
    /// The client is being dropped: nobody is left to take care.
    is_closing: Arc<AtomicBool>,
}

impl ClientEvents {
    /// Takes all that was reported since the last call.
    pub(super) fn take(&self) -> Reported {
        std::mem::take(&mut *self.reported.lock())
    }

    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }
}

impl ClientContext for ClientEvents {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a consumer complains");
        let mut reported = self.reported.lock();
        match code_of(&error) {
            Some(Code::BrokerTransportFailure | Code::AllBrokersDown) => reported.cut = Some(reason.to_owned()),
            Some(Code::Fatal) => reported.is_fatal = true,
            _ => {}
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A client raises no error event for a lost connection or an answer that does not come, but says so in its log.
        if matches!(facility, "FAIL" | "REQTMOUT") {
            let mut reported = self.reported.lock();
            // A connection that was not in use is reported at a lower level.
            let is_in_use = level as i32 <= RDKafkaLogLevel::Warning as i32;
            *(if is_in_use { &mut reported.cut } else { &mut reported.disturbed }) = Some(message.to_owned());
        }
        // So it says what is wrong with a partition's topic, where records are fetched many with one call.
        if facility == "ERROR" {
            self.reported.lock().is_in_doubt = true;
        }
        tracing::debug!(facility, message);
    }
}

impl ConsumerContext for ClientEvents {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let places = || list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        let closing = self.is_closing.load(Ordering::Acquire);
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS if !closing => {
                self.reported.lock().group.push(GroupEvent::Assigned(places()));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS if !closing => {
                self.reported.lock().group.push(GroupEvent::Revoked(places()));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => drop(assign(consumer, list)),
            _ => give_up(consumer, list),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.reported.lock().commits.push(result);
    }
}

/// Lets go of partitions, as the protocol in use wants it.
pub(super) fn give_up(consumer: &BaseConsumer<ClientEvents>, list: &TopicPartitionList) {
    let result = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "partitions cannot be given up");
    }
}

/// Takes partitions, as the protocol in use wants it.
pub(super) fn assign(consumer: &BaseConsumer<ClientEvents>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}
