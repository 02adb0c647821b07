//! Options, strict: of the connection, and of single destinations.

mod clients;

use std::time::Duration;

use messaging_core::{
    Access, BrokerUrl, ConnectOptions, Destination, DestinationSettings, Destinations, Error, ErrorKind, Faults, Order,
    Result, Settings, parse_duration,
};

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

/// Options of one connection and of its destinations.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    servers: String,
    encrypted: bool,
    /// Login and certificates.
    access: Access,
    mechanism: Mechanism,
    client_id: String,
    linger: Duration,
    compression: String,
    batch_bytes: usize,
    pub(crate) group_protocol: GroupProtocol,
    session_timeout: Duration,
    pub(crate) commit_interval: Duration,
    pub(crate) revoke_wait: Duration,
    pub(crate) destinations: Destinations<DestinationOptions>,
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

const MECHANISMS: [(&str, Mechanism); 6] = [
    ("plain", Mechanism::Plain),
    ("scram-sha-256", Mechanism::ScramSha256),
    ("scram-sha-512", Mechanism::ScramSha512),
    // As Kafka itself writes them.
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::ScramSha256),
    ("SCRAM-SHA-512", Mechanism::ScramSha512),
];

const GROUP_PROTOCOLS: [(&str, GroupProtocol); 3] =
    [("auto", GroupProtocol::Auto), ("consumer", GroupProtocol::Consumer), ("classic", GroupProtocol::Classic)];

const COMPRESSION_CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

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
    /// Takes the keys that the broker and a destination both may have.
    fn take(&mut self, settings: &mut Settings) {
        let most = i32::MAX.unsigned_abs().into();
        self.partitions = settings.take_count("partitions", 1..=most).or(self.partitions);
        self.replication = settings.take_count("replication", 1..=most).or(self.replication);
        let retention = settings.take_parsed("retention", "length of time such as \"7days\", or \"forever\"", |text| {
            if text == "forever" { Ok(Retention::Forever) } else { parse_duration(text).map(Retention::For) }
        });
        self.retention = retention.or(self.retention);
        self.compaction = settings.take_flag("compaction").or(self.compaction);
        self.message_bytes = settings.take_count("message_bytes", 1..=u64::MAX).or(self.message_bytes);
    }

    /// Takes the options of one destination over these.
    fn take_destination(&mut self, settings: &mut DestinationSettings) {
        self.take(&mut settings.driver);
        self.order = settings.order;
    }

    /// The largest message, payload and headers.
    pub(crate) fn largest(&self) -> usize {
        self.message_bytes.unwrap_or(MESSAGE_BYTES)
    }
}

impl ConnectionOptions {
    /// Reads the address, its parameters, the broker's options and those of destinations; a parameter of the address goes
    /// before an option.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with every fault; [`ErrorKind::NotFound`] if files are all that is missing.
    pub(crate) fn read(options: &ConnectOptions) -> Result<Self> {
        let ConnectOptions { name: _, url, namespace: _, topology: _, destinations, settings } = options;
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
        let mut config = Self {
            servers: servers.join(","),
            encrypted: url.scheme() == "kafkas",
            access: Access::new(url.clone(), None),
            mechanism: Mechanism::Plain,
            client_id: "messaging".to_owned(),
            linger: Duration::ZERO,
            compression: "lz4".to_owned(),
            batch_bytes: 1_000_000,
            group_protocol: GroupProtocol::Auto,
            session_timeout: Duration::from_secs(10),
            commit_interval: Duration::from_millis(500),
            revoke_wait: Duration::from_secs(3),
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
        if let Some(mechanism) = settings.take_word("sasl_mechanism", &MECHANISMS) {
            self.mechanism = mechanism;
        }
        if let Some(protocol) = settings.take_word("group_protocol", &GROUP_PROTOCOLS) {
            self.group_protocol = protocol;
        }
        if let Some(codec) = settings.take_word("compression", &COMPRESSION_CODECS.map(|codec| (codec, codec))) {
            codec.clone_into(&mut self.compression);
        }
        if let Some(id) = settings.take_text("client_id") {
            self.client_id = id;
        }
        let durations = [
            ("linger", &mut self.linger),
            ("session_timeout", &mut self.session_timeout),
            ("commit_interval", &mut self.commit_interval),
            ("revoke_wait", &mut self.revoke_wait),
        ];
        for (key, place) in durations {
            if let Some(duration) = settings.take_duration(key) {
                *place = duration;
            }
        }
        if let Some(bytes) = settings.take_count("batch_bytes", 1..=u64::MAX) {
            self.batch_bytes = bytes;
        }
    }

    /// The options of one destination.
    pub(crate) fn destination(&self, destination: &Destination) -> &DestinationOptions {
        self.destinations.of(destination)
    }

    /// The size of the largest message of any destination, payload and headers.
    pub(crate) fn largest(&self) -> usize {
        self.destinations.iter().map(DestinationOptions::largest).max().unwrap_or(MESSAGE_BYTES)
    }

    /// The address with the login that holds.
    pub(crate) fn url(&self) -> &BrokerUrl {
        self.access.url()
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
        let Some(user) = self.access.user() else { return "put user and password into the address".to_owned() };
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

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn read(url: &str, settings: Settings) -> Result<ConnectionOptions> {
        ConnectionOptions::read(&ConnectOptions::new(BrokerUrl::parse(url).unwrap()).with_settings(settings))
    }

    fn files() -> (PathBuf, [(&'static str, String); 3]) {
        let folder = std::env::temp_dir().join(format!("messaging-kafka-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = |key, name: &str, kind: &str| {
            let path = folder.join(name);
            fs::write(&path, format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n")).unwrap();
            (key, path.display().to_string())
        };
        let files = [
            file("ca_file", "ca.pem", "CERTIFICATE"),
            file("certificate_file", "client.pem", "CERTIFICATE"),
            file("key_file", "client.key", "PRIVATE KEY"),
        ];
        (folder, files)
    }

    #[test]
    fn every_key_is_taken_and_others_are_refused() {
        let all = [
            ("sasl_mechanism", "SCRAM-SHA-512"),
            ("group_protocol", "classic"),
            ("compression", "zstd"),
            ("user", "me"),
            ("password", "s3cret"),
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
        let (folder, files) = files();
        let all = all.into_iter().chain(files.iter().map(|(key, path)| (*key, path.as_str())));
        let options = read("kafkas://a:1,b", Settings::new("here", all)).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let client = options.client();
        assert_eq!(client.get("bootstrap.servers"), Some("a:1,b:9092"));
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!((client.get("sasl.username"), client.get("sasl.password")), (Some("me"), Some("s3cret")));
        for key in ["ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem"] {
            assert!(client.get(key).unwrap().starts_with("-----BEGIN "), "{key}");
        }
        assert_eq!(options.destinations.defaults().partitions, Some(6));
        assert!(!format!("{options:?}").contains("s3cret"));
        let wrong = [("partitons", "1"), ("replication", "none"), ("ca_file", "/no/such.pem"), ("topology", "verify")];
        let error = read("kafka://a", Settings::new("here", wrong)).unwrap_err();
        for fault in [
            "4 faults",
            "did you mean \"partitions\"?",
            "\"replication\" in here has to be a whole number, not text",
            "\"ca_file\" in here names the file \"/no/such.pem\", which cannot be read",
            "write it as [brokers.NAME] topology = …",
        ] {
            assert!(error.text().contains(fault), "{fault}: {error}");
        }
    }

    #[test]
    fn parameters_win_over_settings_and_wrong_words_list_the_right_ones() {
        let options = read("kafka://a?partitions=2", Settings::new("here", [("partitions", "4")])).unwrap();
        assert_eq!(options.destinations.defaults().partitions, Some(2));
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
