//! Opening a consumer: its client is made, started and run on one thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use messaging_core::{Consumer, Error, ErrorKind, Result, Scope, Start};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use tokio::sync::oneshot;

use super::group::{Ear, Place, take_up};
use super::worker::{Client, Ending, Worker};
use super::{Intake, KafkaDeliveries, Settings, offsets};
use crate::config::GroupProtocol;
use crate::error::from_kafka;
use crate::raw::FetchQueue;

/// How long a new member waits for its part of the partitions before `consume` returns without. There may be none for it: the
/// group has more members than partitions.
const JOIN: Duration = Duration::from_secs(3);
/// How long making a client and fixing the start may take.
const OPEN: Duration = Duration::from_secs(20);

/// What a consumer reads.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// As a member of a group, which begins by `start` where it is new.
    Group { group: String, start: Start, main: Vec<Place>, retries: Vec<Place> },
    /// Alone, from the ends of these partitions on.
    Ephemeral { places: Vec<Place> },
}

/// Opens a consumer; returns once it misses nothing any more.
pub(crate) async fn open(settings: Settings, opening: Opening, scope: Scope) -> Result<(Consumer, Arc<Intake>)> {
    let capabilities = Arc::clone(&settings.capabilities);
    let is_group = matches!(opening, Opening::Group { .. });
    let intake = Intake::new(settings);
    // From here on a cancelled future leaves nothing behind: dropping the deliveries ends the thread.
    let deliveries = KafkaDeliveries::new(Arc::clone(&intake));
    let (ready, opened) = oneshot::channel();
    let mut progress = intake.progress.subscribe();
    let threads = Arc::clone(&intake);
    thread::Builder::new()
        .name("kafka-consumer".into())
        .spawn(move || live(threads, opening, ready))
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no thread for a consumer: {error}")))?;
    let opened = tokio::time::timeout(OPEN, opened).await;
    opened
        .map_err(|_| Error::silent("opening a consumer", OPEN))?
        .map_err(|_| Error::new(ErrorKind::Internal, "the consumer's thread has died"))??;
    if is_group {
        let _ = tokio::time::timeout(JOIN, progress.wait_for(|progress| progress.has_joined)).await;
    }
    Ok((Consumer::new(Box::new(deliveries), capabilities, scope), intake))
}

/// The life of a consumer's thread.
fn live(intake: Arc<Intake>, opening: Opening, ready: oneshot::Sender<Result<()>>) {
    let _obituary = Obituary(Arc::clone(&intake));
    let _ = intake.thread.set(thread::current());
    let wanted = intake.settings.connection.options.group_protocol;
    let mut ready = Some(ready);
    let mut protocol = wanted;
    loop {
        match start(&intake, &opening, protocol) {
            Ok(worker) => {
                if let Some(ready) = ready.take() {
                    // If nobody waits any more, the deliveries were dropped and the worker leaves at once.
                    let _ = ready.send(Ok(()));
                }
                match worker.run() {
                    Ending::Over => return,
                    // The broker does not know the new protocol.
                    Ending::WrongProtocol => protocol = GroupProtocol::Classic,
                }
            }
            Err(error) => {
                let told = super::End::new(error.kind(), error.text());
                intake.progress.send_modify(|progress| {
                    progress.committed = Some(Ok(()));
                    progress.has_left = true;
                });
                match ready.take() {
                    Some(ready) => drop(ready.send(Err(error))),
                    None => intake.end(told),
                }
                return;
            }
        }
    }
}

fn start(intake: &Arc<Intake>, opening: &Opening, protocol: GroupProtocol) -> Result<Worker> {
    let options = &intake.settings.connection.options;
    let ear = Ear::default();
    let client = |config: ClientConfig| -> Result<Client> {
        let made = config.create_with_context(ear.clone());
        made.map_err(|error| from_kafka("a consumer cannot be set up", &error))
    };
    let mut worker = match opening {
        Opening::Group { group, start, main, retries } => {
            let client = client(options.consumer(group, protocol))?;
            offsets::fix_start(&client, main, retries, *start)?;
            let topics = intake.settings.topics.subscribed();
            client.subscribe(&topics).map_err(|error| from_kafka("the group cannot be joined", &error))?;
            let fetch = FetchQueue::of(client.client().native_ptr());
            Worker::new(fetch, client, ear, Arc::clone(intake), protocol)
        }
        Opening::Ephemeral { places } => {
            // Without a group of its own the client would have no queue; nothing is ever committed to this one.
            let name = format!("ephemeral-{}", uuid::Uuid::new_v4());
            let client = client(options.consumer(&name, GroupProtocol::Classic))?;
            let mut ends = Vec::new();
            for place in places {
                ends.push((place.clone(), offsets::resolve(&client, place, Start::New)?));
            }
            let fetch = FetchQueue::of(client.client().native_ptr());
            let list = offsets::list(ends.clone())?;
            take_up(&client, &fetch, &list).map_err(|error| from_kafka("the topic cannot be read", &error))?;
            drop(list);
            let mut worker = Worker::new(fetch, client, ear, Arc::clone(intake), protocol);
            worker.hold(ends);
            worker
        }
    };
    worker.hang_bell();
    Ok(worker)
}

/// Tells of a thread that panics: nobody else would, and the consumer would be silent for ever.
pub(super) struct Obituary(pub(super) Arc<Intake>);

impl Drop for Obituary {
    fn drop(&mut self) {
        if thread::panicking() {
            // Before the client is dropped, which it must not outlive.
            drop(self.0.bell.lock().take());
            self.0.end(super::End::new(ErrorKind::Internal, "the consumer's thread has died: consume again"));
            self.0.progress.send_modify(|progress| progress.has_left = true);
        }
    }
}
