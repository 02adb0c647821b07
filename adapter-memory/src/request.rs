//! Requests and their replies.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::spi::{Inbox, Replies};
use messaging_core::{Broker, Destination, PublishOptions, Publisher, QueueName, ReplyAddress, Result};
use uuid::Uuid;

use crate::broker::MemoryBroker;

/// An address at the server, which hands what is published to it to an inbox.
pub(crate) struct MemoryReplies {
    broker: MemoryBroker,
    address: ReplyAddress,
}

impl MemoryReplies {
    pub(crate) fn new(broker: MemoryBroker, inbox: &Arc<Inbox>) -> Self {
        let address = ReplyAddress::new(format!("reply-{}", Uuid::new_v4()));
        let mut inboxes = broker.server().inboxes.lock();
        inboxes.retain(|_, inbox| inbox.strong_count() > 0);
        inboxes.insert(address.as_str().to_owned(), Arc::downgrade(inbox));
        drop(inboxes);
        broker.add_inbox(inbox);
        Self { broker, address }
    }
}

#[async_trait]
impl Replies for MemoryReplies {
    fn address(&self) -> &ReplyAddress {
        &self.address
    }

    async fn publisher(&self, to: &QueueName) -> Result<Arc<dyn Publisher>> {
        self.broker.publisher(&Destination::Queue(to.clone()), PublishOptions::default()).await
    }
}

impl Drop for MemoryReplies {
    fn drop(&mut self) {
        self.broker.server().inboxes.lock().remove(self.address.as_str());
    }
}

impl fmt::Debug for MemoryReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReplies").field("address", &self.address.as_str()).finish_non_exhaustive()
    }
}
