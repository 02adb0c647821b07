//! Drivers, and the registry that chooses one by the scheme of a URL.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::broker::Broker;
use crate::checked::Checked;
use crate::consume::Order;
use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;
use crate::name::{BrokerName, Destination, Namespace};
use crate::names::Names;
use crate::settings::Settings;
use crate::suggest::hint;
use crate::topology::TopologyMode;
use crate::url::BrokerUrl;

/// The future that a driver's connect function returns. Boxed: a connection is made once.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Arc<dyn Broker>>> + Send>>;

/// An adapter's entry: its name, the URL schemes it serves and how it connects.
#[derive(Clone, Copy)]
pub struct Driver {
    /// The name, such as `memory`; the facade's feature has the same.
    pub name: &'static str,
    /// The URL schemes it serves.
    pub schemes: &'static [&'static str],
    /// Opens a broker. Resolves when the broker has answered.
    pub connect: fn(ConnectOptions) -> Connecting,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("name", &self.name).field("schemes", &self.schemes).finish_non_exhaustive()
    }
}

/// Configuration of one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationSettings {
    /// The name of something that exists already, used instead of the derived one.
    pub native: Option<String>,
    /// Layout for key order, or without. Some brokers need to know before the first publish.
    pub order: Order,
    /// Options that only the driver knows; it takes each key or refuses it.
    pub driver: Settings,
}

/// Everything a driver needs to open a broker.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// The name under which the configuration knows the broker.
    pub name: BrokerName,
    /// The address.
    pub url: BrokerUrl,
    /// Prefix that keeps tenants, environments or tests apart.
    pub namespace: Option<Namespace>,
    /// Treatment of destinations that are missing or differ.
    pub topology: TopologyMode,
    /// Configuration of single destinations.
    pub destinations: BTreeMap<Destination, DestinationSettings>,
    /// Options that only the driver knows; it takes each key or refuses it.
    pub settings: Settings,
}

impl ConnectOptions {
    /// Options with nothing but an address; the broker is called `main`.
    #[must_use]
    pub fn new(url: BrokerUrl) -> Self {
        Self {
            name: BrokerName::main(),
            url,
            namespace: None,
            topology: TopologyMode::default(),
            destinations: BTreeMap::new(),
            settings: Settings::default(),
        }
    }

    /// The identity of the broker that is opened with these options by a driver.
    #[must_use]
    pub fn identity(&self, driver: &'static str) -> Identity {
        Identity::new(self.name.clone(), driver, self.topology)
    }

    /// Sets the name.
    #[must_use]
    pub fn with_name(mut self, name: BrokerName) -> Self {
        self.name = name;
        self
    }

    /// Sets the namespace.
    #[must_use]
    pub fn with_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Sets the treatment of destinations that are missing or differ.
    #[must_use]
    pub fn with_topology(mut self, topology: TopologyMode) -> Self {
        self.topology = topology;
        self
    }

    /// Sets the configuration of one destination.
    #[must_use]
    pub fn with_destination(mut self, destination: Destination, settings: DestinationSettings) -> Self {
        self.destinations.insert(destination, settings);
        self
    }

    /// The rule for names at the broker: the namespace, and the native names of single destinations.
    #[must_use]
    pub fn names(&self) -> Names {
        let natives = self.destinations.iter().filter_map(|(to, settings)| Some((to, settings.native.as_ref()?)));
        natives.fold(Names::new(self.namespace.clone()), |names, (to, native)| names.with_native(to.clone(), native))
    }

    /// Sets the options that only the driver knows.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }
}

/// The drivers an application can connect with. An explicit value: nothing registers itself behind the scenes.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    drivers: Vec<Driver>,
    absent: Vec<(&'static str, &'static str)>,
}

impl Registry {
    /// No drivers.
    #[must_use]
    pub const fn new() -> Self {
        Self { drivers: Vec::new(), absent: Vec::new() }
    }

    /// Adds a driver.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if its name or one of its schemes is taken.
    pub fn with(mut self, driver: Driver) -> Result<Self> {
        for known in &self.drivers {
            if known.name == driver.name {
                return Err(Error::new(ErrorKind::Config, format!("driver {:?} is registered already", driver.name)));
            }
            if let Some(scheme) = driver.schemes.iter().find(|scheme| known.schemes.contains(scheme)) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("drivers {:?} and {:?} both claim the scheme {scheme:?}", known.name, driver.name),
                ));
            }
        }
        self.drivers.push(driver);
        Ok(self)
    }

    /// Names a scheme that a driver outside this build would serve, and how to get it: shown when it is asked for.
    #[must_use]
    pub fn with_absent(mut self, scheme: &'static str, how: &'static str) -> Self {
        self.absent.push((scheme, how));
        self
    }

    /// The drivers, in the order in which they were added.
    #[must_use]
    pub fn drivers(&self) -> &[Driver] {
        &self.drivers
    }

    /// The driver that serves a scheme.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that lists the schemes that are known and says how to get the one asked for.
    pub fn driver(&self, scheme: &str) -> Result<&Driver> {
        if let Some(driver) = self.drivers.iter().find(|driver| driver.schemes.contains(&scheme)) {
            return Ok(driver);
        }
        let known = || self.drivers.iter().flat_map(|driver| driver.schemes.iter().copied());
        let next = match self.absent.iter().find(|(absent, _)| *absent == scheme) {
            Some((_, how)) => format!("; {how}"),
            None => hint(scheme, known().chain(self.absent.iter().map(|(absent, _)| *absent))),
        };
        let listed: Vec<String> = known().map(|scheme| format!("{scheme}://")).collect();
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "no driver serves {scheme}:// (this build has {}){next}",
                if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
            ),
        ))
    }

    /// Opens a broker: finds the driver, connects and puts the checks of the core around it.
    ///
    /// # Errors
    /// As for [`driver`](Self::driver), or what the driver says.
    pub async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        let driver = self.driver(options.url.scheme())?;
        let (name, url) = (options.name.clone(), options.url.to_string());
        let broker = (driver.connect)(options).await.map_err(|error| {
            error.with_context("broker", format_args!("{:?}", name.as_str())).with_context("url", url)
        })?;
        Ok(Checked::around(broker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(_: ConnectOptions) -> Connecting {
        Box::pin(async { Err(Error::new(ErrorKind::Unreachable, "nobody there")) })
    }

    fn driver(name: &'static str, schemes: &'static [&'static str]) -> Driver {
        Driver { name, schemes, connect: refuse }
    }

    #[test]
    fn names_and_schemes_are_unique() {
        let registry = Registry::new().with(driver("one", &["a", "b"])).unwrap();
        assert!(registry.clone().with(driver("one", &["c"])).is_err());
        assert!(registry.clone().with(driver("two", &["c", "b"])).unwrap_err().text().contains("\"b\""));
        assert!(registry.with(driver("two", &["c"])).is_ok());
    }

    #[test]
    fn an_unknown_scheme_lists_the_known_and_says_what_to_enable() {
        let registry = Registry::new()
            .with(driver("memory", &["memory"]))
            .unwrap()
            .with_absent("kafka", "enable the feature \"kafka\" of the crate \"messaging\"");
        let error = registry.driver("kafka").unwrap_err();
        assert_eq!(
            error.text(),
            "no driver serves kafka:// (this build has memory://); enable the feature \"kafka\" of the crate \"messaging\""
        );
        assert!(registry.driver("memroy").unwrap_err().text().ends_with("did you mean \"memory\"?"));
    }

    #[tokio::test]
    async fn a_refused_connection_names_broker_and_url() {
        let registry = Registry::new().with(driver("memory", &["memory"])).unwrap();
        let options = ConnectOptions::new(BrokerUrl::parse("memory://u:s3cret@h").unwrap());
        let error = registry.connect(options).await.unwrap_err();
        assert_eq!(error.to_string(), "unreachable: nobody there (broker \"main\", url memory://u:***@h)");
    }
}
