//! Requests and their replies.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::{
    Broker, Destination, Inbox, Message, PublishOptions, Publisher, QueueName, ReplyAddress, Requester, Result,
};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::broker::MemoryBroker;

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
        self.inbox.request(&*publisher, to, self.address.clone(), request, timeout).await
    }

    fn late_replies(&self) -> u64 {
        self.inbox.late()
    }
}

impl fmt::Debug for MemoryRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRequester").field("address", &self.address.as_str()).finish_non_exhaustive()
    }
}
