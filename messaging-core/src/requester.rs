//! Requests with replies: one struct over what an adapter knows of replies.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::error::Result;
use crate::inbox::Inbox;
use crate::message::Message;
use crate::name::{QueueName, ReplyAddress};
use crate::publisher::Publisher;

/// Publishers that a requester keeps open at most; beyond it the one that was used least recently is let go.
pub const REQUEST_PUBLISHERS_MAX: usize = 64;

/// What an adapter implements for requests: an address at which replies arrive, and publishers of requests.
///
/// Replies that arrive at the address go to the [`Inbox`] that came with [`Broker::replies`](crate::Broker::replies), for as long
/// as this lives. The adapter closes the inbox when the broker is closed.
#[async_trait]
pub trait Replies: Send + Sync + fmt::Debug {
    /// The address that requests carry.
    fn address(&self) -> &ReplyAddress;

    /// Opens a publisher of requests to a queue.
    ///
    /// # Errors
    /// As for [`Broker::publisher`](crate::Broker::publisher).
    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>>;
}

/// Sends requests and awaits their replies. Shared freely in an `Arc`; opened by `requester` of
/// [`dyn Broker`](trait@crate::Broker).
///
/// It keeps the publishers of the last [`REQUEST_PUBLISHERS_MAX`] queues open.
pub struct Requester {
    replies: Arc<dyn Replies>,
    inbox: Arc<Inbox>,
    publishers: Mutex<Cache>,
}

impl Requester {
    pub(crate) fn new(replies: Arc<dyn Replies>, inbox: Arc<Inbox>) -> Self {
        Self { replies, inbox, publishers: Mutex::default() }
    }

    /// Publishes `request` to a queue with a reply address and a correlation id, and waits for the reply.
    ///
    /// The handler of the request publishes the reply to [`Destination::Reply`](crate::Destination::Reply) with the request's
    /// `reply_to`, and its `correlation_id`.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) when no reply came in time; the request may still be handled.
    pub async fn request(&self, to: &QueueName, request: Message, timeout: Duration) -> Result<Message> {
        let publisher = self.publisher(to).await?;
        let replied = self.inbox.request(&*publisher, to, self.replies.address().clone(), request, timeout).await;
        replied.map_err(|error| publisher.core().scope().explain(error))
    }

    /// Number of replies that came after their request had timed out, and were dropped.
    #[must_use]
    pub fn late_replies(&self) -> u64 {
        self.inbox.late()
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        if let Some(known) = self.publishers.lock().get(to) {
            return Ok(known);
        }
        let opened = self.replies.publisher(to).await?;
        let (kept, dropped) = self.publishers.lock().keep(to, opened);
        // Outside the lock: ending a publisher runs an adapter's code.
        drop(dropped);
        Ok(kept)
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("replies", &self.replies).field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// The publishers of a requester, each with the number of its last use.
#[derive(Default)]
struct Cache {
    publishers: HashMap<QueueName, (Arc<dyn Publisher>, u64)>,
    uses: u64,
}

impl Cache {
    fn get(&mut self, to: &QueueName) -> Option<Arc<dyn Publisher>> {
        let (publisher, used) = self.publishers.get_mut(to)?;
        self.uses += 1;
        *used = self.uses;
        Some(Arc::clone(publisher))
    }

    /// Keeps a publisher, unless one to the same queue was opened meanwhile. Returns the one that is kept, and the one that is let
    /// go.
    fn keep(&mut self, to: &QueueName, opened: Arc<dyn Publisher>) -> (Arc<dyn Publisher>, Option<Arc<dyn Publisher>>) {
        if let Some(known) = self.get(to) {
            return (known, Some(opened));
        }
        let oldest = self.publishers.iter().min_by_key(|(_, (_, used))| *used).map(|(queue, _)| queue.clone());
        let dropped = oldest.filter(|_| self.publishers.len() >= REQUEST_PUBLISHERS_MAX);
        let dropped = dropped.and_then(|queue| self.publishers.remove(&queue)).map(|(publisher, _)| publisher);
        self.uses += 1;
        self.publishers.insert(to.clone(), (Arc::clone(&opened), self.uses));
        (opened, dropped)
    }
}
