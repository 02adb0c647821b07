//! Three nodes as one broker: RabbitMQ, Kafka, and Redis (or Valkey) with a replica for each.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::doors::Doors;
use crate::native::{self, Epmd, Kafka, KafkaPeer, NativeBroker, RabbitMq, Redis};
use crate::report::{self, Start};
use crate::run::{self, Claim};
use crate::{Broker, Door, Error, Kind, Result, Way, management};

const NODE_COUNT: usize = 3;
const FORMING_LIMIT: Duration = Duration::from_secs(90);

/// A cluster of native nodes, gone with its data when dropped.
///
/// RabbitMQ and Kafka have three nodes, each with a copy of everything that is asked to have copies: a quorum queue, a
/// topic (factor 3, two in sync to be written to). Redis and Valkey have three nodes with a third of the keys each,
/// and three more that replicate them.
///
/// Each node has its proxy. RabbitMQ's clients stay where they connect, Kafka's are sent to the other nodes' proxies if they came
/// by one, and those of Redis and Valkey to the proxies in any case, because a node announces one address to everybody: to
/// its replica too, so a proxy that is cut off cuts replication. How the nodes find each other dead goes by no proxy.
#[derive(Debug)]
pub struct Cluster {
    kind: Kind,
    nodes: Vec<NativeBroker>,
    _epmd: Option<Arc<Epmd>>,
}

impl Cluster {
    /// Starts one, and returns when a message went through each node.
    ///
    /// # Errors
    /// [`Missing`](crate::ErrorKind::Missing) if this machine cannot start the server natively;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a kind that forms no cluster here.
    pub async fn start(kind: Kind) -> Result<Self> {
        native::install::check(kind)?;
        let began = Instant::now();
        let cluster = match kind {
            Kind::RabbitMq => rabbitmq().await,
            Kind::Kafka => kafka().await,
            Kind::Redis | Kind::Valkey => redis(kind).await,
            _ => Err(Error::unsupported(format!("{kind} forms no cluster here: use rabbitmq, kafka, redis or valkey"))),
        }?;
        report::record(Start { kind, way: Way::Native, nodes: cluster.len(), took: began.elapsed() });
        Ok(cluster)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Always false: a cluster has nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes, to be stopped, killed and paused one by one.
    pub fn nodes(&self) -> impl Iterator<Item = &dyn Broker> {
        self.nodes.iter().map(|node| node as &dyn Broker)
    }

    /// One node.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn node(&self, at: usize) -> &dyn Broker {
        &self.nodes[at]
    }

    /// A URL that names every node, separated by commas.
    pub fn url(&self) -> String {
        together(&self.nodes, Door::Plain, &self.nodes[0].url())
    }

    /// The same by way of every node's [`Broker::proxy`].
    pub fn proxied_url(&self) -> String {
        together(&self.nodes, Door::Proxied, &self.nodes[0].proxied_url())
    }

    /// Which node leads a queue or topic, or holds a key for writing.
    ///
    /// # Errors
    /// If no node answers, or there is no leader now: leaders move, so ask again ([`until`](crate::until)).
    pub async fn leader(&self, of: &str) -> Result<usize> {
        let mut last = Error::failed(format!("no node of this {} runs", self.kind));
        for node in &self.nodes {
            if node.must_live().is_err() {
                continue;
            }
            match self.leader_by(node, of).await {
                Ok(leader) => return Ok(leader),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn leader_by(&self, node: &NativeBroker, of: &str) -> Result<usize> {
        let none = || Error::failed(format!("{of} has no leader now"));
        let found = match self.kind {
            Kind::RabbitMq => {
                let leader = management::queue_leader(node.address(Door::Management)?, of).await?;
                self.nodes.iter().position(|node| leader.as_deref() == node.erlang_name().as_deref())
            }
            #[cfg(feature = "kafka")]
            Kind::Kafka => {
                let leader = crate::raw::kafka::leader(&node.url(), of).await?;
                leader.and_then(|id| usize::try_from(id).ok()?.checked_sub(1))
            }
            #[cfg(feature = "redis")]
            Kind::Redis | Kind::Valkey => {
                let master = crate::raw::redis::master_port(&node.url(), of).await?;
                self.nodes.iter().position(|node| Some(node.proxy().address().port()) == master)
            }
            #[allow(unreachable_patterns, reason = "reached when a client is left out of the build")]
            _ => None,
        };
        found.ok_or_else(none)
    }
}

/// The nodes' addresses in the form of the first node's URL.
fn together(nodes: &[NativeBroker], door: Door, one: &str) -> String {
    let address = |node: &NativeBroker| node.address(door).map(|at| at.to_string()).unwrap_or_default();
    let all: Vec<_> = nodes.iter().map(address).collect();
    one.replacen(&all[0], &all.join(","), 1)
}

async fn rabbitmq() -> Result<Cluster> {
    let epmd = Arc::new(Epmd::start()?);
    let distributions = (0..NODE_COUNT).map(|_| Claim::new()).collect::<Result<Vec<_>>>()?;
    let names: Vec<_> = distributions.iter().map(RabbitMq::node_name).collect();
    let mut nodes = Vec::new();
    for distribution in distributions {
        let name = RabbitMq::node_name(&distribution);
        let recipe = RabbitMq::member(Arc::clone(&epmd), distribution, names.clone());
        let doors = Doors::native(Kind::RabbitMq).await?;
        nodes.push(NativeBroker::prepare(Kind::RabbitMq, Box::new(recipe), doors)?.named(name));
    }
    start_all(&nodes).await?;
    // A node that did not find the others in time would stay alone, and say nothing.
    let management = nodes[0].address(Door::Management)?;
    run::until("three rabbitmq nodes in one cluster", FORMING_LIMIT, || async {
        match management::running_nodes(management).await? {
            NODE_COUNT => Ok(()),
            other => Err(Error::failed(format!("{other} are"))),
        }
    })
    .await?;
    Ok(Cluster { kind: Kind::RabbitMq, nodes, _epmd: Some(epmd) })
}

async fn kafka() -> Result<Cluster> {
    let controllers = (0..NODE_COUNT).map(|_| Claim::new()).collect::<Result<Vec<_>>>()?;
    let peers: Vec<_> = (1..).zip(&controllers).map(|(id, claim)| KafkaPeer { id, controller: claim.port() }).collect();
    let mut nodes = Vec::new();
    for (own, controller) in peers.clone().into_iter().zip(controllers) {
        let recipe = Kafka::member(own, peers.clone(), controller);
        nodes.push(NativeBroker::prepare(Kind::Kafka, Box::new(recipe), Doors::native(Kind::Kafka).await?)?);
    }
    start_all(&nodes).await?;
    Ok(Cluster { kind: Kind::Kafka, nodes, _epmd: None })
}

async fn redis(kind: Kind) -> Result<Cluster> {
    let mut nodes = Vec::new();
    for _ in 0..2 * NODE_COUNT {
        nodes.push(NativeBroker::prepare(kind, Box::new(Redis::member(kind)?), Doors::native(kind).await?)?);
    }
    let url = together(&nodes, Door::Plain, &nodes[0].url());
    let nodes: Vec<_> = nodes.into_iter().map(|node| node.ready_by(url.clone())).collect();
    for node in &nodes {
        node.spawn()?;
    }
    run::until(format!("a cluster formed by {kind}-cli"), FORMING_LIMIT, || async {
        for node in &nodes {
            node.must_live()?;
        }
        form(kind, &nodes)
    })
    .await?;
    for node in &nodes {
        node.ready().await?;
    }
    #[cfg(feature = "redis")]
    for replica in &nodes[NODE_COUNT..] {
        run::until("a replica in step with its master", FORMING_LIMIT, || async {
            let behind = || Error::failed("it is behind");
            if crate::raw::redis::is_in_step(&replica.url()).await? { Ok(()) } else { Err(behind()) }
        })
        .await?;
    }
    Ok(Cluster { kind, nodes, _epmd: None })
}

/// Has the server's own command line give each node its part. It refuses while a node does not answer yet.
fn form(kind: Kind, nodes: &[NativeBroker]) -> Result<()> {
    let mut command: Command = native::redis_cli(kind);
    command.args(["--cluster", "create"]);
    for node in nodes {
        command.arg(node.address(Door::Plain)?.to_string());
    }
    command.args(["--cluster-replicas", "1", "--cluster-yes"]);
    let output = command.output().map_err(|error| Error::caused(format!("cannot run {kind}-cli"), error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A first try that was cut short leaves nodes that know each other, which is refused as not empty.
    if output.status.success() || said.contains("is not empty") {
        return Ok(());
    }
    Err(Error::failed(said.lines().last().unwrap_or("no word").to_owned()))
}

async fn start_all(nodes: &[NativeBroker]) -> Result<()> {
    for node in nodes {
        node.spawn()?;
    }
    for node in nodes {
        node.ready().await?;
    }
    Ok(())
}
