//! A producer and the thread that hears what became of its messages.
//!
//! `rdkafka`'s own threaded producer calls back for each message; here all that one event reports are answered together, so that
//! neither a lock nor a wake-up is paid for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use messaging_core::spi::Tickets;

use messaging_core::{Error, ErrorKind, ErrorOutcome, Position, Receipt, Result};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};

use crate::error::{from_delivery, from_kafka};
use crate::raw::{self, ProducerEvents, Report};

/// The most tickets that are completed under one lock, which senders wait for.
const COMPLETED_AT_ONCE: usize = 256;
/// How long a producer that is dropped may have to wait for its thread.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Context of the client; it is called only while the client is dropped, when the thread is gone.
pub(crate) struct Confirmations(Arc<Tickets<Receipt>>);

impl ClientContext for Confirmations {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a producer complains");
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message);
    }
}

impl ProducerContext for Confirmations {
    /// The ticket of the message: no allocation for each.
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: usize) {
        let report = match report {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, message)) => Err((error.clone(), raw::was_not_persisted(message))),
        };
        self.0.complete(ticket as u64, result_of(report));
    }
}

fn result_of(report: Report) -> Result<Receipt> {
    match report {
        Ok((partition, offset)) => Ok(Receipt { position: Some(confirmed(partition, offset)?) }),
        Err((error, was_not_persisted)) => Err(from_delivery(&error, was_not_persisted)),
    }
}

/// The place of a message that the client reports as delivered.
///
/// Without an offset the broker has only answered that it knows the message's sequence number already. The client takes that for
/// success (librdkafka 2.12, `DUPLICATE_SEQUENCE_NUMBER`), but nothing says that this message is the one that was stored.
pub(crate) fn confirmed(partition: i32, offset: i64) -> Result<Position> {
    position(partition, offset).ok_or_else(|| {
        Error::new(
            ErrorKind::Disconnected,
            "the broker knew the message's number after a lost connection, and did not say where the message lies",
        )
        .with_outcome(ErrorOutcome::Unknown)
    })
}

/// A place in the log, if the numbers are of one.
pub(crate) fn position(partition: i32, offset: i64) -> Option<Position> {
    Some(Position { partition: u32::try_from(partition).ok()?, offset: u64::try_from(offset).ok()? })
}

/// A producer whose messages' tickets are completed by a thread of its own, which ends with it.
pub(crate) struct ReportingProducer {
    producer: Arc<BaseProducer<Confirmations>>,
    is_over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl ReportingProducer {
    pub(crate) fn start(config: &ClientConfig, tickets: &Arc<Tickets<Receipt>>) -> Result<Self> {
        let made = config.create_with_context(Confirmations(Arc::clone(tickets)));
        let producer: BaseProducer<_> = made.map_err(|error| from_kafka("a producer cannot be set up", &error))?;
        let (producer, is_over) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let listener = Listener {
            events: ProducerEvents::of(producer.client().native_ptr()),
            _producer: Arc::clone(&producer),
            tickets: Arc::clone(tickets),
        };
        let until = Arc::clone(&is_over);
        let listening =
            thread::Builder::new().name("kafka-reports".into()).spawn(move || listener.run(&until)).map_err(
                |error| Error::new(ErrorKind::Internal, format!("a producer cannot be set up: no thread: {error}")),
            )?;
        Ok(Self { producer, is_over, listening: Some(listening) })
    }

    pub(crate) fn client(&self) -> &BaseProducer<Confirmations> {
        &self.producer
    }
}

impl Drop for ReportingProducer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(listening) = self.listening.take() {
            // A panic of the thread was reported where it happened.
            let _ = listening.join();
        }
    }
}

struct Listener {
    /// Comes before the producer, so that it is dropped before the client can be.
    events: ProducerEvents,
    _producer: Arc<BaseProducer<Confirmations>>,
    tickets: Arc<Tickets<Receipt>>,
}

impl Listener {
    fn run(self, is_over: &AtomicBool) {
        let mut answers = Vec::with_capacity(COMPLETED_AT_ONCE);
        while !is_over.load(Ordering::Acquire) {
            let said = self.events.next(POLL_TIMEOUT, |ticket, report| {
                answers.push((ticket as u64, result_of(report)));
                if answers.len() == COMPLETED_AT_ONCE {
                    self.complete(&mut answers);
                }
            });
            if !answers.is_empty() {
                self.complete(&mut answers);
            }
            if let Some(said) = said {
                tracing::debug!(said, "a producer complains");
            }
        }
    }

    fn complete(&self, answers: &mut Vec<(u64, Result<Receipt>)>) {
        self.tickets.complete_many(std::mem::replace(answers, Vec::with_capacity(COMPLETED_AT_ONCE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_without_an_offset_is_not_taken_as_one() {
        let error = result_of(Ok((0, -1001))).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, ErrorOutcome::Unknown));
        assert!(error.is_retryable());
        assert_eq!(result_of(Ok((2, 0))).unwrap().position, Some(Position { partition: 2, offset: 0 }));
    }
}
