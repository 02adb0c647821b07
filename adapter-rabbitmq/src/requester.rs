//! Requests with replies, over RabbitMQ's direct reply-to: no queue is made for them.
//!
//! Replies come to a pseudo-queue that belongs to the channel which published the request, so that a requester has a writer
//! of its own, whose channel consumes that queue too.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::Channel;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use messaging_core::{Destination, Inbox, Message, PublishOptions, QueueName, ReplyAddress, Requester, Result};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::broker::RabbitBroker;
use crate::convert::{Reading, read};
use crate::error::{Call, from_lapin};
use crate::publisher::SharedPublisher;
use crate::writer::Writer;

/// The pseudo-queue of replies (RabbitMQ's documentation, "Direct Reply-to").
const REPLIES: &str = "amq.rabbitmq.reply-to";

/// Sends requests and awaits their replies.
pub(crate) struct RabbitRequester {
    broker: RabbitBroker,
    inbox: Arc<Inbox>,
    writer: Writer,
    known: Mutex<HashMap<QueueName, Arc<SharedPublisher>>>,
}

impl RabbitRequester {
    pub(crate) fn new(broker: RabbitBroker) -> Self {
        let inbox = Arc::<Inbox>::default();
        let writer = broker.start_requests(&inbox);
        Self { broker, inbox, writer, known: Mutex::default() }
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<SharedPublisher>> {
        if let Some(known) = self.known.lock().get(to) {
            return Ok(known.clone());
        }
        let destination = Destination::Queue(to.clone());
        self.broker.topology().destination(&destination).await?;
        let (target, scope) = (self.broker.target(&destination), self.broker.scope(&destination));
        let publisher = SharedPublisher::new(self.writer.clone(), target, &PublishOptions::default(), scope);
        Ok(self.known.lock().entry(to.clone()).or_insert_with(|| Arc::new(publisher)).clone())
    }
}

#[async_trait]
impl Requester for RabbitRequester {
    async fn request(&self, to: &QueueName, request: Message, timeout: Duration) -> Result<Message> {
        let publisher = self.publisher(to).await?;
        self.inbox.request(&*publisher, to, ReplyAddress::new(REPLIES), request, timeout).await
    }

    fn late_replies(&self) -> u64 {
        self.inbox.late()
    }
}

impl fmt::Debug for RabbitRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitRequester").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

/// Lets the replies that come on a channel go to an inbox, until either is gone.
pub(crate) async fn receive_replies(channel: &Channel, inbox: &Arc<Inbox>, tasks: &TaskTracker) -> Result<()> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies = channel
        .basic_consume(REPLIES.into(), ShortString::default(), options, FieldTable::default())
        .await
        .map_err(|error| from_lapin(&error, Call::Consume))?;
    let inbox = Arc::downgrade(inbox);
    tasks.spawn(async move {
        let reading = Reading { exchange: None, lanes: false, counts: false };
        // The stream ends with its channel, which the writer closes when it ends.
        while let Some(Ok(reply)) = replies.next().await {
            let Some(inbox) = inbox.upgrade() else { break };
            let payload = Bytes::from(reply.data);
            let incoming = read(payload, reply.properties, &reply.exchange, &reply.routing_key, false, &reading);
            inbox.deliver(incoming.message);
        }
    });
    Ok(())
}
