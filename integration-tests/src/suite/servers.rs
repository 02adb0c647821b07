//! The servers of one test program: one for all cases, and another for those that break it, in turns.

use std::sync::{Arc, OnceLock};

use messaging_conformance::Power;
use tokio::sync::{Mutex, OnceCell, OwnedMutexGuard};

use super::means::Means;
use crate::{Broker, Cluster, Error, Kind, Result, Way, available, environment, obtain, own_by, shared};

/// The servers, each started when a case first needs it.
#[derive(Debug)]
pub(super) struct Servers {
    kind: Kind,
    way: OnceLock<Result<Way, String>>,
    shared: OnceCell<Arc<dyn Broker>>,
    /// The server that a case may kill and restart, while it is its turn.
    breakable: Arc<Mutex<Option<Arc<dyn Broker>>>>,
    /// The cluster that a case may take a node from, while it is its turn.
    nodes: Arc<Mutex<Option<Arc<Cluster>>>>,
    version: OnceLock<String>,
}

/// A case's turn with what may be broken; the next begins when it is dropped.
#[derive(Debug)]
pub(super) enum Turn {
    One(#[allow(dead_code, reason = "held, and not looked at")] OwnedMutexGuard<Option<Arc<dyn Broker>>>),
    Nodes(#[allow(dead_code, reason = "held, and not looked at")] OwnedMutexGuard<Option<Arc<Cluster>>>),
}

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

    /// How it was obtained.
    #[cfg(feature = "kafka")]
    pub(super) fn way(&self) -> Way {
        match self {
            Self::One(broker) => broker.way(),
            Self::Nodes(cluster) => cluster.node(0).way(),
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
            nodes: Arc::default(),
            version: OnceLock::new(),
        }
    }

    /// How the server is obtained: as the environment says, else natively, where every power is, else in a container.
    pub(super) fn way(&self) -> Result<Way, String> {
        self.way.get_or_init(|| self.find_way().map_err(|error| error.to_string())).clone()
    }

    fn find_way(&self) -> Result<Way> {
        let kind = self.kind;
        if !has_means(kind) {
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

    /// Powers over a server that was obtained so.
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
        if needs.contains(&Power::LeaderLoss) {
            let mut turn = Arc::clone(&self.nodes).lock_owned().await;
            let cluster = match &*turn {
                Some(cluster) => Arc::clone(cluster),
                None => Arc::new(Cluster::start(self.kind).await?),
            };
            *turn = Some(Arc::clone(&cluster));
            // The case before may have failed with a node down.
            for node in cluster.nodes() {
                node.start().await?;
            }
            return Ok((Server::Nodes(cluster), Some(Turn::Nodes(turn))));
        }
        if needs.contains(&Power::Restart) || needs.contains(&Power::Kill) {
            let mut turn = Arc::clone(&self.breakable).lock_owned().await;
            let broker = match &*turn {
                Some(broker) => Arc::clone(broker),
                None => Arc::from(own_by(self.kind, self.way().map_err(Error::missing)?).await?),
            };
            *turn = Some(Arc::clone(&broker));
            broker.start().await?;
            return Ok((Server::One(broker), Some(Turn::One(turn))));
        }
        Ok((Server::One(self.shared().await?), None))
    }

    async fn shared(&self) -> Result<Arc<dyn Broker>> {
        let start = || async {
            let broker = match self.way().map_err(Error::missing)? {
                Way::Environment => shared(self.kind).await?,
                way => Arc::from(own_by(self.kind, way).await?),
            };
            let means = means_of(self.kind, &Server::One(Arc::clone(&broker)))?;
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

/// True if a container engine answers. On a thread of its own, because the caller may be on a runtime's.
fn engine_answers() -> bool {
    #[cfg(feature = "containers")]
    {
        let asking = std::thread::spawn(|| crate::run::runtime().block_on(crate::container::engine()).is_ok());
        asking.join().unwrap_or(false)
    }
    #[cfg(not(feature = "containers"))]
    false
}

/// The means for a server.
pub(super) fn means_of(kind: Kind, server: &Server) -> Result<Box<dyn Means>> {
    match kind {
        #[cfg(feature = "rabbitmq")]
        Kind::RabbitMq => {
            Ok(Box::new(super::rabbitmq::RabbitMeans::new(server.url(), server.address(crate::Door::Management).ok())))
        }
        #[cfg(feature = "kafka")]
        Kind::Kafka => Ok(Box::new(super::kafka::KafkaMeans::new(&server.url(), server.way())?)),
        _ => {
            let _ = server;
            Err(Error::unsupported(format!(
                "the harness has no means for {kind} yet, or they are left out of this build"
            )))
        }
    }
}

/// True if there are any for this kind.
fn has_means(kind: Kind) -> bool {
    (cfg!(feature = "rabbitmq") && kind == Kind::RabbitMq) || (cfg!(feature = "kafka") && kind == Kind::Kafka)
}
