//! Opening a consumer: its client is made, started and run on one thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use adapter_kit::EndReason;
use messaging_core::{Consumer, Error, ErrorKind, Event, Result, Scope, Start};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use tokio::sync::oneshot;

use super::deliveries::KafkaDeliveries;
use super::events::{ClientEvents, PartitionId};
use super::worker::{GroupClient, PanicGuard, Worker, WorkerEnd};
use super::{Settings, Shared, offsets};
use crate::config::GroupProtocol;
use crate::error::from_kafka;
use crate::topology::{Topics, places};

/// How long a new member waits for its part of the partitions before `consume` returns without. There may be none for it: the
/// group has more members than partitions.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long making a client and fixing the start may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// The partitions that a consumer reads, and from where.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// As a member of a group, which begins by `start` where it is new.
    Group { group: String, start: Start, main: Vec<PartitionId>, retries: Vec<PartitionId> },
    /// Alone, from the ends of these partitions on.
    Ephemeral { places: Vec<PartitionId> },
}

impl Opening {
    /// As a member of a group that reads these topics, whose partitions are counted in the order of [`Topics::subscribed`].
    pub(crate) fn group(group: String, start: Start, topics: &Topics, counts: &[i32]) -> Self {
        let all = places(&topics.subscribed(), counts);
        let (retries, main) = all.into_iter().partition(|(topic, _)| Some(topic.as_str()) == topics.retry.as_deref());
        Self::Group { group, start, main, retries }
    }
}

/// Opens a consumer; returns once it misses nothing any more.
pub(crate) async fn open(settings: Settings, opening: Opening, scope: Scope) -> Result<(Consumer, Arc<Shared>)> {
    let capabilities = Arc::clone(&settings.capabilities);
    let is_group = matches!(opening, Opening::Group { .. });
    let shared = Shared::new(settings, scope.clone());
    // From here on a cancelled future leaves nothing behind: dropping the deliveries ends the thread.
    let deliveries = KafkaDeliveries::new(Arc::clone(&shared));
    let (ready, opened) = oneshot::channel();
    let mut progress = shared.feed.progress.subscribe();
    let threads = Arc::clone(&shared);
    thread::Builder::new()
        .name("kafka-consumer".into())
        .spawn(move || live(threads, opening, ready))
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no thread for a consumer: {error}")))?;
    let opened = tokio::time::timeout(OPEN_TIMEOUT, opened).await;
    opened
        .map_err(|_| Error::silent("opening a consumer", OPEN_TIMEOUT))?
        .map_err(|_| Error::new(ErrorKind::Internal, "the consumer's thread has died"))??;
    if is_group {
        let _ = tokio::time::timeout(JOIN_TIMEOUT, progress.wait_for(|progress| progress.has_joined)).await;
    }
    Ok((Consumer::new(Box::new(deliveries), capabilities, scope), shared))
}

/// The life of a consumer's thread.
fn live(shared: Arc<Shared>, opening: Opening, ready: oneshot::Sender<Result<()>>) {
    let _guard = PanicGuard(Arc::clone(&shared));
    let _ = shared.feed.thread.set(thread::current());
    let wanted = shared.settings.connection.options.group_protocol;
    let mut ready = Some(ready);
    let mut protocol = wanted;
    loop {
        match start(&shared, &opening, protocol) {
            Ok(worker) => {
                if let Some(ready) = ready.take() {
                    // If nobody waits any more, the deliveries were dropped and the worker leaves at once.
                    let _ = ready.send(Ok(()));
                }
                match worker.run() {
                    WorkerEnd::Over => return,
                    // The broker does not know the new protocol.
                    WorkerEnd::WrongProtocol => protocol = GroupProtocol::Classic,
                }
            }
            Err(error) => {
                let reason = EndReason::new(error.kind(), error.text());
                shared.feed.progress.send_modify(|progress| {
                    progress.committed = Some(Ok(()));
                    progress.has_left = true;
                });
                match ready.take() {
                    Some(ready) => drop(ready.send(Err(error))),
                    None => shared.outlet.end(reason),
                }
                return;
            }
        }
    }
}

fn start(shared: &Arc<Shared>, opening: &Opening, protocol: GroupProtocol) -> Result<Worker> {
    let options = &shared.settings.connection.options;
    let client = |config: ClientConfig| -> Result<GroupClient> {
        let events = ClientEvents::default();
        let made = config.create_with_context(events.clone());
        made.map(|consumer| GroupClient::new(consumer, events))
            .map_err(|error| from_kafka("a consumer cannot be set up", &error))
    };
    match opening {
        Opening::Group { group, start, main, retries } => {
            let client = client(options.consumer(group, protocol))?;
            let missed = offsets::fix_start(client.consumer(), main, retries, *start)?;
            if missed > 0 {
                shared.outlet.report(Event::Gap { missed: Some(missed) });
            }
            let topics = shared.settings.topics.subscribed();
            let joined = client.consumer().subscribe(&topics);
            joined.map_err(|error| from_kafka("the group cannot be joined", &error))?;
            Ok(Worker::new(client, Arc::clone(shared), protocol))
        }
        Opening::Ephemeral { places } => {
            // Without a group of its own the client would have no queue; nothing is ever committed to this one.
            let name = format!("ephemeral-{}", uuid::Uuid::new_v4());
            let client = client(options.consumer(&name, GroupProtocol::Classic))?;
            let mut ends = Vec::new();
            for place in places {
                ends.push((place.clone(), offsets::resolve(client.consumer(), place, Start::New)?));
            }
            let taken = client.take_up(&offsets::list(ends.clone())?);
            taken.map_err(|error| from_kafka("the topic cannot be read", &error))?;
            let mut worker = Worker::new(client, Arc::clone(shared), protocol);
            worker.add(ends);
            Ok(worker)
        }
    }
}
