//! Calls of the client that block: each runs on a thread of its own, and nobody waits for it longer than its limit.

use std::thread;
use std::time::Duration;

use messaging_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// Time limit of one request to the broker: metadata, offsets, topics, commits.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A value whose drop may block on a dead broker. A thread of its own drops it.
pub(crate) struct DropOnThread<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropOnThread<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Nothing, for tests that need no broker.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// The value; present until the drop.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: Send + 'static> Drop for DropOnThread<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            // The thread ends when librdkafka lets go, after its own time limits at the latest. Where no thread can be made the
            // value is dropped here, with the closure.
            let _ = thread::Builder::new().name("kafka-farewell".into()).spawn(move || drop(value));
        }
    }
}

/// Runs a call that blocks on a thread of its own, and waits for it no longer than `limit`.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    thread::Builder::new()
        .name("kafka-ask".into())
        .spawn(move || drop(answer.send(call())))
        .map_err(|error| Error::new(ErrorKind::Internal, format!("{what}: no thread: {error}")))?;
    match tokio::time::timeout(limit, answered).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Error::new(ErrorKind::Internal, format!("{what}: the thread that asked has died"))),
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("{what}: the broker did not answer within {limit:?}"))),
    }
}
