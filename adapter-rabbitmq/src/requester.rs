//! Requests with replies, over RabbitMQ's direct reply-to: no queue is made for them.
//!
//! Replies come to a pseudo-queue that belongs to the channel which published the request, so that a requester has a writer
//! of its own, whose channel consumes that queue too.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use messaging_core::spi::{Inbox, Replies};
use messaging_core::{Destination, PublishOptions, Publisher, QueueName, ReplyAddress, Result};
use tokio_util::task::TaskTracker;

use crate::broker::RabbitBroker;
use crate::connection::Line;
use crate::convert::{Reading, read};
use crate::error::{Call, from_lapin};
use crate::publisher::SharedPublisher;
use crate::writer::{OnOpen, Writer};

/// The pseudo-queue of replies (RabbitMQ's documentation, "Direct Reply-to").
const REPLIES: &str = "amq.rabbitmq.reply-to";

/// The pseudo-queue of one requester, and the writer whose channel it belongs to.
pub(crate) struct RabbitReplies {
    broker: RabbitBroker,
    writer: Writer,
    address: ReplyAddress,
}

impl RabbitReplies {
    pub(crate) fn new(broker: RabbitBroker, inbox: &Arc<Inbox>) -> Self {
        let writer = broker.start_requests(inbox);
        Self { broker, writer, address: ReplyAddress::new(REPLIES) }
    }
}

#[async_trait]
impl Replies for RabbitReplies {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        let destination = Destination::Queue(to.clone());
        self.broker.topology().destination(&destination).await?;
        let (target, scope) = (self.broker.target(&destination)?, self.broker.scope(&destination));
        Ok(Arc::new(SharedPublisher::new(self.writer.clone(), target, &PublishOptions::default(), scope)))
    }
}

impl fmt::Debug for RabbitReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitReplies").finish_non_exhaustive()
    }
}

/// Lets the replies that come on each channel of a writer go to an inbox, until either is gone.
pub(crate) fn receive_replies(inbox: &Arc<Inbox>, tasks: TaskTracker) -> OnOpen {
    let inbox = Arc::downgrade(inbox);
    OnOpen(Arc::new(move |channel| Box::pin(receive_on(channel, inbox.clone(), tasks.clone()))))
}

async fn receive_on(channel: Line, inbox: Weak<Inbox>, tasks: TaskTracker) -> Result<()> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut replies = channel
        .basic_consume(REPLIES.into(), ShortString::default(), options, FieldTable::default())
        .await
        .map_err(|error| from_lapin(&error, Call::Consume))?;
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
