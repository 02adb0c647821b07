//! A producer and the outcomes it owes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::spi::{Permit, Tickets, TicketsOwner};

use messaging_core::{Error, ErrorKind, Outcome, Receipt, Result};
use parking_lot::{Mutex, RwLock};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use crate::blocking::{DropOnThread, REQUEST_TIMEOUT, blocking};
use crate::error::{code_of, from_delivery};
use crate::raw;
use crate::reports::{Confirmations, ReportingProducer};

/// A new idempotent producer asks for its id only half a second after it was made (librdkafka's timer), and nothing is confirmed
/// before.
const WARM_UP_TIME: Duration = Duration::from_millis(550);

/// librdkafka gives messages up by itself; what it forgot for so much longer is given up here.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// A producer, shared by all publishers with the same time limit.
pub(crate) struct Sender {
    producer: RwLock<DropOnThread<ReportingProducer>>,
    config: ClientConfig,
    tickets: TicketsOwner<Receipt>,
    made: Instant,
    /// How long an era of the tickets is, and when the current one began.
    era: Duration,
    era_began: Mutex<Instant>,
    /// After so many eras a message is given up here.
    patience: u32,
}

impl Sender {
    pub(crate) fn open(config: &ClientConfig, timeout: Duration) -> Result<Arc<Self>> {
        let tickets = Tickets::owned();
        let producer = make(config, tickets.tickets())?;
        let limit = timeout + FORGOTTEN_AFTER;
        let era = (limit / 10).max(Duration::from_millis(250));
        Ok(Arc::new(Self {
            producer: RwLock::new(producer),
            config: config.clone(),
            tickets,
            made: Instant::now(),
            era,
            era_began: Mutex::new(Instant::now()),
            patience: u32::try_from(limit.as_millis() / era.as_millis().max(1)).unwrap_or(u32::MAX),
        }))
    }

    /// Waits until the producer can confirm at once, so that a short time limit is not spent on that: it has its id, and knows the
    /// leaders of the topics. A topic that is not there is found out by the first message.
    pub(crate) async fn warm(self: &Arc<Self>, topics: Vec<String>) {
        self.look_up(topics).await;
        if let Some(left) = WARM_UP_TIME.checked_sub(self.made.elapsed()) {
            tokio::time::sleep(left).await;
        }
    }

    /// Asks how many partitions topics have, in their order; none where nobody knows. What the producer itself knows of them is
    /// renewed by it: a partition that was added can be written to afterwards.
    pub(crate) async fn look_up(self: &Arc<Self>, topics: Vec<String>) -> Vec<Option<usize>> {
        let sender = Arc::clone(self);
        let ask = move || {
            let guard = sender.producer.read();
            let count = |topic: &String| {
                let metadata = client(&guard)?.client().fetch_metadata(Some(topic), REQUEST_TIMEOUT).ok()?;
                let topic = metadata.topics().iter().find(|one| one.name() == topic && one.error().is_none())?;
                Some(topic.partitions().len()).filter(|count| *count > 0)
            };
            topics.iter().map(count).collect()
        };
        blocking("asking for leaders", REQUEST_TIMEOUT, ask).await.unwrap_or_default()
    }

    pub(crate) fn tickets(&self) -> &Arc<Tickets<Receipt>> {
        self.tickets.tickets()
    }

    /// Hands a record over; `record` gets the ticket to carry.
    pub(crate) fn send<'a>(
        &self,
        permit: Permit,
        record: impl Fn(usize) -> BaseRecord<'a, [u8], [u8], usize>,
    ) -> Outcome<Receipt> {
        let ticket = self.tickets.open(permit);
        // Tickets are numbers of 64 bits; so are the pointers that librdkafka carries them in.
        let mut sent = self.hand_over(record(ticket as usize));
        if sent.as_ref().is_err_and(|error| code_of(error) == Some(Code::Fatal)) && self.renew() {
            sent = self.hand_over(record(ticket as usize));
        }
        if let Err(error) = sent {
            self.tickets.complete(ticket, Err(from_delivery(&error, true)));
        }
        Outcome::pending(Arc::clone(self.tickets.tickets()) as Arc<_>, ticket)
    }

    fn hand_over(&self, record: BaseRecord<'_, [u8], [u8], usize>) -> std::result::Result<(), KafkaError> {
        let guard = self.producer.read();
        let producer = client(&guard).ok_or(KafkaError::Canceled)?;
        producer.send(record).map_err(|(error, _)| error)
    }

    /// Helps the client if it has nobody left to ask.
    pub(crate) fn remind_of_servers(&self, servers: &str) {
        if let Some(producer) = client(&self.producer.read()) {
            raw::remind_of_servers(producer.client().native_ptr(), servers);
        }
    }

    /// An idempotent producer that lost its thread with the broker refuses everything for good: another one takes over.
    fn renew(&self) -> bool {
        let mut guard = self.producer.write();
        let reason = client(&guard).and_then(|producer| producer.client().fatal_error());
        let Some((code, reason)) = reason else { return true };
        tracing::warn!(%code, reason, "a producer cannot go on and is replaced");
        match make(&self.config, self.tickets.tickets()) {
            Ok(fresh) => {
                *guard = fresh;
                true
            }
            Err(_) => false,
        }
    }

    /// Lets time pass for the tickets; returns how long the oldest waits already.
    pub(crate) fn tick(&self) -> Option<Duration> {
        let mut began = self.era_began.lock();
        if began.elapsed() >= self.era {
            *began = Instant::now();
            self.tickets.advance();
            self.tickets.expire(self.patience, || {
                Error::new(ErrorKind::Timeout, "the broker did not confirm the message in time")
            });
        }
        let age = self.tickets.oldest_age_in_eras()?;
        // A whole era is unknown; the younger bound accuses nobody falsely.
        Some(self.era * age.saturating_sub(1))
    }

    /// Gives up what is under way, after a close.
    pub(crate) fn abandon(&self) {
        if let Some(producer) = client(&self.producer.read()) {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    }
}

fn make(config: &ClientConfig, tickets: &Arc<Tickets<Receipt>>) -> Result<DropOnThread<ReportingProducer>> {
    ReportingProducer::start(config, tickets).map(DropOnThread::new)
}

/// The client of a producer; there until the drop.
fn client(producer: &DropOnThread<ReportingProducer>) -> Option<&BaseProducer<Confirmations>> {
    producer.get().map(ReportingProducer::client)
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("tickets", self.tickets.tickets()).finish_non_exhaustive()
    }
}
