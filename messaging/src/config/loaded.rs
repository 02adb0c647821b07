//! The configuration once it is read: nothing in it is left to check.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use messaging_core::{BrokerName, BrokerUrl, ConnectOptions, Namespace, PublishOptions, Result};

use super::binding::{Binding, Bindings, UsedAs};
use super::builder::ConfigBuilder;
use super::listener::ListenerConfig;

/// How long the started deliveries have to finish at shutdown, where the configuration says nothing.
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Configuration of an application: brokers, bindings, and overrides of listeners and publishers.
///
/// Cheap to clone. Printing it for debugging shows no credentials.
#[derive(Clone)]
pub struct Config(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) namespace: Option<Namespace>,
    /// With the destinations filled in.
    pub(super) brokers: Vec<ConnectOptions>,
    pub(super) bindings: Bindings,
    pub(super) listeners: BTreeMap<String, ListenerConfig>,
    pub(super) publishers: BTreeMap<String, PublishOptions>,
    pub(super) shutdown_timeout: Duration,
}

impl Config {
    /// Loads a file whose format is told by its ending (`.toml`, `.yaml`, `.yml`, `.json`), then the environment
    /// variables `MESSAGING__…`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](messaging_core::ErrorKind::NotFound) if there is no such file;
    /// [`ErrorKind::Config`](messaging_core::ErrorKind::Config) with every fault of what it says.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().file(path).env().build()
    }

    /// Reads a text in TOML. The variables `MESSAGING__…` do not change it; `${NAME}` in it is expanded.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](messaging_core::ErrorKind::Config) with every fault.
    pub fn from_toml(text: &str) -> Result<Self> {
        Self::builder().toml(text).build()
    }

    /// One broker called `main` in this process's memory, for tests and first steps. Each connection to it is a broker of its own.
    #[must_use]
    pub fn memory() -> Self {
        #[expect(clippy::expect_used, reason = "the address is a constant, and a test parses it")]
        let url = BrokerUrl::parse("memory://").expect("a constant that parses");
        let main = BrokerName::main();
        Self(Arc::new(Parts {
            namespace: None,
            brokers: vec![ConnectOptions::new(url).with_name(main.clone())],
            bindings: Bindings {
                place: "in the code".to_owned(),
                named: None,
                brokers: vec![main.clone()],
                default: Some(main),
            },
            listeners: BTreeMap::new(),
            publishers: BTreeMap::new(),
            shutdown_timeout: SHUTDOWN_TIMEOUT,
        }))
    }

    /// Starts a configuration of several layers.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Prefix that keeps the destinations of tenants, environments or tests apart.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.0.namespace.as_ref()
    }

    /// The brokers, ready for [`Registry::connect`](messaging_core::Registry::connect), in the order of their names; at
    /// least one. What the bindings say of destinations is filled in.
    ///
    /// # Errors
    /// None today: everything was checked when the configuration was read.
    pub fn brokers(&self) -> Result<Vec<ConnectOptions>> {
        Ok(self.0.brokers.clone())
    }

    /// The destination that a binding's name stands for. Where the configuration has no `[bindings]`, that is the destination of the same name on
    /// the broker that is called `main` or is the only one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](messaging_core::ErrorKind::NotFound) with the nearest known name;
    /// [`ErrorKind::Config`](messaging_core::ErrorKind::Config) if it cannot be used so;
    /// [`ErrorKind::InvalidName`](messaging_core::ErrorKind::InvalidName) if it has to be a destination's name and cannot.
    pub fn binding(&self, name: &str, used_as: UsedAs) -> Result<Binding> {
        self.0.bindings.resolve(name, used_as)
    }

    /// The names of all bindings, in order; none where the configuration has no `[bindings]`.
    pub fn binding_names(&self) -> impl Iterator<Item = &str> {
        self.0.bindings.named.iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// The overrides of a listener; none where it is not mentioned.
    #[must_use]
    pub fn listener(&self, id: &str) -> ListenerConfig {
        self.0.listeners.get(id).cloned().unwrap_or_default()
    }

    /// The ids of all listeners that are mentioned, in order.
    pub fn listener_ids(&self) -> impl Iterator<Item = &str> {
        self.0.listeners.keys().map(String::as_str)
    }

    /// How to publish to a binding; the defaults of [`PublishOptions`] where it is not mentioned.
    #[must_use]
    pub fn publisher(&self, binding: &str) -> PublishOptions {
        self.0.publishers.get(binding).cloned().unwrap_or_default()
    }

    /// How long the started deliveries have to finish at shutdown; 30 s by default.
    #[must_use]
    pub fn shutdown_timeout(&self) -> Duration {
        self.0.shutdown_timeout
    }
}

impl fmt::Debug for Config {
    /// Addresses show neither passwords nor parameters, driver options only their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("namespace", &self.0.namespace)
            .field("brokers", &self.0.brokers)
            .field("bindings", &self.0.bindings)
            .field("listeners", &self.0.listeners)
            .field("publishers", &self.0.publishers)
            .field("shutdown_timeout", &self.0.shutdown_timeout)
            .finish()
    }
}
