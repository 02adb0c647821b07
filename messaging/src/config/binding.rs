//! `[bindings.NAME]`: which destination on which broker a name in the code stands for.

use std::collections::BTreeMap;
use std::fmt;

use messaging_core::suggest::hint;
use messaging_core::{
    BrokerName, Destination, DestinationSettings, Error, ErrorKind, QueueName, Result, Settings, SubscriptionName,
    TopicName,
};

use super::listener::ORDER_WORDS;

/// The use that the code makes of a binding's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UsedAs {
    /// By a listener of a queue: a queue, or a durable subscription of a topic.
    Queue,
    /// By a listener of a topic.
    Topic,
    /// To publish. Where the configuration has no `[bindings]` at all, that is the *queue* of the same name: whoever knows
    /// that the code listens to a topic of this name asks with [`UsedAs::Topic`].
    Publish,
}

/// The destination that a binding's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// The broker, one of those of [`Config::brokers`](super::Config::brokers).
    pub broker: BrokerName,
    /// The destination.
    pub destination: Destination,
    /// The durable subscription through which a topic is consumed, if the configuration names one.
    pub subscription: Option<SubscriptionName>,
}

/// A binding with what its destination is opened with.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) binding: Binding,
    pub(super) settings: DestinationSettings,
}

impl Bound {
    /// Reads one binding; `None` after a fault.
    pub(super) fn read(mut table: Settings, brokers: &[BrokerName], default: Option<&BrokerName>) -> Option<Self> {
        let with_broker = table.has("broker");
        let broker = match table.take_text("broker") {
            Some(name) => find_broker(&table, &name, brokers),
            // There, and of the wrong type: that is reported already.
            None if with_broker => None,
            None => {
                if default.is_none() && !brokers.is_empty() {
                    table.fault(format_args!(
                        "names no broker, and none of several is called \"main\": add broker = {}",
                        names(brokers)
                    ));
                }
                default.cloned()
            }
        };
        let (with_queue, with_topic) = (table.has("queue"), table.has("topic"));
        let queue = table.take_name("queue", "queue name", |text| QueueName::parse(text));
        let topic = table.take_name("topic", "topic name", |text| TopicName::parse(text));
        let with_subscription = table.has("subscription");
        let subscription = table.take_name("subscription", "subscription name", |text| SubscriptionName::parse(text));
        let native = table.take_text("native");
        let order = table.take_word("order_by", &ORDER_WORDS).unwrap_or_default();
        let settings = DestinationSettings { native, order, driver: table.take_options("options") };
        match (with_queue, with_topic) {
            (true, true) => table.fault("has both \"queue\" and \"topic\": keep one of them"),
            (false, false) => table.fault("says neither \"queue\" nor \"topic\": add queue = \"…\" or topic = \"…\""),
            (true, false) if with_subscription => {
                table.invalid(
                    "subscription",
                    "belongs to a topic, and this binding is a queue: remove it, or use \"topic\"",
                );
            }
            _ => {}
        }
        table.close();
        let destination = match (with_queue, with_topic) {
            (true, false) => Destination::Queue(queue?),
            (false, true) => Destination::Topic(topic?),
            _ => return None,
        };
        Some(Self { binding: Binding { broker: broker?, destination, subscription }, settings })
    }
}

fn find_broker(table: &Settings, name: &str, brokers: &[BrokerName]) -> Option<BrokerName> {
    let found = brokers.iter().find(|broker| broker.as_str() == name).cloned();
    if found.is_none() {
        let hint = hint(name, brokers.iter().map(BrokerName::as_str));
        table.invalid("broker", format_args!("names a broker that is not configured{hint}"));
    }
    found
}

fn names(brokers: &[BrokerName]) -> String {
    brokers.iter().map(|broker| format!("{:?}", broker.as_str())).collect::<Vec<_>>().join(" or ")
}

/// All bindings, if the configuration has a table of them.
#[derive(Clone)]
pub(super) struct Bindings {
    pub(super) place: String,
    pub(super) named: Option<BTreeMap<String, Bound>>,
    pub(super) brokers: Vec<BrokerName>,
    pub(super) default: Option<BrokerName>,
}

impl Bindings {
    pub(super) fn resolve(&self, name: &str, used_as: UsedAs) -> Result<Binding> {
        let Some(named) = &self.named else { return self.same_name(name, used_as) };
        let Some(Bound { binding, .. }) = named.get(name) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "binding {name:?} is not configured {}: add [bindings.{name}]{}",
                    self.place,
                    hint(name, named.keys().map(String::as_str))
                ),
            ));
        };
        match (used_as, &binding.destination) {
            (UsedAs::Queue, Destination::Topic(_)) if binding.subscription.is_none() => {
                Err(self.unfit(name, "a queue", &binding.destination, "add subscription = \"…\" to it"))
            }
            (UsedAs::Topic, Destination::Queue(_)) => {
                Err(self.unfit(name, "a topic", &binding.destination, "use another binding, or make it a topic"))
            }
            _ => Ok(binding.clone()),
        }
    }

    #[cold]
    fn unfit(&self, name: &str, used_as: &str, is: &Destination, next: &str) -> Error {
        Error::new(
            ErrorKind::Config,
            format!(
                "binding {name:?} is used as {used_as}, and [bindings.{name}] {} makes it {is}: {next}",
                self.place
            ),
        )
    }

    /// Without a table of bindings a name is that of the destination.
    fn same_name(&self, name: &str, used_as: UsedAs) -> Result<Binding> {
        let Some(broker) = self.default.clone() else {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "binding {name:?} belongs to no broker, since none of several is called \"main\" {}: add [bindings.{name}] with broker = {}",
                    self.place,
                    names(&self.brokers)
                ),
            ));
        };
        let destination = match used_as {
            UsedAs::Topic => Destination::topic(name),
            UsedAs::Queue | UsedAs::Publish => Destination::queue(name),
        }?;
        Ok(Binding { broker, destination, subscription: None })
    }

    /// The settings of one broker's destinations.
    pub(super) fn destinations(&self, broker: &BrokerName) -> BTreeMap<Destination, DestinationSettings> {
        let bound = self.named.iter().flat_map(BTreeMap::values).filter(|bound| bound.binding.broker == *broker);
        let mut destinations: BTreeMap<Destination, DestinationSettings> = BTreeMap::new();
        for Bound { binding, settings } in bound {
            // Of several bindings of one destination at most one says anything: that was checked when they were read.
            let known = destinations.entry(binding.destination.clone()).or_default();
            if is_plain(known) {
                *known = settings.clone();
            }
        }
        destinations
    }

    /// Destinations of which two bindings say different things, with the names of both.
    pub(super) fn conflicts(&self) -> Vec<(String, String, Destination)> {
        let all: Vec<(&String, &Bound)> = self.named.iter().flatten().collect();
        let mut conflicts = Vec::new();
        for (index, (name, one)) in all.iter().enumerate() {
            for (other_name, other) in &all[index + 1..] {
                let same =
                    one.binding.broker == other.binding.broker && one.binding.destination == other.binding.destination;
                if same && !is_plain(&one.settings) && !is_plain(&other.settings) && !agree(one, other) {
                    conflicts.push(((*name).clone(), (*other_name).clone(), one.binding.destination.clone()));
                }
            }
        }
        conflicts
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bindings = self.named.iter().flatten().map(|(name, bound)| (name, &bound.binding));
        f.debug_map().entries(bindings).finish()
    }
}

/// True if nothing is said that a destination of this name would not have anyway.
fn is_plain(settings: &DestinationSettings) -> bool {
    settings.native.is_none() && settings.order == Default::default() && settings.driver.keys().next().is_none()
}

fn agree(one: &Bound, other: &Bound) -> bool {
    // Driver settings are compared by their keys alone where both have some: two tables of them are never the same place.
    let (one, other) = (&one.settings, &other.settings);
    let without_options = |settings: &DestinationSettings| settings.driver.keys().next().is_none();
    one.native == other.native && one.order == other.order && without_options(one) && without_options(other)
}
