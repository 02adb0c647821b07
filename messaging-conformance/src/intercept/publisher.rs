//! Publishing and transactions with places to step in.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use messaging_core::spi::{Permit, PublisherCore};
use messaging_core::{Delivery, Destination, Message, Outcome, Publisher, Receipt, Result, Transaction};
use tokio::time::Instant;

use super::Intercept;
use super::consumer::InterceptedSettler;

#[derive(Debug)]
pub(super) struct InterceptedPublisher {
    pub(super) inner: Arc<dyn Publisher>,
    pub(super) how: Arc<dyn Intercept>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Publisher for InterceptedPublisher {
    fn core(&self) -> &PublisherCore {
        self.inner.core()
    }

    fn send(&self, message: Message, permit: Permit) -> Outcome<Receipt> {
        self.how.send(&self.inner, message, permit)
    }

    fn send_many(&self, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        self.how.send_many(&self.inner, messages, permit)
    }

    fn send_now(&self, message: Message) -> std::result::Result<Result<Receipt>, Message> {
        // The short cut would pass by the places to step in.
        Err(message)
    }

    fn send_many_now(&self, _messages: &mut std::vec::IntoIter<Message>, _receipts: &mut Vec<Result<Receipt>>) {}

    async fn flush(&self, by: Instant) -> Result<()> {
        self.inner.flush(by).await
    }
}

/// A transaction of the inner broker, which gets its own deliveries back.
#[derive(Debug)]
pub(super) struct InterceptedTransaction(pub(super) Box<dyn Transaction>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Transaction for InterceptedTransaction {
    fn send(&mut self, to: &Destination, message: Message) -> Result<()> {
        self.0.send(to, message)
    }

    fn ack(&mut self, delivery: Delivery) {
        let (unsettled, settler) = delivery.into_parts();
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(&settler) as _;
        match any.downcast::<InterceptedSettler>() {
            Ok(own) => {
                own.held.fetch_sub(1, Ordering::AcqRel);
                self.0.ack(Delivery::new(unsettled, Arc::clone(&own.inner)));
            }
            Err(_) => self.0.ack(Delivery::new(unsettled, settler)),
        }
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit().await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.0.rollback().await
    }
}
