//! The one server of a kind that cases may break, and what they do to it in words.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex as Lock};
use std::time::Duration;

use integration_tests::raw::{self, RawClient, fresh_name};
use integration_tests::{Broker, Kind, Result, Way, own_by};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Longer than any call takes that nothing stands in the way of.
pub(crate) const SURE: Duration = Duration::from_secs(30);
/// Long enough to know that a call is not merely slow.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);

type Slot = Arc<Mutex<Option<Arc<dyn Broker>>>>;

/// A healthy server of one's own until the end of the case.
pub(crate) struct Site {
    pub(crate) kind: Kind,
    pub(crate) broker: Arc<dyn Broker>,
    _turn: OwnedMutexGuard<Option<Arc<dyn Broker>>>,
}

impl Site {
    /// Waits for this case's turn. A server that an earlier case left broken is replaced, so that one failure stays one.
    pub(crate) async fn of(kind: Kind) -> Result<Self> {
        static SLOTS: LazyLock<Lock<HashMap<Kind, Slot>>> = LazyLock::new(Lock::default);

        let slot = Arc::clone(SLOTS.lock().unwrap().entry(kind).or_default());
        let mut turn = slot.lock_owned().await;
        if let Some(broker) = turn.take() {
            broker.proxy().heal().await?;
            let healthy = raw::round_trip(kind, &broker.url()).await;
            *turn = healthy.is_ok().then_some(broker);
        }
        let broker = match turn.take() {
            Some(broker) => broker,
            None => Arc::from(own_by(kind, way()).await?),
        };
        *turn = Some(Arc::clone(&broker));
        Ok(Self { kind, broker, _turn: turn })
    }

    /// Whether what was confirmed is still there after the process was killed.
    pub(crate) fn keeps(&self) -> bool {
        self.kind != Kind::Sqs
    }

    pub(crate) async fn client(&self) -> Result<Box<dyn RawClient>> {
        in_time(raw::connect(self.kind, &self.broker.url(), None)).await
    }

    pub(crate) async fn client_behind_proxy(&self) -> Result<Box<dyn RawClient>> {
        in_time(raw::connect(self.kind, &self.broker.proxied_url(), None)).await
    }

    pub(crate) async fn client_at(&self, url: &str, trust: Option<&Path>) -> Result<Box<dyn RawClient>> {
        raw::connect(self.kind, url, trust).await
    }

    /// A destination of this case alone, made by a client that no fault stands in the way of.
    pub(crate) async fn queue(&self) -> Result<String> {
        let name = fresh_name("case");
        let mut client = self.client().await?;
        in_time(client.create(&name)).await?;
        Ok(name)
    }

    /// The error with the end of the server's log.
    pub(crate) fn explain(&self, error: Box<dyn Error + Send + Sync>) -> Box<dyn Error + Send + Sync> {
        let log = self.broker.log_file().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("{error}\nthe server's log ends:\n{}", lines.join("\n")).into()
    }
}

/// Natively, unless this program is inside of a container engine's host.
pub(crate) fn way() -> Way {
    if std::env::var("MESSAGING_BROKER_WAY").is_ok_and(|way| way == "container") { Way::Container } else { Way::Native }
}

/// A call that nothing stands in the way of.
pub(crate) async fn in_time<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    let slow = |_| integration_tests::Error::failed(format!("no answer within {SURE:?}, though nothing is in the way"));
    tokio::time::timeout(SURE, call).await.map_err(slow)?
}

/// Whether a call is still waiting after a silence that no healthy server keeps.
pub(crate) async fn hangs<T>(call: impl Future<Output = T> + Unpin) -> bool {
    tokio::time::timeout(SILENCE, call).await.is_err()
}

/// A failed expectation.
pub(crate) fn expect(holds: bool, what: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(integration_tests::Error::failed(what)) }
}
