//! Source and options of a listener as the code has them, before the configuration is applied.

use std::time::Duration;

use messaging_core::{Need, Order, Requirements, RetryMode, Start};

use super::{AckMode, DeadLetterPolicy, Retry};

/// Source and options of a listener. The binding's name is mapped to a destination by the configuration, whose
/// `[listeners.<id>]` overrides everything said here.
///
/// Nothing is checked before [`App::start`](crate::App::start), which tells all that is wrong at once.
///
/// ```
/// use std::time::Duration;
/// use messaging::{DeadLetterPolicy, Listen, Retry};
///
/// let orders = Listen::queue("orders")
///     .id("handle-order")
///     .concurrency(4)
///     .retry(Retry::default().attempts(3))
///     .timeout(Duration::from_secs(10));
/// let weather = Listen::topic("weather").subscription("dashboard");
/// let ticker = Listen::topic("stocks").ephemeral().filter("stock.*").dead_letter(DeadLetterPolicy::Discard);
/// # let _ = (orders, weather, ticker);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Listen {
    pub(crate) binding: String,
    pub(crate) source: ListenSource,
    /// Contradiction between calls, reported at the start.
    pub(crate) contradiction: Option<&'static str>,
    pub(crate) id: Option<String>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) prefetch: Option<usize>,
    pub(crate) retry: Retry,
    pub(crate) retry_mode: Option<RetryMode>,
    pub(crate) dead_letter: DeadLetterPolicy,
    pub(crate) ack: AckMode,
    pub(crate) order_by: Option<Order>,
    pub(crate) filter: Option<String>,
    pub(crate) start: Option<Start>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) requires: Requirements,
}

const QUEUE_WITH_SUBSCRIPTION: &str = "a queue has no subscriptions: say Listen::topic(\"…\") for a topic; a queue's listener becomes a member of a subscription by the configuration alone";
const NAMED_AND_EPHEMERAL: &str =
    "a subscription that has a name is durable: say either .subscription(\"…\") or .ephemeral()";

/// Kind of source that the code asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenSource {
    /// A queue, or whatever else shares out messages: the configuration may bind it to a durable subscription.
    Queue,
    /// A durable subscription of a topic; the configuration may name it if the code does not.
    Subscription(Option<String>),
    /// An ephemeral subscription of a topic.
    Ephemeral,
}

impl Listen {
    /// Listens to the queue of a binding, competing with others for its messages. The configuration may bind the name to a
    /// durable subscription of a topic instead.
    pub fn queue(binding: impl Into<String>) -> Self {
        Self::new(binding.into(), ListenSource::Queue)
    }

    /// Listens to the topic of a binding. Say [`subscription`](Self::subscription) or [`ephemeral`](Self::ephemeral) too,
    /// unless the configuration names the subscription.
    pub fn topic(binding: impl Into<String>) -> Self {
        Self::new(binding.into(), ListenSource::Subscription(None))
    }

    fn new(binding: String, source: ListenSource) -> Self {
        Self {
            binding,
            source,
            contradiction: None,
            id: None,
            concurrency: None,
            prefetch: None,
            retry: Retry::default(),
            retry_mode: None,
            dead_letter: DeadLetterPolicy::default(),
            ack: AckMode::default(),
            order_by: None,
            filter: None,
            start: None,
            timeout: None,
            requires: Requirements::none(),
        }
    }

    /// Names the durable subscription of the topic: it is made if it is not there, messages wait for it while nobody
    /// listens, and all listeners that name it share them.
    pub fn subscription(mut self, name: impl Into<String>) -> Self {
        match self.source {
            ListenSource::Queue => self.contradiction = Some(QUEUE_WITH_SUBSCRIPTION),
            ListenSource::Ephemeral => self.contradiction = Some(NAMED_AND_EPHEMERAL),
            ListenSource::Subscription(_) => self.source = ListenSource::Subscription(Some(name.into())),
        }
        self
    }

    /// Listens to the topic only while this is running: nothing waits, and nothing comes again after a failure of the
    /// process or its connection.
    pub fn ephemeral(mut self) -> Self {
        match self.source {
            ListenSource::Queue => self.contradiction = Some(QUEUE_WITH_SUBSCRIPTION),
            ListenSource::Subscription(Some(_)) => self.contradiction = Some(NAMED_AND_EPHEMERAL),
            _ => self.source = ListenSource::Ephemeral,
        }
        self
    }

    /// Sets the id, which has to be unique in an application: it names the listener in the configuration, the ledger and
    /// logs. By default the binding's name, or `binding--subscription`.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets how many deliveries are handled at once; 1 by default. Exactly so many tasks run.
    pub fn concurrency(mut self, workers: usize) -> Self {
        self.concurrency = Some(workers);
        self
    }

    /// Sets the most deliveries held unsettled; by default 64, or twice the concurrency if that is more. It has to be at least
    /// the concurrency.
    pub fn prefetch(mut self, deliveries: usize) -> Self {
        self.prefetch = Some(deliveries);
        self
    }

    /// Sets how often and after what waits a failing message is tried again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets what happens to other messages while one waits for its retry; [`RetryMode::Hold`] where `order_by` is the key,
    /// [`RetryMode::Requeue`] otherwise.
    pub fn retry_mode(mut self, mode: RetryMode) -> Self {
        self.retry_mode = Some(mode);
        self
    }

    /// Sets what becomes of messages that cannot be handled; kept in the dead letter by default.
    pub fn dead_letter(mut self, policy: DeadLetterPolicy) -> Self {
        self.dead_letter = policy;
        self
    }

    /// Sets who settles: the listener after the handler succeeded, which is the default, or the handler.
    pub fn ack(mut self, mode: AckMode) -> Self {
        self.ack = mode;
        self
    }

    /// Sets whether the order of messages of one key is kept. Then a key's next message is handed out only after the one
    /// before is settled, whatever the concurrency, and while one waits for its retry those behind it wait too.
    pub fn order_by(mut self, order: Order) -> Self {
        self.order_by = Some(order);
        self
    }

    /// Sets which subjects of a topic are listened to, such as `stock.*`; all by default.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(filter.into());
        self
    }

    /// Sets where a durable subscription begins when it is made; new messages only by default.
    pub fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Sets how long the handler may take; past it it is cancelled, which counts as a failure. At most 30 min, for which the
    /// broker keeps a delivery. Without it there is no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Says what else the broker must be able to do; the start is refused if it cannot.
    pub fn requires(mut self, need: impl Into<Need>) -> Self {
        self.requires = self.requires.with(need);
        self
    }

    pub(crate) fn is_of_topic(&self) -> bool {
        self.source != ListenSource::Queue
    }

    pub(crate) fn effective_id(&self) -> String {
        match (&self.id, &self.source) {
            (Some(id), _) => id.clone(),
            (None, ListenSource::Subscription(Some(name))) => format!("{}--{name}", self.binding),
            (None, _) => self.binding.clone(),
        }
    }
}
