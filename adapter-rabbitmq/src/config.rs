//! Options of the broker and of single destinations, strict and redacted.

use std::collections::BTreeMap;
use std::time::Duration;

use messaging_core::{
    Access, ConnectOptions, Destination, DestinationSettings, Destinations, Error, ErrorKind, Faults, Order, Result,
    Settings, flag_of, whole_of,
};
use serde_json::Value;

/// How a queue is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueType {
    /// Replicated, with exact attempts and dead-lettering that loses nothing.
    Quorum,
    /// On one node; tells only whether a message was delivered before.
    Classic,
}

impl QueueType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// Options of one destination; the broker's own options are its defaults.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DestinationOptions {
    pub(crate) queue_type: QueueType,
    /// After so many deliveries the broker itself dead-letters a message: the net under crash loops. None is no limit.
    pub(crate) delivery_limit: Option<u32>,
    /// Over how many queues a destination with key order is spread.
    pub(crate) lanes: u32,
    /// Further queue arguments, as they stand.
    pub(crate) arguments: BTreeMap<String, Value>,
    /// The type of a topic's exchange.
    pub(crate) exchange_type: String,
    /// The routing key of every message, instead of its subject.
    pub(crate) routing_key: Option<String>,
    /// Arguments of a subscription's binding, for headers exchanges.
    pub(crate) binding_arguments: BTreeMap<String, Value>,
    /// How many messages an ephemeral subscription may be behind before it loses some.
    pub(crate) ephemeral_lag: u32,
    pub(crate) order: Order,
}

impl Default for DestinationOptions {
    fn default() -> Self {
        Self {
            queue_type: QueueType::Quorum,
            delivery_limit: Some(1_000),
            lanes: 8,
            arguments: BTreeMap::new(),
            exchange_type: "topic".to_owned(),
            routing_key: None,
            binding_arguments: BTreeMap::new(),
            ephemeral_lag: 100_000,
            order: Order::None,
        }
    }
}

impl DestinationOptions {
    /// The key that binds a subscription without a filter: only exchanges of type topic know `#`, a direct one goes by the key itself.
    pub(crate) fn key_of_all(&self) -> &str {
        if self.exchange_type == "topic" { "#" } else { self.routing_key.as_deref().unwrap_or_default() }
    }

    /// Takes the keys that the broker and a destination both may have.
    fn take(&mut self, settings: &mut Settings) {
        let types = [QueueType::Quorum, QueueType::Classic].map(|kind| (kind.as_str(), kind));
        if let Some(kind) = settings.take_word("type", &types) {
            self.queue_type = kind;
        }
        match settings.take_whole("delivery_limit").map(|limit| (limit, u32::try_from(limit))) {
            None => {}
            Some((-1, _)) => self.delivery_limit = None,
            Some((1.., Ok(limit))) => self.delivery_limit = Some(limit),
            Some(_) => settings.invalid("delivery_limit", "has to be at least 1, or -1 for no limit"),
        }
        if let Some(lanes) = settings.take_count("lanes", 1..=256) {
            self.lanes = lanes;
        }
        if let Some(lag) = settings.take_count("ephemeral_lag", 1..=u64::from(u32::MAX)) {
            self.ephemeral_lag = lag;
        }
    }

    /// Takes the options of one destination over these.
    fn take_destination(&mut self, settings: &mut DestinationSettings) {
        let DestinationSettings { native, order, driver } = settings;
        self.take(driver);
        let arguments = driver.take_values("arguments").unwrap_or_default();
        for (name, value) in arguments {
            match argument(name, value) {
                Ok((name, value)) => drop(self.arguments.insert(name, value)),
                Err(why) => driver.invalid("arguments", why),
            }
        }
        if let Some(word) = driver.take_text("exchange_type") {
            if EXCHANGE_TYPES.contains(&word.as_str()) || word.starts_with("x-") {
                self.exchange_type = word;
            } else {
                driver
                    .invalid("exchange_type", format_args!("is none of {}, and no x- type", EXCHANGE_TYPES.join(", ")));
            }
        }
        self.routing_key = driver.take_text("routing_key");
        self.binding_arguments = driver.take_values("binding_arguments").unwrap_or_default();
        self.order = *order;
        if native.is_some() && self.order == Order::ByKey {
            driver.note("key order spreads a destination over queues of its own: leave out native, or order_by");
        }
    }
}

const EXCHANGE_TYPES: [&str; 4] = ["topic", "fanout", "direct", "headers"];

/// Arguments of a queue that the broker wants as whole numbers (RabbitMQ 4.0, `rabbit_amqqueue` and the queue types).
const NUMERIC_ARGUMENTS: [&str; 12] = [
    "x-consumer-timeout",
    "x-delivery-limit",
    "x-expires",
    "x-initial-cluster-size",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-quorum-initial-group-size",
    "x-stream-max-segment-size-bytes",
];

/// Arguments of a queue that the broker wants as `true` or `false`.
const FLAG_ARGUMENTS: [&str; 1] = ["x-single-active-consumer"];

/// An argument as the broker wants it: variables hold nothing but text, and their names have `_` in place of `-`.
fn argument(name: String, value: Value) -> Result<(String, Value), String> {
    let dashed = name.replace('_', "-");
    if NUMERIC_ARGUMENTS.contains(&dashed.as_str()) {
        let number = whole_of(&value).and_then(|number| i64::try_from(number).ok());
        let number = number.ok_or_else(|| format!("has {dashed:?}, which has to be a whole number"))?;
        return Ok((dashed, number.into()));
    }
    if FLAG_ARGUMENTS.contains(&dashed.as_str()) {
        let flag = flag_of(&value).ok_or_else(|| format!("has {dashed:?}, which has to be true or false"))?;
        return Ok((dashed, flag.into()));
    }
    // No argument of RabbitMQ has an underscore; a plugin's may.
    Ok((if name.starts_with("x_") { dashed } else { name }, value))
}

/// Options of one connection and of its destinations.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Login and certificates.
    pub(crate) access: Access,
    pub(crate) virtual_host: String,
    pub(crate) encrypted: bool,
    /// How often each side proves to be alive; a silent peer is given up after twice that.
    pub(crate) heartbeat: Duration,
    /// How long connecting may take, for each host.
    pub(crate) connect_timeout: Duration,
    /// How long the broker may take to answer anything but a publish.
    pub(crate) request_timeout: Duration,
    /// A quorum queue younger than this goes with its node if that is killed; whoever made one waits so long.
    pub(crate) new_queue_wait: Duration,
    destinations: Destinations<DestinationOptions>,
}

impl Config {
    /// Reads the address, its parameters and the broker's options; a parameter of the address goes before an option.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with every fault; [`ErrorKind::NotFound`] if files are all that is missing.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self> {
        let ConnectOptions { name: _, url, namespace: _, topology: _, destinations, settings } = options;
        if url.hosts().is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{url} names no host: write for example amqp://localhost"),
            ));
        }
        let mut config = Self {
            // RabbitMQ's own user, which a broker lets in from its own host.
            access: Access::new(url.clone(), Some("guest")),
            virtual_host: if url.path().is_empty() { "/".to_owned() } else { url.path().to_owned() },
            encrypted: url.scheme() == "amqps",
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(15),
            new_queue_wait: Duration::from_secs(2),
            destinations: Destinations::default(),
        };
        let (mut defaults, mut faults) = (DestinationOptions::default(), Faults::default());
        for mut settings in [settings.clone(), url.parameters()] {
            config.take(&mut settings);
            defaults.take(&mut settings);
            settings.finish_into(&mut faults);
        }
        let take = DestinationOptions::take_destination;
        config.destinations = Destinations::read(defaults, destinations, &mut faults, take);
        faults.into_result().map(|()| config)
    }

    fn take(&mut self, settings: &mut Settings) {
        self.access.take(settings);
        let durations = [
            ("heartbeat", &mut self.heartbeat, Duration::from_secs(1)),
            ("connect_timeout", &mut self.connect_timeout, Duration::from_millis(100)),
            ("request_timeout", &mut self.request_timeout, Duration::from_millis(100)),
            ("new_queue_wait", &mut self.new_queue_wait, Duration::ZERO),
        ];
        for (key, place, least) in durations {
            if let Some(given) = settings.take_at_least(key, least) {
                *place = given;
            }
        }
        if let Some(host) = settings.take_text("virtual_host") {
            self.virtual_host = host;
        }
    }

    /// The options of destinations that the configuration does not name.
    pub(crate) fn defaults(&self) -> &DestinationOptions {
        self.destinations.defaults()
    }

    /// The options of one destination.
    pub(crate) fn destination(&self, destination: &Destination) -> &DestinationOptions {
        self.destinations.of(destination)
    }
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use messaging_core::{BrokerUrl, QueueName};
    use serde_json::json;

    use super::*;

    fn options(url: &str) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse(url).unwrap())
    }

    #[test]
    fn the_address_and_its_parameters() {
        let config = Config::new(&options("amqp://me:p%40ss@a:1,b/v%2Fh?heartbeat=3s&type=classic&lanes=4")).unwrap();
        assert_eq!(config.virtual_host, "v/h");
        assert_eq!(config.heartbeat, Duration::from_secs(3));
        let any = config.destination(&Destination::Queue(QueueName::parse("q").unwrap()));
        assert_eq!((any.queue_type, any.lanes), (QueueType::Classic, 4));
        assert_eq!(Config::new(&options("amqp://a")).unwrap().virtual_host, "/");
        assert!(Config::new(&options("amqps://a/%2f")).unwrap().encrypted);
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named() {
        for (url, named) in [
            ("amqp://a?hartbeat=3s", "did you mean \"heartbeat\"?"),
            ("amqp://a?type=quroum", "is none of quorum, classic; did you mean \"quorum\"?"),
            ("amqp://a?delivery_limit=0", "delivery_limit"),
            ("amqp://a?lanes=0", "lanes"),
            ("amqp://a?heartbeat=1ms", "at least 1s"),
            ("amqp://a?ca_file=/no/such/file", "/no/such/file"),
            ("amqp://a?ca_file=Cargo.toml", "holds no certificate in PEM"),
            ("amqp://a?topology=verify", "write it as [brokers.NAME] topology = …"),
            ("amqp://a?lanes=0&heartbeat=soon", "2 faults"),
            ("amqp://a?certificate_file=/x", "key_file"),
            ("amqp://", "names no host"),
        ] {
            let error = Config::new(&options(url)).unwrap_err();
            assert!(error.text().contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn a_login_from_the_options_is_hidden() {
        let settings = Settings::new("[brokers.main.options]", [("user", "me"), ("password", "s3cret")]);
        let config = Config::new(&options("amqp://a").with_settings(settings)).unwrap();
        assert_eq!((config.access.user(), config.access.password()), (Some("me"), "s3cret"));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    /// The arguments of queue `q` as the broker gets them.
    fn arguments(given: Value) -> Result<BTreeMap<String, Value>> {
        let to = Destination::Queue(QueueName::parse("q").unwrap());
        let driver = Settings::new("[bindings.q.options]", [("arguments", given)]);
        let settings = DestinationSettings { driver, ..DestinationSettings::default() };
        let config = Config::new(&options("amqp://a").with_destination(to.clone(), settings))?;
        Ok(config.destination(&to).arguments.clone())
    }

    #[test]
    fn text_from_a_variable_is_a_number_where_the_broker_wants_one() {
        let given = json!({ "x-max-length": "5", "x_message_ttl": " 60000", "x_single_active_consumer": "TRUE" });
        let taken = arguments(given).unwrap();
        let wanted = json!({ "x-max-length": 5, "x-message-ttl": 60_000, "x-single-active-consumer": true });
        assert_eq!(serde_json::to_value(taken).unwrap(), wanted);
        // Other arguments stay as they stand: the broker or a plugin may want text.
        let given = json!({ "x-queue-leader-locator": "balanced", "x-mine": "5", "x-overflow": "drop-head" });
        assert_eq!(serde_json::to_value(arguments(given.clone()).unwrap()).unwrap(), given);
        let taken = arguments(json!({ "x_overflow": "drop-head" })).unwrap();
        assert_eq!(serde_json::to_value(taken).unwrap(), json!({ "x-overflow": "drop-head" }));
        let taken = arguments(json!({ "x_max_length": "5" })).unwrap();
        assert_eq!(serde_json::to_value(taken).unwrap(), json!({ "x-max-length": 5 }));
        let error = arguments(json!({ "x-max-length": "five", "x-expires": [1] })).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for name in ["x-max-length", "x-expires"] {
            assert!(error.text().contains(&format!("has {name:?}, which has to be a whole number")), "{error}");
        }
        assert!(!error.text().contains("five"), "{error}");
    }
}
