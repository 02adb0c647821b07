//! Requests and their replies.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::{
    Broker, Destination, Error, ErrorKind, Message, PublishOptions, Publisher, PublisherExt, QueueName, ReplyAddress,
    Requester, Result,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::MemoryBroker;

/// Where the replies of one requester arrive.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<HashMap<String, oneshot::Sender<Message>>>,
    late: AtomicU64,
}

impl Inbox {
    /// Whoever waits for a reply waits no more.
    pub(crate) fn close(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        drop(waiting);
    }

    /// A place for the reply to one request.
    fn wait(&self, correlation: String) -> Result<(Waiting<'_>, oneshot::Receiver<Message>)> {
        match self.waiting.lock().entry(correlation) {
            Entry::Occupied(taken) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "a request with the correlation id {:?} is under way already: leave it out to have one made",
                    taken.key()
                ),
            )),
            Entry::Vacant(free) => {
                let correlation = free.key().clone();
                let (reply, replied) = oneshot::channel();
                free.insert(reply);
                Ok((Waiting { inbox: self, correlation }, replied))
            }
        }
    }

    pub(crate) fn deliver(&self, message: Message) {
        let waiting = message.correlation_id().and_then(|id| self.waiting.lock().remove(id));
        let arrived = waiting.is_some_and(|request| request.send(message).is_ok());
        if !arrived {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A request's place in the inbox, given up when the request ends in any way.
struct Waiting<'a> {
    inbox: &'a Inbox,
    correlation: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inbox.waiting.lock().remove(&self.correlation);
    }
}

pub(crate) struct MemoryRequester {
    broker: MemoryBroker,
    address: ReplyAddress,
    inbox: Arc<Inbox>,
    publishers: Mutex<HashMap<QueueName, Arc<dyn Publisher>>>,
}

impl MemoryRequester {
    pub(crate) fn new(broker: MemoryBroker) -> Self {
        let address = ReplyAddress::new(format!("reply-{}", Uuid::new_v4()));
        let inbox = Arc::<Inbox>::default();
        let mut inboxes = broker.server().inboxes.lock();
        inboxes.retain(|_, inbox| inbox.strong_count() > 0);
        inboxes.insert(address.as_str().to_owned(), Arc::downgrade(&inbox));
        drop(inboxes);
        broker.add_inbox(&inbox);
        Self { broker, address, inbox, publishers: Mutex::default() }
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        if let Some(known) = self.publishers.lock().get(to) {
            return Ok(Arc::clone(known));
        }
        let opened = self.broker.publisher(&Destination::Queue(to.clone()), PublishOptions::default()).await?;
        Ok(Arc::clone(self.publishers.lock().entry(to.clone()).or_insert(opened)))
    }
}

#[async_trait]
impl Requester for MemoryRequester {
    async fn request(&self, to: &QueueName, request: Message, timeout: Duration) -> Result<Message> {
        let publisher = self.publisher(to).await?;
        let correlation = request.correlation_id().map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        let request =
            request.to_builder().correlation_id(correlation.as_str()).reply_to(self.address.clone()).build()?;
        let (_place, replied) = self.inbox.wait(correlation)?;
        let answered = tokio::time::timeout(timeout, async {
            publisher.publish(request).await?;
            replied.await.map_err(|_| {
                Error::new(
                    ErrorKind::Closed,
                    "the broker was closed before the reply came: the request may still be handled",
                )
            })
        });
        answered.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("no reply from queue {:?} within {timeout:?}", to.as_str())))
        })
    }

    fn late_replies(&self) -> u64 {
        self.inbox.late.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for MemoryRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRequester").field("address", &self.address.as_str()).finish_non_exhaustive()
    }
}
