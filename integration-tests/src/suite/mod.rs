//! The harness with which an adapter's conformance test runs on a real server.
//!
//! An adapter's `tests/conformance.rs` says what only the adapter knows, its driver, its settings and its wire format, and
//! nothing about servers:
//!
//! ```ignore
//! fn main() -> ExitCode {
//!     RealBroker::new(Kind::RabbitMq, adapter_rabbitmq::DRIVER)
//!         .option("quorum")
//!         .setting("type", "quorum")
//!         .pinned(include_str!("conformance/quorum.txt"))
//!         .unpack(unpack)
//!         .main(IGNORED)
//! }
//! ```
//!
//! # Who uses which server
//!
//! One server is shared by all cases; each has a namespace of its own there, which is all that `sweep` touches. A case that needs
//! faults on its line goes through a proxy of its own ([`Broker::route`](crate::Broker::route)). Cases that kill or restart the
//! server take turns on a second one, and those that lose a leader on a cluster of three: both are started when the first
//! such case comes.
//!
//! # Children
//!
//! A child process that the suite starts is led to its parent's server by two variables in its environment, and carries the
//! mark by which the run's end kills what is left.

mod foreign;
#[cfg(feature = "kafka")]
mod kafka;
mod means;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod servers;
mod stage;
mod wrong;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use messaging_conformance::{About, Flavour, Harness, Power, RawMessage, Reality, Running, Stage, Suite};
use messaging_core::{ConnectOptions, Driver, ErrorKind, Registry, Settings};
use serde_json::Value;

pub use foreign::Foreign;

use crate::{Kind, Way};
use servers::Servers;
use stage::RealStage;

/// Cases that run side by side: they mostly wait for the server.
const AT_ONCE: usize = 8;
/// A case's time, without waiting for a server of its own.
const CASE_LIMIT: Duration = Duration::from_secs(300);

/// The harness of an adapter over a server of this crate.
#[derive(Debug)]
pub struct RealBroker {
    setup: Arc<Setup>,
    servers: Servers,
    powers: OnceLock<Vec<Power>>,
}

/// Settings given by the adapter's test.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) driver: Driver,
    option: &'static str,
    pinned: &'static str,
    settings: Vec<(&'static str, Value)>,
    cluster_settings: Vec<(&'static str, Value)>,
    authority: Option<&'static str>,
    pub(crate) unpack: fn(Foreign) -> RawMessage,
    pub(crate) unreadable: Option<Foreign>,
    runs: Vec<Running>,
    without: Vec<Power>,
}

impl RealBroker {
    /// A harness for this driver on a server of this kind.
    #[must_use]
    pub fn new(kind: Kind, driver: Driver) -> Self {
        let setup = Setup {
            kind,
            driver,
            option: "",
            pinned: "",
            settings: Vec::new(),
            cluster_settings: Vec::new(),
            authority: None,
            unpack: Foreign::plain,
            unreadable: None,
            runs: vec![Running { flavour: Flavour::MultiThread, seed: None, limit: CASE_LIMIT }],
            without: Vec::new(),
        };
        Self { setup: Arc::new(setup), servers: Servers::new(kind), powers: OnceLock::new() }
    }

    /// The option that changes the adapter's capabilities, such as `quorum`; empty by default.
    #[must_use]
    pub fn option(self, option: &'static str) -> Self {
        self.with(|setup| setup.option = option)
    }

    /// The text that `--capabilities` printed, committed beside the test.
    #[must_use]
    pub fn pinned(self, pinned: &'static str) -> Self {
        self.with(|setup| setup.pinned = pinned)
    }

    /// A setting of the driver under which every case runs.
    #[must_use]
    pub fn setting(self, key: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.with(|setup| setup.settings.push((key, value)))
    }

    /// A setting of the driver for the cases that run on a cluster, besides the others, such as a number of copies.
    #[must_use]
    pub fn cluster_setting(self, key: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.with(|setup| setup.cluster_settings.push((key, value)))
    }

    /// The driver's setting that names a file with the authority to trust: with it, certificates that ran out or are another's
    /// are tried too.
    #[must_use]
    pub fn authority(self, key: &'static str) -> Self {
        self.with(|setup| setup.authority = Some(key))
    }

    /// Does without a power where it would prove nothing, such as the loss of a leader for a queue that has no copies; its cases
    /// are ignored then.
    #[must_use]
    pub fn without(self, power: Power) -> Self {
        self.with(|setup| setup.without.push(power))
    }

    /// How to read what the adapter's wire format made of a message; by default headers are headers and the id is the native
    /// one.
    #[must_use]
    pub fn unpack(self, unpack: fn(Foreign) -> RawMessage) -> Self {
        self.with(|setup| setup.unpack = unpack)
    }

    /// A message that the adapter cannot read at all; none by default, where it reads everything.
    #[must_use]
    pub fn unreadable(self, message: Foreign) -> Self {
        self.with(|setup| setup.unreadable = Some(message))
    }

    /// The ways in which the cases run; once on a multi-thread runtime by default.
    #[must_use]
    pub fn runs(self, runs: impl IntoIterator<Item = Running>) -> Self {
        let runs = runs.into_iter().collect();
        self.with(|setup| setup.runs = runs)
    }

    /// Runs the suite, as the command line says; `ignored` pins which cases cannot run, each with why.
    ///
    /// The list is for a native server, which has every power: on another it is not compared. A child of the suite plays its
    /// role here instead. At the end it says which server each case had.
    #[must_use]
    pub fn main(self, ignored: &'static [(&'static str, &'static str)]) -> ExitCode {
        let native = self.servers.way() == Ok(Way::Native);
        let runs = self.setup.runs.clone();
        let mut suite = Suite::new(self).with_runs(runs).with_cases_at_once(AT_ONCE);
        if native {
            suite = suite.with_ignored(ignored);
        }
        let code = suite.main();
        tell(&crate::report());
        code
    }

    fn with(mut self, change: impl FnOnce(&mut Setup)) -> Self {
        change(Arc::make_mut(&mut self.setup));
        self
    }
}

impl Setup {
    /// The driver's settings; `cluster` adds those for one.
    pub(crate) fn settings(&self, cluster: bool) -> Settings {
        let more = self.cluster_settings.iter().filter(|_| cluster);
        Settings::new("the conformance test", self.settings.iter().chain(more).cloned())
    }

    /// The same with a file that holds the authority to trust; none if the test names no such setting.
    pub(crate) fn trusting(&self, authority: &std::path::Path) -> Option<Settings> {
        let key = self.authority?;
        let file = (key, Value::from(authority.display().to_string()));
        Some(Settings::new("the conformance test", self.settings.iter().cloned().chain([file])))
    }

    /// Connects as an application does.
    pub(crate) async fn connect(
        &self,
        options: ConnectOptions,
    ) -> messaging_core::Result<Arc<dyn messaging_core::Broker>> {
        Registry::new().with(self.driver)?.connect(options).await
    }
}

#[async_trait]
impl Harness for RealBroker {
    fn about(&self) -> About {
        let reality = match self.setup.kind {
            Kind::Sqs => Reality::Emulator("LocalStack"),
            Kind::ElasticMq => Reality::Emulator("ElasticMQ"),
            _ => Reality::Real,
        };
        About { driver: self.setup.driver.name, option: self.setup.option, version: self.servers.version(), reality }
    }

    fn powers(&self) -> &[Power] {
        self.powers.get_or_init(|| {
            let powers = self.servers.powers().into_iter();
            powers.filter(|power| !self.setup.without.contains(power)).collect()
        })
    }

    fn pinned(&self) -> &str {
        self.setup.pinned
    }

    fn absent(&self) -> Option<String> {
        self.servers.way().err()
    }

    async fn begin(&self, needs: &[Power]) -> messaging_core::Result<Arc<dyn Stage>> {
        let stage = match stage::Lead::given() {
            Some(lead) => RealStage::of_a_child(&self.setup, lead)?,
            None => RealStage::begin(&self.setup, &self.servers, needs).await.map_err(trouble)?,
        };
        Ok(Arc::new(stage))
    }
}

/// A failure of this crate as the suite understands it.
pub(crate) fn trouble(error: crate::Error) -> messaging_core::Error {
    messaging_core::Error::new(ErrorKind::Internal, format!("the harness: {error}"))
}

#[allow(clippy::print_stderr, reason = "what a test program has to say")]
fn tell(text: &str) {
    eprint!("{text}");
}
