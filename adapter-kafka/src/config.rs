//! Options, strict: of the connection, and of single destinations.

mod clients;

use std::time::Duration;

use messaging_core::{BrokerUrl, DestinationSettings, Error, ErrorKind, Order, Result, Settings};
use secrecy::SecretString;

/// How members of a group share its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    /// The new protocol where the broker has it, the classic one where it has not.
    Auto,
    /// The new protocol (KIP-848): the broker assigns, members move partition by partition.
    Consumer,
    /// The classic protocol with the range assignor.
    Classic,
}

/// How a login is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Options of one connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    servers: String,
    encrypted: bool,
    user: Option<String>,
    password: Option<SecretString>,
    mechanism: Mechanism,
    client_id: String,
    ca_file: Option<String>,
    certificate_file: Option<String>,
    key_file: Option<String>,
    linger: Duration,
    compression: String,
    batch_bytes: usize,
    pub(crate) group_protocol: GroupProtocol,
    session_timeout: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) revoke_wait: Duration,
    /// Options of destinations that have none of their own.
    pub(crate) destinations: DestinationOptions,
}

/// Options of one queue or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DestinationOptions {
    /// How many partitions; none leaves what is there, and makes new ones with [`PARTITIONS`].
    pub(crate) partitions: Option<i32>,
    /// How many copies; none is the broker's default.
    pub(crate) replication: Option<i32>,
    /// How long messages are kept; none keeps them for ever on what is made here.
    pub(crate) retention: Option<Retention>,
    pub(crate) compaction: Option<bool>,
    /// The largest message; none is [`MESSAGE_BYTES`] here, and whatever an existing topic takes.
    pub(crate) message_bytes: Option<usize>,
    pub(crate) order: Order,
}

/// How long a topic keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    Forever,
    For(Duration),
}

/// How many partitions a new topic gets where nothing else is said.
pub(crate) const PARTITIONS: i32 = 3;

/// The largest message where nothing else is said.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Room of a record beside payload and headers: properties, names and Kafka's own frame.
pub(crate) const RECORD_OVERHEAD: usize = 64 * 1024;

impl Default for DestinationOptions {
    fn default() -> Self {
        Self {
            partitions: None,
            replication: None,
            retention: None,
            compaction: None,
            message_bytes: None,
            order: Order::None,
        }
    }
}

impl DestinationOptions {
    fn take(mut self, settings: &mut Settings) -> Result<Self> {
        if let Some(partitions) = settings.take_positive("partitions")? {
            self.partitions = Some(i32::try_from(partitions).map_err(|_| too_many("partitions", partitions))?);
        }
        if let Some(copies) = settings.take_positive("replication")? {
            self.replication = Some(i32::try_from(copies).map_err(|_| too_many("replication", copies))?);
        }
        if let Some(text) = settings.take::<String>("retention")? {
            self.retention = Some(match text.as_str() {
                "forever" => Retention::Forever,
                text => Retention::For(messaging_core::parse_duration(text)?),
            });
        }
        if let Some(compaction) = settings.take::<bool>("compaction")? {
            self.compaction = Some(compaction);
        }
        if let Some(bytes) = settings.take_positive("message_bytes")? {
            self.message_bytes = Some(bytes);
        }
        Ok(self)
    }

    /// The largest message, payload and headers.
    pub(crate) fn largest(&self) -> usize {
        self.message_bytes.unwrap_or(MESSAGE_BYTES)
    }

    /// Takes what the configuration says of one destination over these options.
    pub(crate) fn with_destination(self, settings: DestinationSettings) -> Result<Self> {
        let DestinationSettings { native: _, order, mut driver } = settings;
        let mut options = self.take(&mut driver)?;
        driver.finish()?;
        options.order = order;
        Ok(options)
    }
}

impl ConnectionOptions {
    /// Reads the address, its parameters and the settings; a parameter of the address goes before a setting.
    pub(crate) fn read(url: &BrokerUrl, settings: Settings) -> Result<Self> {
        if url.hosts().is_empty() || !url.path().is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{url} is not an address of kafka: write \"kafka://host:9092,other:9092\" without a path"),
            ));
        }
        let servers: Vec<String> = url
            .hosts()
            .iter()
            .map(|host| if host.port.is_some() { host.to_string() } else { format!("{host}:9092") })
            .collect();
        let mut options = Self {
            servers: servers.join(","),
            encrypted: url.scheme() == "kafkas",
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            mechanism: Mechanism::Plain,
            client_id: "messaging".to_owned(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            linger: Duration::ZERO,
            compression: "lz4".to_owned(),
            batch_bytes: 1_000_000,
            group_protocol: GroupProtocol::Auto,
            session_timeout: Duration::from_secs(10),
            commit_interval: Duration::from_millis(500),
            revoke_wait: Duration::from_secs(3),
            destinations: DestinationOptions::default(),
        };
        for settings in [settings, url.parameters()] {
            options = options.take(settings)?;
        }
        Ok(options)
    }

    fn take(mut self, mut settings: Settings) -> Result<Self> {
        let from = &mut settings;
        if let Some(word) = from.take::<String>("sasl_mechanism")? {
            let known = [
                ("plain", Mechanism::Plain),
                ("scram-sha-256", Mechanism::ScramSha256),
                ("scram-sha-512", Mechanism::ScramSha512),
            ];
            self.mechanism = one_of(from, "sasl_mechanism", &word.to_ascii_lowercase(), &known)?;
        }
        if let Some(word) = from.take::<String>("group_protocol")? {
            let known = [
                ("auto", GroupProtocol::Auto),
                ("consumer", GroupProtocol::Consumer),
                ("classic", GroupProtocol::Classic),
            ];
            self.group_protocol = one_of(from, "group_protocol", &word, &known)?;
        }
        if let Some(word) = from.take::<String>("compression")? {
            let known = [("none", ()), ("gzip", ()), ("snappy", ()), ("lz4", ()), ("zstd", ())];
            one_of(from, "compression", &word, &known)?;
            self.compression = word;
        }
        let texts = [
            ("ca_file", &mut self.ca_file),
            ("certificate_file", &mut self.certificate_file),
            ("key_file", &mut self.key_file),
        ];
        for (key, place) in texts {
            if let Some(text) = from.take(key)? {
                *place = Some(text);
            }
        }
        if let Some(id) = from.take("client_id")? {
            self.client_id = id;
        }
        let durations = [
            ("linger", &mut self.linger),
            ("session_timeout", &mut self.session_timeout),
            ("commit_interval", &mut self.commit_interval),
            ("revoke_wait", &mut self.revoke_wait),
        ];
        for (key, place) in durations {
            if let Some(duration) = from.take_duration(key)? {
                *place = duration;
            }
        }
        if let Some(bytes) = from.take_positive("batch_bytes")? {
            self.batch_bytes = bytes;
        }
        self.destinations = self.destinations.take(from)?;
        settings.finish()?;
        Ok(self)
    }

    /// The brokers to begin with, as the client wants them.
    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Advice for a user whose login was refused.
    pub(crate) fn login_to_check(&self) -> String {
        let Some(user) = &self.user else { return "put user and password into the address".to_owned() };
        format!("check user {user:?}, its password, and sasl_mechanism, which is {}", self.mechanism.name())
    }

    /// The longest time until a dead member's messages go to another: the broker decides for the new protocol, 45 s by default.
    pub(crate) fn redelivery_within(&self) -> Duration {
        match self.group_protocol {
            GroupProtocol::Auto | GroupProtocol::Consumer => Duration::from_secs(60),
            GroupProtocol::Classic => self.session_timeout + Duration::from_secs(10),
        }
    }
}

fn one_of<T: Copy>(settings: &Settings, key: &str, given: &str, known: &[(&str, T)]) -> Result<T> {
    known.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        Error::new(
            ErrorKind::Config,
            format!("the value {given:?} of {key:?} in {} is not one of {}", settings.place(), words.join(", ")),
        )
    })
}

fn too_many(key: &str, given: usize) -> Error {
    Error::new(ErrorKind::Config, format!("{key} {given} is more than kafka can count"))
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, settings: Settings) -> Result<ConnectionOptions> {
        ConnectionOptions::read(&BrokerUrl::parse(url).unwrap(), settings)
    }

    #[test]
    fn every_key_is_taken_and_others_are_refused() {
        let all = [
            ("sasl_mechanism", "SCRAM-SHA-512"),
            ("group_protocol", "classic"),
            ("compression", "zstd"),
            ("ca_file", "ca.pem"),
            ("certificate_file", "c.pem"),
            ("key_file", "k.pem"),
            ("client_id", "shop"),
            ("linger", "5ms"),
            ("session_timeout", "6s"),
            ("commit_interval", "1s"),
            ("revoke_wait", "1s"),
            ("batch_bytes", "1000"),
            ("partitions", "6"),
            ("replication", "2"),
            ("retention", "7days"),
            ("compaction", "true"),
            ("message_bytes", "5"),
        ];
        let options = read("kafkas://me:s3cret@a:1,b", Settings::new("here", all)).unwrap();
        let client = options.client();
        assert_eq!(client.get("bootstrap.servers"), Some("a:1,b:9092"));
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(options.destinations.partitions, Some(6));
        assert!(!format!("{options:?}").contains("s3cret"));
        let error = read("kafka://a", Settings::new("here", [("partitons", "1")])).unwrap_err();
        assert!(error.text().contains("did you mean \"partitions\"?"), "{error}");
    }

    #[test]
    fn parameters_win_over_settings_and_wrong_words_list_the_right_ones() {
        let options = read("kafka://a?partitions=2", Settings::new("here", [("partitions", "4")])).unwrap();
        assert_eq!(options.destinations.partitions, Some(2));
        assert!(read("kafka://a?compression=best", Settings::default()).unwrap_err().text().contains("zstd"));
        assert_eq!(read("kafka://a/path", Settings::default()).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn a_client_takes_every_property() {
        let options = read("kafka://127.0.0.1:1", Settings::default()).unwrap();
        options.producer(Duration::from_secs(30), 1024 * 1024).create_native_config().unwrap();
        for protocol in [GroupProtocol::Auto, GroupProtocol::Classic] {
            options.consumer("g", protocol).create_native_config().unwrap();
        }
    }
}
