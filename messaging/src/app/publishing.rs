//! Publishing by binding name: from handlers, and from the rest of the program.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use messaging_core::{
    Broker, BrokerName, Destination, Error, ErrorKind, Message, PublishOptions, Publisher, PublisherExt, Receipt,
    Result,
};
use parking_lot::RwLock;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::config::{Binding, Config, UsedAs};
use crate::extract::{DeliveryContext, FromDelivery, Rejection};

/// The publishers of an application, by the names of their bindings. Cheap to clone; also an extractor.
///
/// Each is opened when it is first asked for and kept. What is known when the program is written is better declared with
/// [`App::publisher`](crate::App::publisher): the start checks it then.
///
/// ```
/// use messaging::{HandlerError, Message, Publishers};
///
/// async fn forward(message: Message, publishers: Publishers) -> Result<(), HandlerError> {
///     publishers.publish("archive", message).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Publishers(Arc<Pool>);

#[derive(Default)]
struct Pool {
    opened: OnceLock<Opened>,
    publishers: RwLock<HashMap<String, Entry>>,
}

type Entry = Arc<OnceCell<Arc<dyn Publisher>>>;

struct Opened {
    config: Config,
    brokers: BTreeMap<BrokerName, Arc<dyn Broker>>,
    /// The names that listeners use for topics: where the configuration has no bindings, they tell what a name stands for.
    topics: BTreeSet<String>,
}

impl Publishers {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Sets what publishers are opened with; once.
    pub(crate) fn open(
        &self,
        config: Config,
        brokers: BTreeMap<BrokerName, Arc<dyn Broker>>,
        topics: BTreeSet<String>,
    ) {
        drop(self.0.opened.set(Opened { config, brokers, topics }));
    }

    /// Where a binding leads and how to publish there.
    pub(crate) fn target(&self, binding: &str) -> Result<(Arc<dyn Broker>, Destination, PublishOptions)> {
        self.0.opened.get().ok_or_else(|| not_started(binding))?.target(binding)
    }

    /// Where a binding leads.
    pub(crate) fn bound(&self, binding: &str) -> Result<(Arc<dyn Broker>, Binding)> {
        self.0.opened.get().ok_or_else(|| not_started(binding))?.bound(binding)
    }

    /// The publisher to a binding's destination.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Config`] for a binding that is not in the configuration, with the nearest name
    /// that is; [`ErrorKind::Closed`] before the application started; otherwise what kept the broker from opening it.
    pub async fn to(&self, binding: &str) -> Result<Arc<dyn Publisher>> {
        let known = self.0.publishers.read().get(binding).cloned();
        if let Some(publisher) = known.as_ref().and_then(|entry| entry.get()) {
            return Ok(publisher.clone());
        }
        // Resolved before it is entered: names that lead nowhere, perhaps made from messages, must not pile up.
        let (broker, destination, options) = self.target(binding)?;
        let entry = known.unwrap_or_else(|| self.0.publishers.write().entry(binding.to_owned()).or_default().clone());
        entry.get_or_try_init(|| async { broker.publisher(&destination, options).await }).await.cloned()
    }

    /// Publishes one message to a binding's destination and waits until the broker has taken responsibility.
    ///
    /// # Errors
    /// As for [`to`](Self::to) and [`PublisherExt::publish`].
    pub async fn publish(&self, binding: &str, message: impl Into<Message> + Send) -> Result<Receipt> {
        let message = message.into();
        self.to(binding).await?.publish(message).await
    }

    /// Waits until the brokers have answered for all that was published.
    pub(crate) async fn flush(&self, by: Instant) -> Result<()> {
        let publishers: Vec<_> = self.0.publishers.read().values().filter_map(|entry| entry.get().cloned()).collect();
        let mut result = Ok(());
        for publisher in publishers {
            result = result.and(publisher.flush(by).await);
        }
        result
    }
}

impl Opened {
    fn target(&self, name: &str) -> Result<(Arc<dyn Broker>, Destination, PublishOptions)> {
        let (broker, binding) = self.bound(name)?;
        Ok((broker, binding.destination, self.config.publisher(name)))
    }

    fn bound(&self, name: &str) -> Result<(Arc<dyn Broker>, Binding)> {
        let used_as = if self.topics.contains(name) { UsedAs::Topic } else { UsedAs::Publish };
        let binding = self.config.binding(name, used_as)?;
        let broker = self.brokers.get(&binding.broker).ok_or_else(|| {
            let broker = binding.broker.as_str();
            Error::new(ErrorKind::NotFound, format!("binding {name:?} is on broker {broker:?}, which was not opened"))
        })?;
        Ok((broker.clone(), binding))
    }
}

#[cold]
fn not_started(binding: &str) -> Error {
    Error::new(
        ErrorKind::Closed,
        format!("the app has not started yet: publish to {binding:?} after `App::start`, or from a handler"),
    )
}

impl FromDelivery for Publishers {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        Ok(delivery.publishers().clone())
    }
}

impl fmt::Debug for Publishers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let publishers = self.0.publishers.read();
        f.debug_struct("Publishers").field("bindings", &publishers.keys()).finish_non_exhaustive()
    }
}

/// A publisher to one binding, declared before the application starts: see [`App::publisher`](crate::App::publisher).
///
/// It is cheap to clone, and may be given to the application as a state. It works from when the application has started
/// until it has shut down.
#[derive(Clone)]
pub struct BindingPublisher(Arc<Declared>);

struct Declared {
    binding: String,
    publisher: OnceLock<Arc<dyn Publisher>>,
}

impl BindingPublisher {
    pub(crate) fn new(binding: String) -> Self {
        Self(Arc::new(Declared { binding, publisher: OnceLock::new() }))
    }

    pub(crate) fn opened(&self, publisher: Arc<dyn Publisher>) {
        drop(self.0.publisher.set(publisher));
    }

    /// The name of the binding.
    #[must_use]
    pub fn binding(&self) -> &str {
        &self.0.binding
    }

    /// The publisher itself, for batches and for sending without waiting.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] before the application has started.
    pub fn publisher(&self) -> Result<&Arc<dyn Publisher>> {
        self.0.publisher.get().ok_or_else(|| not_started(&self.0.binding))
    }

    /// Publishes one message and waits until the broker has taken responsibility.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] before the application has started and after it has shut down; otherwise as for
    /// [`PublisherExt::publish`].
    pub async fn publish(&self, message: impl Into<Message> + Send) -> Result<Receipt> {
        let message = message.into();
        self.publisher()?.publish(message).await
    }
}

impl fmt::Debug for BindingPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BindingPublisher").field(&self.0.binding).finish()
    }
}
