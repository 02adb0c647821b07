//! Real brokers: one server for all cases that may break it, and one cluster, in turns.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex as Lock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use integration_tests::proxy::{self, Direction};
use integration_tests::raw::{fresh_name, round_trip};
use integration_tests::{Broker, Cluster, Door, Error, Kind, Result, Way, close_connections, own_by, until};
use messaging_conformance::history::Mark;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::address::Address;
use crate::stage::{Fault, Stage};
use crate::{kafka, rabbitmq};

/// For what an administrator sees a little later than it happens.
const SEEN: Duration = Duration::from_secs(30);

/// A server or a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    One(Arc<dyn Broker>),
    Nodes(Arc<Cluster>),
}

/// A healthy server of one's own until the end of the case.
pub(crate) struct Real {
    pub(crate) kind: Kind,
    pub(crate) server: Server,
    /// The node that was broken, to be repaired.
    broken: Lock<Option<usize>>,
    _turn: OwnedMutexGuard<Option<Server>>,
}

impl Real {
    /// The one server, through its proxy.
    pub(crate) async fn one(kind: Kind) -> Result<Self> {
        Self::of(kind, false).await
    }

    /// Three nodes.
    pub(crate) async fn cluster(kind: Kind) -> Result<Self> {
        Self::of(kind, true).await
    }

    async fn of(kind: Kind, cluster: bool) -> Result<Self> {
        type Slots = HashMap<(Kind, bool), Arc<Mutex<Option<Server>>>>;
        static SLOTS: LazyLock<Lock<Slots>> = LazyLock::new(Lock::default);

        let slot = {
            let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry((kind, cluster)).or_default())
        };
        let mut turn = slot.lock_owned().await;
        // One that an earlier case left broken is replaced, so that one failure stays one.
        if let Some(server) = turn.take() {
            *turn = healed(kind, &server).await.is_ok().then_some(server);
        }
        let server = match turn.take() {
            Some(server) => server,
            None if cluster => Server::Nodes(Arc::new(Cluster::start(kind).await?)),
            None => Server::One(Arc::from(own_by(kind, Way::Native).await?)),
        };
        *turn = Some(server.clone());
        Ok(Self { kind, server, broken: Lock::default(), _turn: turn })
    }

    /// Straight to the server.
    pub(crate) fn url(&self) -> String {
        match &self.server {
            Server::One(broker) => broker.url(),
            Server::Nodes(cluster) => cluster.url(),
        }
    }

    /// All nodes, of which there is one or three.
    pub(crate) fn nodes(&self) -> Vec<&dyn Broker> {
        match &self.server {
            Server::One(broker) => vec![&**broker],
            Server::Nodes(cluster) => cluster.nodes().collect(),
        }
    }

    pub(crate) fn node(&self) -> &dyn Broker {
        match &self.server {
            Server::One(broker) => &**broker,
            Server::Nodes(cluster) => cluster.node(0),
        }
    }

    pub(crate) fn of_nodes(&self) -> Result<&Cluster> {
        match &self.server {
            Server::One(_) => Err(Error::unsupported("one node has nobody to follow it")),
            Server::Nodes(cluster) => Ok(cluster),
        }
    }

    /// The URL with what the driver is to know for these tests.
    pub(crate) fn told(&self, url: &str) -> String {
        match self.kind {
            // A silent peer is given up after twice the heartbeat: 20 s by default.
            Kind::RabbitMq => format!("{url}?heartbeat=3s"),
            _ => url.to_owned(),
        }
    }

    async fn led_by(&self, at: &Address) -> Result<usize> {
        let cluster = self.of_nodes()?;
        until("a leader", SEEN, || cluster.leader(&at.name)).await
    }

    fn proxies(&self, does: impl Fn(&proxy::Proxy)) {
        self.nodes().iter().for_each(|node| does(node.proxy()));
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that takes a message, whatever the case before did.
async fn healed(kind: Kind, server: &Server) -> Result<()> {
    match server {
        Server::One(broker) => {
            broker.proxy().heal().await?;
            let answers = tokio::time::timeout(Duration::from_secs(20), round_trip(kind, &broker.url())).await;
            answers.map_err(|_| Error::failed("it does not answer"))?
        }
        Server::Nodes(cluster) => {
            for node in cluster.nodes() {
                node.proxy().heal().await?;
                let answers = tokio::time::timeout(Duration::from_secs(20), round_trip(kind, &node.url())).await;
                answers.map_err(|_| Error::failed("it does not answer"))??;
            }
            Ok(())
        }
    }
}

#[async_trait]
impl Stage for Real {
    fn name(&self) -> String {
        match &self.server {
            Server::One(_) => self.kind.to_string(),
            Server::Nodes(cluster) => format!("{} ×{}", self.kind, cluster.len()),
        }
    }

    fn queue(&self) -> Address {
        let url = match &self.server {
            Server::One(broker) => broker.proxied_url(),
            // A dead node's proxy would accept connections that the node itself refuses.
            Server::Nodes(cluster) => cluster.url(),
        };
        Address::queue(self.told(&url), fresh_name("faults"))
    }

    fn beside(&self, at: &Address) -> Address {
        at.by(self.told(&self.url()))
    }

    async fn begin(&self, fault: Fault, at: &Address) -> Result<()> {
        match fault {
            Fault::Killed => self.node().kill().await?,
            Fault::Paused => self.node().pause().await?,
            Fault::Cut => self.proxies(proxy::Proxy::cut),
            Fault::BlackHole => self.proxies(proxy::Proxy::black_hole),
            Fault::AnswersLost => self.proxies(|proxy| proxy.set(Direction::Answers, proxy::Fault::BlackHole)),
            Fault::Slow => self.proxies(|proxy| {
                proxy.set(Direction::Requests, proxy::Fault::Delay(Duration::from_millis(100)));
                proxy.set(Direction::Answers, proxy::Fault::Throttle(500_000));
            }),
            Fault::Closed => {
                let management = self.node().address(Door::Management)?;
                until("connections that the management knows", SEEN, || async {
                    match close_connections(management).await? {
                        // Publishing and consuming go by connections of their own.
                        0 | 1 => Err(Error::failed("it knows of fewer than two")),
                        _ => Ok(()),
                    }
                })
                .await?;
            }
            Fault::LeaderKilled | Fault::LeaderPaused => {
                let leader = self.led_by(at).await?;
                *self.broken() = Some(leader);
                let node = self.of_nodes()?.node(leader);
                if fault == Fault::LeaderKilled { node.kill().await? } else { node.pause().await? }
            }
            Fault::CoordinatorKilled => {
                let coordinator = kafka::coordinator(&self.url(), at).await?;
                *self.broken() = Some(coordinator);
                self.of_nodes()?.node(coordinator).kill().await?;
            }
        }
        Ok(())
    }

    async fn end(&self, fault: Fault, at: &Address) -> Result<()> {
        match fault {
            Fault::Killed => self.node().start().await,
            Fault::Paused => self.node().resume().await,
            Fault::Cut | Fault::Closed => Ok(()),
            Fault::BlackHole | Fault::AnswersLost | Fault::Slow => {
                for node in self.nodes() {
                    node.proxy().heal().await?;
                }
                Ok(())
            }
            Fault::LeaderKilled => {
                let before = *self.broken();
                until("another leader", SEEN, || async {
                    let leader = self.of_nodes()?.leader(&at.name).await?;
                    if Some(leader) == before { Err(Error::failed("the dead one leads")) } else { Ok(()) }
                })
                .await
            }
            Fault::CoordinatorKilled => {
                let before = *self.broken();
                until("another coordinator", SEEN, || async {
                    let coordinator = kafka::coordinator(&self.url(), at).await?;
                    if Some(coordinator) == before { Err(Error::failed("the dead one is")) } else { Ok(()) }
                })
                .await
            }
            Fault::LeaderPaused => {
                let paused = self.broken().take();
                match paused {
                    Some(node) => self.of_nodes()?.node(node).resume().await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn repair(&self) -> Result<()> {
        let broken = self.broken().take();
        match broken {
            Some(node) => self.of_nodes()?.node(node).start().await,
            None => Ok(()),
        }
    }

    async fn consumers(&self, at: &Address) -> Result<Option<usize>> {
        match self.kind {
            Kind::RabbitMq => rabbitmq::consumers(&self.url(), at).await.map(Some),
            Kind::Kafka => kafka::members(self, at).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn committed(&self, at: &Address) -> Result<Option<Vec<Mark>>> {
        match self.kind {
            // Leaders and coordinators move while a fault is young.
            Kind::Kafka => {
                let url = self.url();
                until("what is committed", SEEN, || kafka::committed(&url, at)).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn delete(&self, at: &Address) -> Result<()> {
        match self.kind {
            Kind::RabbitMq => rabbitmq::delete(&self.url(), at).await,
            _ => kafka::delete(&self.url(), at).await,
        }
    }
}
