//! A place: a queue or a durable subscription, fresh for the case, with the means to publish to it and consume from it.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::{
    Broker, Capabilities, ConsumeOptions, Destination, Lease, Message, Order, PublishOptions, Publisher, PublisherExt,
    Readiness, RetryMode, SettlementTiming, Source, StaleDetection, SubscribeOptions, SubscriptionName, TopicName,
};

use crate::bench::PATIENCE;
use crate::verdict::Verdict;
use crate::{Bench, Kind, Tap};

/// A queue or a durable subscription. What is said of one must hold of the other.
#[derive(Clone, Debug)]
pub struct Place {
    at: Bench,
    broker: Arc<dyn Broker>,
    destination: Destination,
    subscription: Option<SubscriptionName>,
    capabilities: Arc<Capabilities>,
    ordered: bool,
}

impl Place {
    /// Makes a fresh one, which exists at the broker when this returns.
    pub(crate) async fn fresh(at: &Bench, kind: Kind) -> Verdict<Self> {
        let (destination, subscription) = match kind {
            Kind::Queue => (Destination::Queue(at.queue()), None),
            _ => (Destination::Topic(at.topic()), Some(at.subscription())),
        };
        let broker = at.broker_for(&destination).await?;
        let ordered = at.is_ordered();
        let mut place = Self {
            at: at.clone(),
            broker,
            destination,
            subscription,
            capabilities: Arc::new(Capabilities::none()),
            ordered,
        };
        place.capabilities = Arc::new(place.ask(&place.options()));
        if place.subscription.is_some() {
            place.consumer(1).await?.close().await?;
        } else {
            drop(place.publisher().await?);
        }
        Ok(place)
    }

    /// The same place, reached through another broker handle.
    #[must_use]
    pub fn through(&self, broker: Arc<dyn Broker>) -> Self {
        Self { broker, ..self.clone() }
    }

    /// A place of the same kind with a name of one's own choice, which has to be fresh.
    pub(crate) fn renamed(&self, name: &str) -> Verdict<Self> {
        let destination = match self.kind() {
            Kind::Queue => Destination::queue(name)?,
            _ => Destination::topic(name)?,
        };
        let subscription = match &self.subscription {
            Some(_) => Some(SubscriptionName::parse(name)?),
            None => None,
        };
        self.at.note(destination.clone());
        Ok(Self { destination, subscription, ..self.clone() })
    }

    /// Another subscription of the same topic, made by its first consumer.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { subscription: Some(self.at.subscription()), ..self.clone() }
    }

    /// The broker handle it is reached through.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// The kind of place.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.subscription.is_some() { Kind::Durable } else { Kind::Queue }
    }

    /// Where to publish.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Where deliveries come from.
    #[must_use]
    pub fn source(&self) -> Source {
        match (&self.destination, &self.subscription) {
            (Destination::Topic(topic), Some(name)) => Source::Subscription(topic.clone(), name.clone()),
            (Destination::Queue(queue), _) => Source::Queue(queue.clone()),
            // A place is made with one of the two.
            _ => unreachable!("a place is a queue or a durable subscription"),
        }
    }

    /// The topic, if it is a subscription of one.
    #[must_use]
    pub fn topic(&self) -> Option<&TopicName> {
        match &self.destination {
            Destination::Topic(topic) => Some(topic),
            _ => None,
        }
    }

    /// The subscription, if it is one.
    #[must_use]
    pub fn subscription(&self) -> Option<&SubscriptionName> {
        self.subscription.as_ref()
    }

    /// What the broker can do here.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What the broker can do for publishing here.
    #[must_use]
    pub fn publish_capabilities(&self) -> Capabilities {
        self.broker.capabilities(messaging_core::Place::Publish(&self.destination, &PublishOptions::default()))
    }

    fn ask(&self, consume: &ConsumeOptions) -> Capabilities {
        match self.source() {
            Source::Queue(queue) => self.broker.capabilities(messaging_core::Place::Consume(&queue, consume)),
            Source::Subscription(topic, name) => {
                let options = SubscribeOptions::durable(name).with_consume(consume.clone());
                self.broker.capabilities(messaging_core::Place::Subscribe(&topic, &options))
            }
        }
    }

    /// The options of a consumer here: ordered where the case asks for order.
    #[must_use]
    pub fn options(&self) -> ConsumeOptions {
        let options = ConsumeOptions::default();
        if self.ordered { options.with_order(Order::ByKey).with_retry_mode(RetryMode::Hold) } else { options }
    }

    /// Whether what a consumer holds goes with its connection. It does where stale settlements are told exactly, and where a
    /// broker takes settlements without an answer; elsewhere a lease or the membership in a group says who holds what, and a
    /// consumer that comes back in time still holds it.
    #[must_use]
    pub fn is_held_by_connection(&self) -> bool {
        self.capabilities.stale == StaleDetection::Exact || self.capabilities.settlement == SettlementTiming::Sent
    }

    /// A moment that this broker can tell from none: delays and leases in the cases are a few of these.
    #[must_use]
    pub fn moment(&self) -> Duration {
        (self.capabilities.limits.time_granularity * 3).max(Duration::from_millis(40))
    }

    /// A lease that runs out soon, and is not renewed.
    #[must_use]
    pub fn short_lease(&self) -> Lease {
        let duration = self.moment() * 2;
        Lease { duration, max: duration }
    }

    /// Opens a consumer that holds at most `prefetch` deliveries.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn consumer(&self, prefetch: usize) -> Verdict<Tap> {
        let prefetch = prefetch.min(self.capabilities.limits.prefetch.max(1));
        self.consumer_with(self.options().with_prefetch(prefetch)).await
    }

    /// Opens a consumer with options.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn consumer_with(&self, options: ConsumeOptions) -> Verdict<Tap> {
        let consumer = match (&self.destination, &self.subscription) {
            (Destination::Queue(queue), _) => {
                self.at.wait("opening a consumer", self.broker.consume(queue, options)).await?
            }
            (Destination::Topic(topic), Some(name)) => {
                let options = SubscribeOptions::durable(name.clone()).with_consume(options);
                self.at.wait("subscribing", self.broker.subscribe(topic, options)).await?
            }
            _ => unreachable!("a place is a queue or a durable subscription"),
        };
        if let (Readiness::Eventual(max), true) = (self.capabilities.readiness, self.subscription.is_some()) {
            // The broker says that it takes so long until nothing is missed.
            self.at.outlast(max).await;
        }
        Ok(Tap::new(&self.at, consumer, self.patience()))
    }

    /// How long to wait for a delivery before it counts as missing: generous, and longer where the broker says so.
    #[must_use]
    pub fn patience(&self) -> Duration {
        PATIENCE + self.capabilities.limits.redelivery_within * 2 + self.capabilities.limits.time_granularity * 10
    }

    /// Opens a publisher.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn publisher(&self) -> Verdict<Arc<dyn Publisher>> {
        let opening = self.broker.publisher(&self.destination, PublishOptions::default());
        self.at.wait("opening a publisher", opening).await
    }

    /// Publishes messages in order; all must be confirmed.
    ///
    /// # Errors
    /// What the adapter says, or that it hangs.
    pub async fn publish(&self, messages: impl IntoIterator<Item = impl Into<Message>>) -> Verdict {
        let publisher = self.publisher().await?;
        let messages: Vec<Message> = messages.into_iter().map(Into::into).collect();
        let results = crate::bench::within("publishing", PATIENCE * 4, publisher.publish_batch(messages)).await?;
        for result in results {
            result?;
            self.at.did(1);
        }
        Ok(())
    }

    /// Publishes the numbers from 0 to `count`, as text.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    pub async fn publish_numbers(&self, count: usize) -> Verdict {
        self.publish((0..count).map(|number| number.to_string())).await
    }

    /// Publishes a message until that works, as after a cut, when the connection may not be back. It may be there several times.
    ///
    /// # Errors
    /// That it does not come to work.
    pub async fn publish_again(&self, text: &str) -> Verdict {
        self.at
            .eventually("publishing works again", || async {
                Ok(match self.broker.publisher(&self.destination, PublishOptions::default()).await {
                    Ok(publisher) => publisher.publish(text.to_owned()).await.is_ok(),
                    Err(_) => false,
                })
            })
            .await
    }

    /// As [`nothing_but_a_sentinel`](Self::nothing_but_a_sentinel), where the connection was cut before.
    ///
    /// # Errors
    /// That something else came, or that the sentinel did not.
    pub async fn nothing_but_a_sentinel_after_a_cut(&self, tap: &mut Tap) -> Verdict {
        let sentinel = format!("sentinel-{}", self.at.name());
        self.publish_again(&sentinel).await?;
        tap.expect_next(&sentinel).await
    }

    /// Publishes a sentinel and receives until it comes: whatever comes before it should not have.
    ///
    /// # Errors
    /// That something came, or that the sentinel did not.
    pub async fn nothing_but_a_sentinel(&self, tap: &mut Tap) -> Verdict {
        let sentinel = format!("sentinel-{}", self.at.name());
        self.publish([sentinel.clone()]).await?;
        tap.expect_next(&sentinel).await
    }
}
