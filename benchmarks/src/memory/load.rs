//! The broker and the messages that are moved.

use std::sync::Arc;

use adapter_memory::MemoryServer;
use bytes::Bytes;
use messaging::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Control, Destination, Flow, Message, PublishOptions,
    Publisher, QueueName,
};

use super::WAITING_LIMIT;

/// A message of 256 bytes and two headers.
pub(crate) fn message() -> Message {
    build(Bytes::from(vec![7; 256]))
}

pub(crate) fn build(payload: Bytes) -> Message {
    Message::builder(payload).header("tenant", "acme").header("region", "eu-west").build().unwrap()
}

/// Ends the consumer that receives it.
fn end() -> Message {
    Message::new(Bytes::new())
}

pub(crate) fn is_end(message: &Message) -> bool {
    message.payload().is_empty()
}

pub(crate) fn broker(parameters: &str) -> Arc<dyn Broker> {
    let url = BrokerUrl::parse(&format!("memory://?{parameters}")).unwrap();
    MemoryServer::private().open(ConnectOptions::new(url)).unwrap()
}

/// A queue of the usual capacity with its ends.
pub(crate) struct Queue {
    broker: Arc<dyn Broker>,
    name: QueueName,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { broker: broker(&format!("capacity={WAITING_LIMIT}")), name: QueueName::parse("work").unwrap() }
    }

    pub(crate) async fn publisher(&self) -> Arc<dyn Publisher> {
        let destination = Destination::Queue(self.name.clone());
        self.broker.publisher(&destination, PublishOptions::default()).await.unwrap()
    }

    pub(crate) async fn consumers(&self, count: usize) -> Vec<Consumer> {
        let mut consumers = Vec::new();
        for _ in 0..count {
            let options = ConsumeOptions::default().with_prefetch(WAITING_LIMIT);
            consumers.push(self.broker.consume(&self.name, options).await.unwrap());
        }
        consumers
    }

    /// Says that nothing more comes. Whoever receives it [stops](Stop) the others.
    pub(crate) async fn end(&self) {
        use messaging::PublisherExt;
        self.publisher().await.publish(end()).await.unwrap();
    }
}

/// Stops all consumers of a queue.
#[derive(Clone)]
pub(crate) struct Stop(Arc<[Arc<dyn Control>]>);

impl Stop {
    pub(crate) fn of(consumers: &[Consumer]) -> Self {
        Self(consumers.iter().map(Consumer::control).collect())
    }

    pub(crate) fn all(&self) {
        for control in self.0.iter() {
            control.set_flow(Flow::Stopped);
        }
    }
}
