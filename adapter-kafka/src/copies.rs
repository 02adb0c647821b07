//! Confirmed copies: delayed retries and dead letters. The original counts as settled only after its copy is confirmed.

use std::fmt;
use std::sync::Arc;

use messaging_core::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use crate::blocking::DropOnThread;
use crate::error::{from_delivery, from_kafka};
use crate::raw;
use crate::reports::confirmed;

/// Called with the result of a copy. Boxed, since copies are rare.
pub(crate) type Then = Box<dyn FnOnce(Result<()>) + Send + Sync>;

/// Pointer that librdkafka carries for each copy.
type Opaque = Box<Then>;

struct Copies;

impl ClientContext for Copies {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the producer of copies complains");
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message);
    }
}

impl ProducerContext for Copies {
    type DeliveryOpaque = Opaque;

    fn delivery(&self, report: &DeliveryResult<'_>, then: Opaque) {
        (*then)(match report {
            Ok(message) => confirmed(message.partition(), message.offset()).map(drop),
            Err((error, message)) => Err(from_delivery(error, raw::was_not_persisted(message))),
        });
    }
}

/// A record to be made.
pub(crate) struct Copy<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) timestamp: i64,
    pub(crate) headers: OwnedHeaders,
}

/// The producer of copies, one a connection.
pub(crate) struct CopyProducer(DropOnThread<ThreadedProducer<Copies>>);

impl CopyProducer {
    pub(crate) fn open(config: &ClientConfig) -> Result<Arc<Self>> {
        let producer = config
            .create_with_context(Copies)
            .map_err(|error| from_kafka("a producer of copies cannot be set up", &error))?;
        Ok(Arc::new(Self(DropOnThread::new(producer))))
    }

    /// Helps the client if it has nobody left to ask.
    pub(crate) fn remind_of_servers(&self, servers: &str) {
        if let Some(producer) = self.0.get() {
            raw::remind_of_servers(producer.client().native_ptr(), servers);
        }
    }

    /// Makes a copy; `then` is called exactly once, here or on the producer's thread.
    pub(crate) fn make(&self, copy: Copy<'_>, then: Then) {
        let Some(producer) = self.0.get() else {
            return then(Err(Error::closed("the broker")));
        };
        let mut record: BaseRecord<'_, [u8], [u8], Opaque> =
            BaseRecord::with_opaque_to(copy.topic, Box::new(then)).timestamp(copy.timestamp).headers(copy.headers);
        record.partition = copy.partition;
        record.key = copy.key;
        record.payload = copy.payload;
        if let Err((error, record)) = producer.send(record) {
            (*record.delivery_opaque)(Err(from_delivery(&error, true)));
        }
    }
}

impl fmt::Debug for CopyProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CopyProducer")
    }
}
