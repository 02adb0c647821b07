//! The servers of one test program: one for all cases, and another for those that break it, in turns.

use std::sync::{Arc, OnceLock};

use messaging_conformance::Power;
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard};

use super::means;
use crate::{Broker, Cluster, Error, Kind, Result, Way, available, environment, obtain, own_by, shared};

/// The servers, each started when a case first needs it.
#[derive(Debug)]
pub(super) struct Servers {
    kind: Kind,
    way: OnceLock<Result<Way, String>>,
    shared: OnceCell<Arc<dyn Broker>>,
    /// What a case may break, while it is its turn.
    breakable: Arc<Mutex<Breakable>>,
    version: OnceLock<String>,
}

/// The server that may be broken. Never two at once: each takes its memory.
#[derive(Debug, Default)]
pub(super) enum Breakable {
    /// It was not needed yet.
    #[default]
    None,
    One(Arc<dyn Broker>),
    Nodes(Arc<Cluster>),
}

/// A case's turn with the server that may be broken.
pub(super) type Turn = OwnedMutexGuard<Breakable>;

/// The server of one case.
#[derive(Clone, Debug)]
pub(super) enum Server {
    One(Arc<dyn Broker>),
    Nodes(Arc<Cluster>),
}

impl Server {
    /// The URL straight to it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::One(broker) => broker.url(),
            Self::Nodes(cluster) => cluster.url(),
        }
    }

    /// The address of a door, of one node.
    #[cfg(feature = "rabbitmq")]
    pub(super) fn address(&self, door: crate::Door) -> Result<std::net::SocketAddr> {
        match self {
            Self::One(broker) => broker.address(door),
            Self::Nodes(cluster) => cluster.node(0).address(door),
        }
    }
}

impl Servers {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            way: OnceLock::new(),
            shared: OnceCell::new(),
            breakable: Arc::default(),
            version: OnceLock::new(),
        }
    }

    /// How the server is obtained: as the environment says, else natively, where every power is, else in a container.
    pub(super) fn way(&self) -> Result<Way, String> {
        self.way.get_or_init(|| self.find_way().map_err(|error| error.to_string())).clone()
    }

    fn find_way(&self) -> Result<Way> {
        let kind = self.kind;
        if !means::known(kind) {
            return Err(Error::missing(format!("the harness has no means for {kind} yet, or this build has none")));
        }
        if let Some(way) = obtain::wanted()? {
            return Ok(way);
        }
        if environment::given(kind).is_some() {
            return Ok(Way::Environment);
        }
        let Err(natively) = available(kind) else { return Ok(Way::Native) };
        if engine_answers() && matches!(kind, Kind::RabbitMq | Kind::Redis | Kind::Valkey) {
            return Ok(Way::Container);
        }
        Err(natively)
    }

    /// What can be done to a server that was obtained so.
    pub(super) fn powers(&self) -> Vec<Power> {
        let way = self.way();
        let ours = way != Ok(Way::Environment);
        let native = way == Ok(Way::Native);
        let lines = native || self.kind != Kind::Kafka;
        let mut powers =
            vec![Power::RemoveQueue, Power::CountConsumers, Power::RawClient, Power::Processes, Power::WrongAddresses];
        if ours {
            powers.extend([Power::Restart, Power::Kill]);
        }
        if lines {
            powers.extend([Power::Cut, Power::Line, Power::SlowLine, Power::LoseAnswers]);
        }
        if native {
            powers.extend([Power::LeaderLoss, Power::FailDeadLetters]);
        }
        powers
    }

    /// The server of a case with these needs, and its turn if it may break it.
    pub(super) async fn obtain(&self, needs: &[Power]) -> Result<(Server, Option<Turn>)> {
        let needs_nodes = needs.contains(&Power::LeaderLoss);
        if !needs_nodes && !needs.contains(&Power::Restart) && !needs.contains(&Power::Kill) {
            return Ok((Server::One(self.shared().await?), None));
        }
        let mut turn = Arc::clone(&self.breakable).lock_owned().await;
        let server = match &*turn {
            Breakable::One(broker) if !needs_nodes => Server::One(Arc::clone(broker)),
            Breakable::Nodes(cluster) if needs_nodes => Server::Nodes(Arc::clone(cluster)),
            _ => {
                *turn = Breakable::None;
                if needs_nodes {
                    Server::Nodes(Arc::new(Cluster::start(self.kind).await?))
                } else {
                    Server::One(Arc::from(own_by(self.kind, self.way().map_err(Error::missing)?).await?))
                }
            }
        };
        // The case before may have failed with the server down.
        match &server {
            Server::One(broker) => broker.start().await?,
            Server::Nodes(cluster) => {
                for node in cluster.nodes() {
                    node.start().await?;
                }
            }
        }
        *turn = match &server {
            Server::One(broker) => Breakable::One(Arc::clone(broker)),
            Server::Nodes(cluster) => Breakable::Nodes(Arc::clone(cluster)),
        };
        Ok((server, Some(turn)))
    }

    async fn shared(&self) -> Result<Arc<dyn Broker>> {
        let start = || async {
            let broker = match self.way().map_err(Error::missing)? {
                Way::Environment => shared(self.kind).await?,
                way => Arc::from(own_by(self.kind, way).await?),
            };
            let means = means::of(self.kind, &Server::One(Arc::clone(&broker)))?;
            let version = means.version().await?;
            means.close().await;
            let _ = self.version.set(version);
            Ok(broker)
        };
        self.shared.get_or_try_init(start).await.cloned()
    }

    /// The version of the shared server, once it was needed.
    pub(super) fn version(&self) -> String {
        self.version.get().cloned().unwrap_or_else(|| "not started".to_owned())
    }
}

/// Whether a container engine answers. On a thread of its own, because the caller may be on a runtime's.
fn engine_answers() -> bool {
    #[cfg(feature = "containers")]
    {
        let asking = std::thread::spawn(|| crate::run::runtime().block_on(crate::container::engine()).is_ok());
        asking.join().unwrap_or(false)
    }
    #[cfg(not(feature = "containers"))]
    false
}
