//! The application before it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use messaging_core::suggest::hint;
use messaging_core::{Broker, ErrorKind, Registry, Result};
use tower::{Layer, Service};

use super::failure::BoxError;
use super::handler::Handler;
use super::listener::{AppLayer, BoxListenerService};
use super::plan::{Faults, Plan};
use super::publishing::{BindingPublisher, Publishers};
use super::running::RunningApp;
use super::signals::Signals;
use super::start::{OpenBroker, Planned, Start};
use super::{Listen, Listener, ShutdownReport};
use crate::codec::{Codec, Codecs};
use crate::config::Config;
use crate::drivers::drivers;
use crate::extract::{Incoming, States};

/// An application: brokers from a configuration, listeners, and what their handlers share.
///
/// Nothing happens before [`start`](Self::start) or [`run`](Self::run), which check everything first and tell all that is
/// wrong at once.
///
/// ```no_run
/// use bytes::Bytes;
/// use messaging::{App, Config, Listen};
///
/// async fn store(payload: Bytes) -> std::io::Result<()> {
///     # let _ = payload;
///     Ok(())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> messaging::Result<()> {
/// let report = App::with_config(Config::load("app.toml")?)
///     .listen(Listen::queue("orders").concurrency(4), store)
///     .run() // until Ctrl-C or SIGTERM
///     .await?;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
#[must_use = "an app does nothing until `start` or `run` is called"]
pub struct App {
    config: Config,
    registry: Registry,
    brokers: BTreeMap<String, Arc<dyn Broker>>,
    states: States,
    layers: Vec<AppLayer>,
    codecs: Codecs,
    listeners: Vec<Listener>,
    publishers: Publishers,
    declared: Vec<BindingPublisher>,
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl App {
    /// An application on one broker called `main` in the memory of this process.
    pub fn new() -> Self {
        Self::with_config(Config::memory())
    }

    /// An application on the brokers of a configuration.
    pub fn with_config(config: Config) -> Self {
        Self {
            config,
            registry: drivers(),
            brokers: BTreeMap::new(),
            states: States::default(),
            layers: Vec::new(),
            codecs: Codecs::default(),
            listeners: Vec::new(),
            publishers: Publishers::new(),
            declared: Vec::new(),
        }
    }

    /// Sets the drivers to connect with; [`drivers`] by default.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Uses a broker that is open already instead of connecting to the one that the configuration calls `name`; a name that
    /// the configuration does not have is refused at the start. It is closed with the others.
    pub fn broker(mut self, name: impl Into<String>, broker: Arc<dyn Broker>) -> Self {
        self.brokers.insert(name.into(), broker);
        self
    }

    /// Shares a value with all handlers, which take it as [`State<S>`](crate::extract::State). One a type: a second one of
    /// the same type takes the place of the first.
    pub fn state<S: Clone + Send + Sync + 'static>(mut self, state: S) -> Self {
        self.states.set(state);
        self
    }

    /// Puts a layer around every listener; the first is the outermost. A call of a handler then costs a boxed future or
    /// two: see [`Listener::layered`] for one that costs nothing of itself.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<BoxListenerService> + Send + Sync + 'static,
        L::Service: Service<Incoming, Response = ()> + Clone + Send + 'static,
        <L::Service as Service<Incoming>>::Error: Into<BoxError>,
        <L::Service as Service<Incoming>>::Future: Send + 'static,
    {
        self.layers.push(Arc::new(move |service| {
            use tower::ServiceExt;
            BoxListenerService::new(layer.layer(service).map_err(Into::into))
        }));
        self
    }

    /// Adds a codec, for handlers that take [`Payload`](crate::extract::Payload).
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.codecs = self.codecs.with(codec);
        self
    }

    /// Adds a listener with its handler.
    pub fn listen<H, Arguments>(mut self, listen: Listen, handler: H) -> Self
    where
        H: Handler<Arguments>,
        Arguments: 'static,
    {
        self.listeners.push(Listener::new(listen, handler));
        self
    }

    /// Adds listeners, such as those of [`listeners!`](crate::listeners).
    pub fn mount(mut self, listeners: impl IntoIterator<Item = Listener>) -> Self {
        self.listeners.extend(listeners);
        self
    }

    /// Declares that something will be published to a binding, from outside the handlers or from within: the start then
    /// checks and opens it. What is returned can be cloned and used once the application has started.
    pub fn publisher(&mut self, binding: impl Into<String>) -> BindingPublisher {
        let publisher = BindingPublisher::new(binding.into());
        self.declared.push(publisher.clone());
        publisher
    }

    /// Checks everything, opens the brokers and starts the listeners. Once it has returned, every listener has its queue or
    /// subscription, and no message published later is missed.
    ///
    /// # Errors
    /// Everything that is wrong, at once and before any message moves: with the code and the configuration, before anything is
    /// connected; with what the brokers can do, before anything is consumed. Otherwise what kept a broker from opening.
    pub async fn start(mut self) -> Result<RunningApp> {
        let topics = self.listeners.iter().filter(|listener| listener.listen.is_of_topic());
        let topics = topics.map(|listener| listener.listen.binding.clone()).collect();
        let (opens, planned) = self.plan()?;
        let Self { config, states, layers, codecs, publishers, declared, .. } = self;
        Start { config, opens, states, layers, codecs, publishers, declared, topics }.start(planned).await
    }

    /// Options of every broker and plans of all enabled listeners, or all faults at once.
    fn plan(&mut self) -> Result<(Vec<OpenBroker>, Planned)> {
        let mut faults = Faults::default();
        let opens = self.plan_brokers(&mut faults)?;
        let mut ids = BTreeSet::new();
        let mut planned = Vec::new();
        for listener in self.listeners.drain(..) {
            let id = listener.id();
            if !ids.insert(id.clone()) {
                faults.add(
                    ErrorKind::Config,
                    format!("two listeners have the id {id:?}: give one of them another with .id(\"…\")"),
                );
                continue;
            }
            if let Some(plan) = Plan::of(&listener, &self.config, &self.states, &mut faults) {
                planned.push((plan, listener));
            }
        }
        // A program without listeners, such as a publisher, may share the configuration of one that has them.
        let unknown = self.config.listener_ids().filter(|id| !ids.is_empty() && !ids.contains(*id));
        for id in unknown {
            let hint = hint(id, ids.iter().map(String::as_str));
            faults.add(
                ErrorKind::Config,
                format!("[listeners.{id}] is in the configuration, and no listener with this id is mounted{hint}"),
            );
        }
        refuse_ambiguous(&planned, &mut faults);
        faults.into_result()?;
        Ok((opens, planned))
    }

    fn plan_brokers(&mut self, faults: &mut Faults) -> Result<Vec<OpenBroker>> {
        let mut opens = Vec::new();
        for options in self.config.brokers()? {
            if let Some(broker) = self.brokers.remove(options.name.as_str()) {
                opens.push(OpenBroker::Given(options.name, broker));
            } else {
                if let Err(error) = self.registry.driver(options.url.scheme()) {
                    faults.add_of(&format!("broker {:?}", options.name.as_str()), error);
                }
                opens.push(OpenBroker::Connect(Box::new(options), self.registry.clone()));
            }
        }
        for name in self.brokers.keys() {
            let hint = hint(name, opens.iter().map(|open| open.name().as_str()));
            faults.add(
                ErrorKind::NotFound,
                format!("App::broker was given a broker {name:?}, which is not in the configuration{hint}"),
            );
        }
        Ok(opens)
    }

    /// Starts, runs until Ctrl-C or SIGTERM, and shuts down; a second signal ends at once what still runs.
    ///
    /// # Errors
    /// As for [`start`](Self::start) and [`RunningApp::shutdown`].
    pub async fn run(self) -> Result<ShutdownReport> {
        // Before the start, so that a signal during it is not lost.
        let mut signals = Signals::listen()?;
        let running = self.start().await?;
        signals.next().await;
        tracing::info!("shutting down; a second signal ends at once");
        let hurry = running.hurry();
        let shutdown = running.shutdown();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                report = &mut shutdown => return report,
                () = signals.next() => hurry.now(),
            }
        }
    }
}

/// Without bindings a name stands for itself, and so could be a queue here and a topic there: whoever publishes to it would
/// reach one of the two.
fn refuse_ambiguous(planned: &Planned, faults: &mut Faults) {
    let mut names = BTreeMap::<&str, &Plan>::new();
    for (plan, listener) in planned {
        let name = listener.listen.binding.as_str();
        let first = *names.entry(name).or_insert(plan);
        if first.destination != plan.destination {
            faults.add(
                ErrorKind::Config,
                format!(
                    "{name:?} is {} to listener {:?} and {} to listener {:?}, and a publisher to it could mean either: give one of the two another name",
                    first.destination, first.id, plan.destination, plan.id
                ),
            );
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .field("listeners", &self.listeners)
            .field("layers", &self.layers.len())
            .field("publishers", &self.declared)
            .finish_non_exhaustive()
    }
}
