//! Steps before a write: opening the channel, and declaring what has to be there at the broker.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use messaging_core::{Destination, ErrorKind, Result, Source};
use tokio::time::{Instant, sleep, timeout};

use super::{OnOpen, Purpose, WriterContext};
use crate::connection::Line;
use crate::delay::{Delays, Due};
use crate::error::{Call, from_lapin, silent};
use crate::topology::{Found, Topology};

/// Time that subscriptions get to bind themselves again after a topic's exchange had to be made anew: see
/// [`REBIND_INTERVAL`](crate::consumer::REBIND_INTERVAL).
const REBIND_WAIT: Duration = Duration::from_secs(3);
/// Pause before something is declared again that could not be declared because the connection was lost.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Opens a channel that confirms. `again` is made sure of once more, and `on_open` is called with the channel.
pub(super) async fn open_channel(
    context: WriterContext,
    again: Option<Destination>,
    on_open: Option<OnOpen>,
) -> Result<Arc<Line>> {
    let limit = context.topology.config.request_timeout;
    let channel = context.link.channel(Instant::now() + limit).await?;
    match timeout(limit, channel.confirm_select(ConfirmSelectOptions::default())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(from_lapin(&error, Call::Other)),
        Err(_) => return Err(silent("opening a publishing channel", limit)),
    }
    if let Some(OnOpen(on_open)) = on_open {
        let preparing = channel.unless_lost(on_open(channel.clone()));
        timeout(limit, preparing).await.map_err(|_| silent("opening a channel for replies", limit))???;
    }
    if let Some(destination) = again
        && context.topology.destination(&destination).await? == Found::Made
    {
        context.delays.forget();
        sleep(REBIND_WAIT).await;
    }
    Ok(Arc::new(channel))
}

/// Something that has to be declared before the oldest publish can be written. Answers are taken in meanwhile.
pub(super) struct Preparation {
    pub(super) what: Prepared,
    pub(super) work: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
}

/// Kind of a preparation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// The delay queue of the publish with this ticket.
    Bucket(u64),
    /// Something that was not there.
    Missing(Missing),
}

/// Something that a publish went to and that was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The writer's own destination.
    Destination,
    /// The dead letter of a source.
    DeadLetter(Source),
}

impl Preparation {
    pub(super) fn bucket(ticket: u64, delays: Arc<Delays>, due: Due, delay: Duration) -> Self {
        let work = async move { with_pause(delays.make(&due, delay).await).await };
        Self { what: Prepared::Bucket(ticket), work: Box::pin(work) }
    }

    /// Declares what was missing, by the topology mode; none if it is not this writer's to declare.
    pub(super) fn declare(topology: &Arc<Topology>, purpose: &Purpose, missing: Missing) -> Option<Self> {
        let topology = topology.clone();
        let work: Pin<Box<dyn Future<Output = Result<()>> + Send>> = match (&missing, purpose) {
            (Missing::Destination, Purpose::Destination(target)) => {
                let destination = target.destination.clone();
                Box::pin(async move { with_pause(topology.destination(&destination).await.map(drop)).await })
            }
            (Missing::Destination, _) => return None,
            (Missing::DeadLetter(source), _) => {
                let source = source.clone();
                Box::pin(async move { with_pause(topology.dead_letter(&source).await).await })
            }
        };
        Some(Self { what: Prepared::Missing(missing), work })
    }
}

/// Waits before a declaration that failed with the connection is repeated.
async fn with_pause(result: Result<()>) -> Result<()> {
    if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Disconnected) {
        sleep(RETRY_PAUSE).await;
    }
    result
}
