//! Where the messages of a run go: all that a process needs to take part.

use std::collections::BTreeMap;
use std::sync::Arc;

use messaging::{
    Broker, BrokerUrl, ConnectOptions, Destination, DestinationSettings, Order, QueueName, Settings, Source,
    SubscriptionName, TopicName,
};
use serde::{Deserialize, Serialize};

/// A queue or a topic's subscription on a broker. It is text, so that a child process gets the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Address {
    /// The broker's URL, by way of what can be disturbed.
    pub(crate) url: String,
    /// The queue or topic.
    pub(crate) name: String,
    /// The durable subscription that is read; a queue has none.
    pub(crate) subscription: Option<String>,
    /// Whether messages of one key keep their order.
    pub(crate) ordered: bool,
    /// What only the driver knows of the destination.
    pub(crate) settings: BTreeMap<String, String>,
}

impl Address {
    /// A queue.
    pub(crate) fn queue(url: impl Into<String>, name: impl Into<String>) -> Self {
        let (url, name) = (url.into(), name.into());
        Self { url, name, subscription: None, ordered: false, settings: BTreeMap::new() }
    }

    /// The same with key order.
    pub(crate) fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// The topic of that name instead, read by a durable subscription.
    pub(crate) fn subscribed(mut self, subscription: &str) -> Self {
        self.subscription = Some(subscription.to_owned());
        self
    }

    /// The same with a setting of the driver's.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The same by another way.
    pub(crate) fn by(&self, url: impl Into<String>) -> Self {
        Self { url: url.into(), ..self.clone() }
    }

    pub(crate) fn order(&self) -> Order {
        if self.ordered { Order::ByKey } else { Order::None }
    }

    pub(crate) fn destination(&self) -> messaging::Result<Destination> {
        Ok(match self.subscription {
            None => Destination::Queue(QueueName::parse(&self.name)?),
            Some(_) => Destination::Topic(TopicName::parse(&self.name)?),
        })
    }

    pub(crate) fn source(&self) -> messaging::Result<Source> {
        Ok(match &self.subscription {
            None => Source::Queue(QueueName::parse(&self.name)?),
            Some(subscription) => {
                Source::Subscription(TopicName::parse(&self.name)?, SubscriptionName::parse(subscription)?)
            }
        })
    }

    /// Opens the broker as an application does: the driver is found by the URL.
    pub(crate) async fn open(&self) -> messaging::Result<Arc<dyn Broker>> {
        let settings = DestinationSettings {
            order: self.order(),
            driver: Settings::new(format!("destination {}", self.name), self.settings.clone()),
            ..DestinationSettings::default()
        };
        let options = ConnectOptions::new(BrokerUrl::parse(&self.url)?);
        messaging::drivers().connect(options.with_destination(self.destination()?, settings)).await
    }
}
