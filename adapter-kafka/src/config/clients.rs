//! Properties of librdkafka's clients, with the reason for each.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use secrecy::ExposeSecret;

use super::{ConnectionOptions, GroupProtocol, RECORD_OVERHEAD};

/// Time limit of one copy.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that the client takes for a record, in bytes.
const LARGEST_RECORD: &str = "1000000000";

impl ConnectionOptions {
    /// Properties that every client of this connection has.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // Lost connections are reported by the log alone, see `consumer::events`; it goes on at the level of debugging.
        client.set_log_level(RDKafkaLogLevel::Info);
        client.set("bootstrap.servers", &self.servers).set("client.id", &self.client_id);
        // A leader that is stopped answers nothing; the default waits a minute for it.
        client.set("socket.timeout.ms", "3000").set("socket.connection.setup.timeout.ms", "5000");
        client.set("socket.nagle.disable", "true").set("socket.keepalive.enable", "true");
        client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        client.set("retry.backoff.ms", "50").set("allow.auto.create.topics", "false");
        // A missing topic is reported after this time, not after the whole time limit of a message.
        client.set("topic.metadata.propagation.max.ms", "1000");
        let protocol = match (self.encrypted, self.access.user().is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(user) = self.access.user() {
            client.set("sasl.mechanism", self.mechanism.name());
            client.set("sasl.username", user).set("sasl.password", self.access.password());
        }
        if let Some(authority) = self.access.authority() {
            client.set("ssl.ca.pem", authority);
        }
        if let Some(identity) = self.access.identity() {
            client.set("ssl.certificate.pem", &identity.certificate).set("ssl.key.pem", identity.key.expose_secret());
        }
        client
    }

    /// A producer whose messages are given up after `timeout`.
    pub(crate) fn producer(&self, timeout: Duration, largest: usize) -> ClientConfig {
        let mut client = self.client();
        client.set("acks", "all").set("enable.idempotence", "true");
        client.set("message.timeout.ms", timeout.as_millis().clamp(1, i32::MAX as u128).to_string());
        client.set("linger.ms", self.linger.as_millis().to_string());
        client.set("batch.size", self.batch_bytes.to_string()).set("compression.type", &self.compression);
        // Java's producers choose the same partition for a key.
        client.set("partitioner", "murmur2_random");
        client.set("message.max.bytes", (largest + RECORD_OVERHEAD).max(1_000_000).to_string());
        // The publishers' own bounds on what is in flight come first; these must never answer.
        client.set("queue.buffering.max.messages", "10000000").set("queue.buffering.max.kbytes", "2097151");
        client
    }

    /// The producer of copies, which takes whatever a source holds: its topic alone says what is too large.
    pub(crate) fn copy_producer(&self) -> ClientConfig {
        let mut client = self.producer(COPY_TIMEOUT, 0);
        client.set("message.max.bytes", LARGEST_RECORD);
        client
    }

    /// A consumer of a group by one of the two protocols.
    pub(crate) fn consumer(&self, group: &str, protocol: GroupProtocol) -> ClientConfig {
        let mut client = self.client();
        client.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // `latest` and `earliest` would skip or repeat silently.
        client.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        client.set("fetch.wait.max.ms", "100").set("fetch.error.backoff.ms", "100");
        client.set("queued.min.messages", "100000").set("queued.max.messages.kbytes", "32768");
        // Interval at which a full queue is looked at for room; at the default of a second it runs dry (librdkafka
        // 2.12, 4 partitions: 50,000 messages took 2 s).
        client.set("fetch.queue.backoff.ms", "5");
        client.set("topic.metadata.refresh.interval.ms", "30000");
        // Uncommitted transactions of others are not for us.
        client.set("isolation.level", "read_committed");
        match protocol {
            GroupProtocol::Consumer | GroupProtocol::Auto => {
                client.set("group.protocol", "consumer");
                // Each topic is shared out by itself, so that every member has its part of each.
                client.set("group.remote.assignor", "range");
            }
            GroupProtocol::Classic => {
                client.set("group.protocol", "classic").set("partition.assignment.strategy", "range");
                client.set("session.timeout.ms", self.session_timeout.as_millis().to_string());
                client.set("heartbeat.interval.ms", (self.session_timeout.as_millis() / 20).max(100).to_string());
            }
        }
        client
    }
}
