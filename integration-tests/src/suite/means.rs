//! Means of the harness at a server, by the server's own client: one implementation for each kind of server.

use async_trait::async_trait;

use super::Foreign;
use crate::Result;
use crate::proxy::Proxy;

/// The raw client of one stage, connected straight to the server when it is first needed.
///
/// Names are full ones, as they are at the broker.
#[async_trait]
pub(super) trait Means: Send + Sync {
    /// How many consumers the server knows of a queue or subscription.
    async fn consumers(&self, source: &str) -> Result<usize>;

    /// Deletes a queue, whoever uses it.
    async fn remove_queue(&self, queue: &str) -> Result<()>;

    /// Makes a queue refuse whatever is published to it, or ends that; what it holds may be lost.
    async fn set_refusing(&self, queue: &str, refusing: bool) -> Result<()>;

    /// Publishes, and returns when the server has it.
    async fn publish(&self, to: &Place, message: &Foreign) -> Result<()>;

    /// Takes a message of a queue, the only one that was not consumed; of a log, the youngest.
    async fn take(&self, queue: &str) -> Result<Foreign>;

    /// A state from which [`Self::has_stored`] counts, taken before the answers of `proxy` are held back.
    async fn before_storing(&self, prefix: &str) -> Result<u64>;

    /// True if `count` more messages are stored than in that state, though their answers never got through `proxy`.
    async fn has_stored(&self, prefix: &str, before: u64, count: u32, proxy: &Proxy) -> Result<bool>;

    /// Removes everything whose name begins so, and says how much of it is still there.
    async fn sweep(&self, prefix: &str) -> Result<usize>;

    /// The server's version.
    async fn version(&self) -> Result<String>;

    /// Ends its connection.
    async fn close(&self);
}

/// Where to publish.
#[derive(Debug)]
pub(super) enum Place {
    Queue(String),
    Topic(String),
}
