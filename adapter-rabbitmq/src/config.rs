//! Options of the broker and of single destinations, strict and redacted.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use messaging_core::{
    BrokerUrl, ConnectOptions, Destination, DestinationSettings, Destinations, Error, ErrorKind, Order, Result,
    Settings,
};
use secrecy::SecretString;
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
    /// What binds a subscription without a filter: only exchanges of type topic know `#`, a direct one goes by the key itself.
    pub(crate) fn key_of_all(&self) -> &str {
        if self.exchange_type == "topic" { "#" } else { self.routing_key.as_deref().unwrap_or_default() }
    }

    /// Takes the keys that a broker and a destination both may have.
    fn take(&mut self, settings: &mut Settings) -> Result<()> {
        if let Some(word) = settings.take::<String>("type")? {
            self.queue_type = match word.as_str() {
                "quorum" => QueueType::Quorum,
                "classic" => QueueType::Classic,
                _ => return Err(invalid(settings, "type", &format!("{word:?} is neither quorum nor classic"))),
            };
        }
        if let Some(limit) = settings.take::<i64>("delivery_limit")? {
            self.delivery_limit =
                match limit {
                    -1 => None,
                    _ => Some(u32::try_from(limit).ok().filter(|limit| *limit > 0).ok_or_else(|| {
                        invalid(settings, "delivery_limit", "write a number from 1, or -1 for no limit")
                    })?),
                };
        }
        if let Some(lanes) = settings.take_positive("lanes")? {
            self.lanes = u32::try_from(lanes)
                .ok()
                .filter(|lanes| *lanes <= 256)
                .ok_or_else(|| invalid(settings, "lanes", "write a number from 1 to 256"))?;
        }
        if let Some(lag) = settings.take_positive("ephemeral_lag")? {
            self.ephemeral_lag = u32::try_from(lag).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    /// Takes what the configuration says of one destination over these options.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key.
    pub(crate) fn with_destination(mut self, settings: DestinationSettings) -> Result<Self> {
        let DestinationSettings { native, order, mut driver } = settings;
        self.take(&mut driver)?;
        self.arguments.extend(driver.take::<BTreeMap<String, Value>>("arguments")?.unwrap_or_default());
        if let Some(word) = driver.take::<String>("exchange_type")? {
            if !["topic", "fanout", "direct", "headers"].contains(&word.as_str()) && !word.starts_with("x-") {
                return Err(invalid(&driver, "exchange_type", "write topic, fanout, direct, headers or an x- type"));
            }
            self.exchange_type = word;
        }
        self.routing_key = driver.take::<String>("routing_key")?;
        self.binding_arguments = driver.take::<BTreeMap<String, Value>>("binding_arguments")?.unwrap_or_default();
        driver.finish()?;
        self.order = order;
        if native.is_some() && self.order == Order::ByKey {
            return Err(Error::new(
                ErrorKind::Config,
                "key order spreads a destination over queues of its own: leave out native, or order_by",
            ));
        }
        Ok(self)
    }
}

fn invalid(settings: &Settings, key: &str, why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the value of {key:?} in {} is not valid: {why}", settings.place()))
}

/// What it takes to connect, and what holds for all destinations.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) url: BrokerUrl,
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
    /// The certificates that are trusted besides the system's, in PEM.
    pub(crate) authority: Option<String>,
    /// The client's own certificate and key, in PEM.
    pub(crate) identity: Option<(String, SecretString)>,
    destinations: Destinations<DestinationOptions>,
}

impl Config {
    /// Reads the address, its parameters and the broker's options; a parameter of the address goes before an option.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key or parameter; [`ErrorKind::NotFound`] that names the file.
    pub(crate) fn new(options: &ConnectOptions) -> Result<Self> {
        let ConnectOptions { name: _, url, namespace: _, topology: _, destinations, settings } = options;
        if url.hosts().is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{url} names no host: write for example amqp://localhost"),
            ));
        }
        let mut config = Self {
            url: url.clone(),
            virtual_host: if url.path().is_empty() { "/".to_owned() } else { url.path().to_owned() },
            encrypted: url.scheme() == "amqps",
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(15),
            new_queue_wait: Duration::from_secs(2),
            authority: None,
            identity: None,
            destinations: Destinations::default(),
        };
        let mut defaults = DestinationOptions::default();
        for mut settings in [settings.clone(), url.parameters()] {
            defaults.take(&mut settings)?;
            config.take(&mut settings)?;
            settings.finish()?;
        }
        config.destinations = Destinations::read(defaults, destinations.clone(), DestinationOptions::with_destination)?;
        Ok(config)
    }

    fn take(&mut self, settings: &mut Settings) -> Result<()> {
        let durations = [
            ("heartbeat", &mut self.heartbeat, Duration::from_secs(1)),
            ("connect_timeout", &mut self.connect_timeout, Duration::from_millis(100)),
            ("request_timeout", &mut self.request_timeout, Duration::from_millis(100)),
            ("new_queue_wait", &mut self.new_queue_wait, Duration::ZERO),
        ];
        for (key, place, least) in durations {
            if let Some(given) = settings.take_duration(key)? {
                if given < least {
                    return Err(invalid(settings, key, &format!("it must be at least {least:?}")));
                }
                *place = given;
            }
        }
        if let Some(host) = settings.take::<String>("virtual_host")? {
            self.virtual_host = host;
        }
        if let Some(path) = settings.take::<String>("ca_file")? {
            self.authority = Some(read_pem(&path, "CERTIFICATE")?);
        }
        let pair = (settings.take::<String>("certificate_file")?, settings.take::<String>("key_file")?);
        match pair {
            (Some(certificate), Some(key)) => {
                let certificate = read_pem(&certificate, "CERTIFICATE")?;
                self.identity = Some((certificate, SecretString::from(read_pem(&key, "PRIVATE KEY")?)));
            }
            (None, None) => {}
            _ => return Err(invalid(settings, "certificate_file", "it goes together with key_file")),
        }
        self.take_login(settings)
    }

    fn take_login(&mut self, settings: &mut Settings) -> Result<()> {
        let user = settings.take::<String>("user")?;
        let given = settings.take::<String>("password")?.map(SecretString::from);
        let password = match settings.take::<String>("password_file")? {
            Some(_) if given.is_some() => {
                return Err(invalid(settings, "password_file", "password is given too: leave one of them out"));
            }
            Some(path) => Some(SecretString::from(read(&path)?.trim_end_matches(['\r', '\n']).to_owned())),
            None => given,
        };
        if user.is_none() && password.is_none() {
            return Ok(());
        }
        let user = user.or_else(|| self.url.user().map(str::to_owned)).unwrap_or_else(|| "guest".to_owned());
        let password = password.or_else(|| self.url.password().cloned()).unwrap_or_default();
        self.url = self.url.clone().with_login(user, password);
        Ok(())
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

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|error| Error::new(ErrorKind::NotFound, format!("the file {path:?} cannot be read: {error}")))
}

/// Reads a file that has to hold something of this kind; the client would only find that out while connecting.
fn read_pem(path: &str, kind: &str) -> Result<String> {
    let text = read(path)?;
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{kind}-----"));
    if text.lines().any(begins) {
        return Ok(text);
    }
    let what = kind.to_lowercase();
    Err(Error::new(
        ErrorKind::Config,
        format!("the file {path:?} holds no {what} in PEM: give one that begins with -----BEGIN"),
    ))
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use messaging_core::QueueName;
    use secrecy::ExposeSecret;

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
            ("amqp://a?type=quroum", "neither quorum nor classic"),
            ("amqp://a?delivery_limit=0", "delivery_limit"),
            ("amqp://a?lanes=0", "lanes"),
            ("amqp://a?heartbeat=1ms", "at least 1s"),
            ("amqp://a?ca_file=/no/such/file", "/no/such/file"),
            ("amqp://a?ca_file=Cargo.toml", "holds no certificate in PEM"),
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
        assert_eq!(config.url.password().unwrap().expose_secret(), "s3cret");
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
