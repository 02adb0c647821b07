//! What a writer waits for before it writes: its channel, and what has to be there at the broker.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use messaging_core::{Destination, ErrorKind, Inbox, Result};
use tokio::time::{Instant, sleep, timeout};

use super::WriterContext;
use crate::connection::Line;
use crate::delay::{Delays, Due};
use crate::error::{Call, from_lapin, silent};
use crate::requester::receive_replies;
use crate::topology::{Found, Topology};

/// After a topic's exchange had to be made anew, its subscriptions get so long to bind themselves again: see
/// [`REBIND_EVERY`](crate::consumer::REBIND_EVERY).
const REBIND_WAIT: Duration = Duration::from_secs(3);
/// The pause before something is made again that could not be made because the connection was lost.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Opens a channel that confirms. `again` is made sure of once more, replies go to `inbox`.
pub(super) async fn open_channel(
    around: WriterContext,
    again: Option<Destination>,
    inbox: Option<Arc<Inbox>>,
) -> Result<Arc<Line>> {
    let limit = around.topology.config.request_timeout;
    let channel = around.link.channel(Instant::now() + limit).await?;
    match timeout(limit, channel.confirm_select(ConfirmSelectOptions::default())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(from_lapin(&error, Call::Other)),
        Err(_) => return Err(silent("opening a publishing channel", limit)),
    }
    if let Some(inbox) = inbox {
        let receiving = channel.unless_lost(receive_replies(&channel, &inbox, &around.tasks));
        timeout(limit, receiving).await.map_err(|_| silent("opening a channel for replies", limit))???;
    }
    if let Some(destination) = again
        && around.topology.destination(&destination).await? == Found::Made
    {
        around.delays.forget();
        sleep(REBIND_WAIT).await;
    }
    Ok(Arc::new(channel))
}

/// Something that has to be made before the oldest publish can be written. The writer goes on meanwhile.
pub(super) struct Preparation {
    pub(super) what: Prepared,
    pub(super) work: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// The bucket that the publish of this ticket goes to.
    Bucket(u64),
    /// The writer's own destination.
    Destination,
}

impl Preparation {
    pub(super) fn bucket(ticket: u64, delays: Arc<Delays>, due: Due, delay: Duration) -> Self {
        let work = async move { with_pause(delays.make(&due, delay).await).await };
        Self { what: Prepared::Bucket(ticket), work: Box::pin(work) }
    }

    pub(super) fn destination(topology: Arc<Topology>, destination: Destination) -> Self {
        let work = async move { with_pause(topology.destination(&destination).await.map(drop)).await };
        Self { what: Prepared::Destination, work: Box::pin(work) }
    }
}

/// What failed with the connection is tried again, though not at once.
async fn with_pause(result: Result<()>) -> Result<()> {
    if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Disconnected) {
        sleep(RETRY_PAUSE).await;
    }
    result
}
