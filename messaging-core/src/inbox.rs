//! The inbox of a requester: requests that wait for their replies.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageId};
use crate::name::{QueueName, ReplyAddress};
use crate::publisher::{Publisher, PublisherExt};

/// The requests of one [`Requester`](crate::Requester) that wait for their replies. Adapters hand it what arrives at the reply
/// address.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<HashMap<String, oneshot::Sender<Message>>>,
    late: AtomicU64,
}

impl Inbox {
    /// Publishes a request with a correlation id and the address of this inbox, and waits for the reply.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if a request with the same correlation id is under way; [`ErrorKind::Timeout`] when no reply
    /// came in time; [`ErrorKind::Closed`] if the inbox was closed; what the publisher says.
    pub(crate) async fn request(
        &self,
        publisher: &dyn Publisher,
        to: &QueueName,
        address: ReplyAddress,
        request: Message,
        timeout: Duration,
    ) -> Result<Message> {
        let correlation = request.correlation_id().map_or_else(|| MessageId::generate().to_string(), str::to_owned);
        let request = request.to_builder().correlation_id(correlation.as_str()).reply_to(address).build()?;
        let (_place, replied) = self.wait(correlation)?;
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

    /// A reply arrived. One whose request does not wait any more is dropped and counted.
    pub fn deliver(&self, reply: Message) {
        let waiting = reply.correlation_id().and_then(|id| self.waiting.lock().remove(id));
        let arrived = waiting.is_some_and(|request| request.send(reply).is_ok());
        if !arrived {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of replies that came too late.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Ends the wait of every request that is under way with [`ErrorKind::Closed`].
    pub fn close(&self) {
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
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("waiting", &self.waiting.lock().len()).field("late", &self.late).finish()
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
