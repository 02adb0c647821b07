//! The group's client, as its thread uses it: records, reports, and the assignment.

use std::collections::HashMap;
use std::time::Duration;

use messaging_core::Result;
use rdkafka::consumer::{BaseConsumer, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::blocking::REQUEST_TIMEOUT;
use crate::consumer::PartitionId;
use crate::consumer::events::{ClientEvents, Reported, assign, give_up};
use crate::consumer::offsets;
use crate::error::from_kafka;
use crate::raw::{FetchQueue, Fetched, QueueWaker, end_without_goodbye, remind_of_servers};

pub(in crate::consumer) struct GroupClient {
    /// Comes before the client, which it must not outlive.
    fetch: FetchQueue,
    consumer: BaseConsumer<ClientEvents>,
    events: ClientEvents,
}

impl GroupClient {
    pub(in crate::consumer) fn new(consumer: BaseConsumer<ClientEvents>, events: ClientEvents) -> Self {
        Self { fetch: FetchQueue::of(consumer.client().native_ptr()), consumer, events }
    }

    /// The client itself, for questions about offsets and topics.
    pub(in crate::consumer) fn consumer(&self) -> &BaseConsumer<ClientEvents> {
        &self.consumer
    }

    /// Wakes [`fetch`](Self::fetch); the client wakes it too when it has something to report. To be dropped before this.
    pub(super) fn waker(&mut self) -> QueueWaker {
        self.consumer.set_nonempty_callback(self.fetch.weak_waker());
        self.fetch.waker()
    }

    /// Records that are there, at most `most`; waits up to `wait` for the first.
    pub(super) fn fetch(&mut self, wait: Duration, most: usize) -> Fetched<'_> {
        self.fetch.fetch(wait, most)
    }

    /// Serves one event of the client. A record comes this way only from a partition whose queue could not be attracted.
    pub(super) fn poll(&self, wait: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(wait)
    }

    pub(super) fn has_events(&self) -> bool {
        self.fetch.has_events()
    }

    /// Reports of the client since the last call.
    pub(super) fn reported(&self) -> Reported {
        self.events.take()
    }

    /// Leaves what the group reports from now on to the client's own answers.
    pub(super) fn close_events(&self) {
        self.events.close();
    }

    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.consumer.client().fatal_error()
    }

    /// The group has given this member's partitions to others.
    pub(super) fn is_assignment_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    /// Takes partitions up, at the offsets of the list.
    ///
    /// A partition that was given up a moment ago may still be stopping. At the end of its stop the client parts the partition's
    /// queue from ours (`rd_kafka_toppar_fetch_stop`) but keeps the mark that the application forwarded it, so that what is
    /// fetched afterwards would go to a queue that nobody reads (librdkafka 2.12). The client answers the question for its
    /// assignment after all that was asked before, stops included: only then the queue is attracted.
    pub(in crate::consumer) fn take_up(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        drop(self.consumer.assignment());
        for one in list.elements() {
            self.fetch.attract(self.consumer.client().native_ptr(), one.topic(), one.partition());
        }
        assign(&self.consumer, list)
    }

    pub(super) fn give_up(&self, ids: &[PartitionId]) {
        give_up(&self.consumer, &offsets::places(ids));
    }

    /// Lets partitions go and takes them up at other offsets: the only way to have the client read what it stopped reading.
    /// `others` are the rest of the assignment, and where they are.
    ///
    /// Not while the group waits for an answer, which this would be. A revocation that the client has received in this moment and
    /// not reported yet is answered early: other members may see messages again that are still out here.
    pub(super) fn take_up_anew(
        &self,
        positions: &[(PartitionId, i64)],
        others: impl Iterator<Item = (PartitionId, i64)>,
    ) -> Result<()> {
        if positions.is_empty() {
            return Ok(());
        }
        let cannot = |error: KafkaError| from_kafka("partitions cannot be taken up anew", &error);
        let mut all: HashMap<PartitionId, i64> = HashMap::new();
        if let RebalanceProtocol::Cooperative = self.consumer.rebalance_protocol() {
            self.consumer.incremental_unassign(&offsets::places(positions.iter().map(|(id, _)| id))).map_err(cannot)?;
        } else {
            // Only the assignment as a whole can be changed: the others go on where they are.
            all.extend(others);
            self.consumer.assign(&TopicPartitionList::new()).map_err(cannot)?;
        }
        all.extend(positions.iter().cloned());
        self.take_up(&offsets::list(all)?).map_err(cannot)
    }

    /// Seeks, and returns the positions that the client refused: it seeks only where it reads.
    pub(super) fn seek(&self, positions: &[(PartitionId, i64)]) -> Result<Vec<(PartitionId, i64)>> {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let list = offsets::list(positions.iter().cloned())?;
        let answer = self.consumer.seek_partitions(list, REQUEST_TIMEOUT);
        let answer = answer.map_err(|error| from_kafka("partitions cannot be sought", &error))?;
        // The call itself succeeds; each partition has an error of its own.
        let is_stopped = |((topic, number), _): &&(PartitionId, i64)| {
            answer.find_partition(topic, *number).is_none_or(|one| one.error().is_err())
        };
        Ok(positions.iter().filter(is_stopped).cloned().collect())
    }

    pub(super) fn pause<'a>(&self, ids: impl IntoIterator<Item = &'a PartitionId>) {
        if let Err(error) = self.consumer.pause(&offsets::places(ids)) {
            tracing::warn!(%error, "partitions cannot be paused");
        }
    }

    pub(super) fn resume<'a>(&self, ids: impl IntoIterator<Item = &'a PartitionId>) {
        if let Err(error) = self.consumer.resume(&offsets::places(ids)) {
            tracing::warn!(%error, "partitions cannot be resumed");
        }
    }

    /// Gives the client the brokers' addresses again if it knows no broker any more; returns whether it knew none.
    pub(super) fn remind_of_servers(&self, servers: &str) -> bool {
        remind_of_servers(self.consumer.client().native_ptr(), servers)
    }

    /// Ends the client. With a broker that does not answer it leaves the group without a word: the client's own goodbye would
    /// wait for the broker without a limit.
    pub(super) fn end(self, is_silent: bool) {
        let Self { fetch, consumer, .. } = self;
        drop(fetch);
        if is_silent {
            end_without_goodbye(consumer);
        } else {
            drop(consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use messaging_core::{BrokerUrl, ConnectOptions};
    use rdkafka::config::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;
    use crate::config::{ConnectionOptions, GroupProtocol};

    #[test]
    fn a_partition_that_is_taken_up_right_after_it_was_given_up_is_read() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 1, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
        for _ in 0..10 {
            producer.send(BaseRecord::<(), str>::to("orders").payload("x")).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();

        let url = BrokerUrl::parse(&format!("kafka://{servers}")).unwrap();
        let options = ConnectionOptions::read(&ConnectOptions::new(url)).unwrap();
        let events = ClientEvents::default();
        let consumer = options.consumer("readers", GroupProtocol::Classic).create_with_context(events.clone()).unwrap();
        let mut client = GroupClient::new(consumer, events);
        let id: PartitionId = ("orders".to_owned(), 0);
        let start = || offsets::list([(id.clone(), 0)]).unwrap();
        for round in 0..30 {
            client.take_up(&start()).unwrap();
            client.give_up(std::slice::from_ref(&id));
            client.take_up(&start()).unwrap();
            let begun = Instant::now();
            while !client.fetch(Duration::from_millis(50), 100).iter().any(|record| record.is_ok()) {
                assert!(begun.elapsed() < Duration::from_secs(10), "round {round}: nothing is read");
            }
            client.give_up(std::slice::from_ref(&id));
        }
        client.end(false);
    }
}
