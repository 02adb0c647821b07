//! The server during one case: a namespace of its own, a line of its own where that is needed, and the powers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use messaging_conformance::{Line, Power, RawMessage, Stage, WrongAddress};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, Destination, Error, ErrorKind, Message, Names, Namespace, QueueName, Source,
    join,
};
use tokio::task::JoinHandle;

use super::{
    Foreign, Setup,
    means::{self, Means, Place},
    servers::{Server, Servers, Turn},
    trouble,
    wrong::WrongPlaces,
};
use crate::{
    Route,
    proxy::{Direction, Fault},
    run::{self, MARK, Run},
};

const URL: &str = "MESSAGING_CONFORMANCE_URL";
const NAMESPACE: &str = "MESSAGING_CONFORMANCE_NAMESPACE";

/// What a slow line does: a round trip takes a fifth of a second longer, and requests trickle.
const LATE: Duration = Duration::from_millis(200);
const TRICKLE: u64 = 64 * 1024;
/// How long a publish whose answer is to be lost may take to be stored.
const STORED: Duration = Duration::from_secs(60);

/// The broker during one case, or in a child of one.
pub(super) struct RealStage {
    setup: Arc<Setup>,
    lead: Lead,
    address: BrokerUrl,
    namespace: Namespace,
    /// None in a child, which only connects.
    ground: Option<Ground>,
}

/// What the powers work on.
struct Ground {
    server: Server,
    means: Arc<dyn Means>,
    route: Option<Route>,
    wrong: Option<WrongPlaces>,
    /// The task that waits for a publish to be stored whose answer is held back.
    losing: Mutex<Option<JoinHandle<()>>>,
    /// Held until the case is over.
    _turn: Option<Turn>,
}

/// What leads to a stage's broker, from another process too.
#[derive(Debug)]
pub(super) struct Lead {
    url: String,
    namespace: String,
}

impl Lead {
    /// What the parent of this process left in the environment.
    pub(super) fn given() -> Option<Self> {
        Some(Self { url: std::env::var(URL).ok()?, namespace: std::env::var(NAMESPACE).ok()? })
    }
}

impl RealStage {
    /// Prepares for a case with these needs: finds its server, and waits for its turn if it may break it.
    pub(super) async fn begin(setup: &Arc<Setup>, servers: &Servers, needs: &[Power]) -> crate::Result<Self> {
        let (server, turn) = servers.obtain(needs).await?;
        let on_the_line = [Power::Cut, Power::Line, Power::SlowLine, Power::LoseAnswers];
        let route = match &server {
            Server::One(broker) if needs.iter().any(|need| on_the_line.contains(need)) => Some(broker.route().await?),
            _ => None,
        };
        let wrong = match &server {
            Server::One(broker) if needs.contains(&Power::WrongAddresses) => {
                Some(WrongPlaces::prepare(setup, &**broker).await?)
            }
            _ => None,
        };
        let url = route.as_ref().map_or_else(|| server.url(), |route| route.url().to_owned());
        let namespace = format!("c-{:08x}", rand::random::<u32>());
        let means = Arc::from(means::of(setup.kind, &server)?);
        let ground = Ground { server, means, route, wrong, losing: Mutex::default(), _turn: turn };
        Self::at(setup, Lead { url, namespace }, Some(ground)).map_err(|error| crate::Error::failed(error.to_string()))
    }

    /// The stage of a child, where the case has begun already.
    pub(super) fn of_a_child(setup: &Arc<Setup>, lead: Lead) -> messaging_core::Result<Self> {
        Self::at(setup, lead, None)
    }

    fn at(setup: &Arc<Setup>, lead: Lead, ground: Option<Ground>) -> messaging_core::Result<Self> {
        let (address, namespace) = (BrokerUrl::parse(&lead.url)?, Namespace::parse(&lead.namespace)?);
        Ok(Self { setup: Arc::clone(setup), lead, address, namespace, ground })
    }

    fn ground(&self) -> messaging_core::Result<&Ground> {
        self.ground.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "a child of the suite has no powers"))
    }

    fn route(&self) -> messaging_core::Result<&Route> {
        let none = "the case did not say that it needs a line of its own";
        self.ground()?.route.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, none))
    }

    fn name(&self, part: &str) -> String {
        join(Some(&self.namespace), &[part])
    }

    fn place(&self, destination: &Destination) -> messaging_core::Result<Place> {
        match destination {
            Destination::Queue(queue) => Ok(Place::Queue(self.name(queue.as_str()))),
            Destination::Topic(topic) => Ok(Place::Topic(self.name(topic.as_str()))),
            Destination::Reply(_) => Err(Error::new(ErrorKind::Internal, "a raw client publishes to no reply address")),
        }
    }

    /// What everything of this case begins with at the broker.
    fn prefix(&self) -> String {
        self.name("")
    }

    async fn publish(&self, to: &Destination, message: &Foreign) -> messaging_core::Result<()> {
        self.ground()?.means.publish(&self.place(to)?, message).await.map_err(trouble)
    }
}

#[async_trait]
impl Stage for RealStage {
    fn options(&self) -> ConnectOptions {
        let on_nodes = matches!(&self.ground, Some(Ground { server: Server::Nodes(_), .. }));
        ConnectOptions::new(self.address.clone())
            .with_namespace(self.namespace.clone())
            .with_settings(self.setup.settings(on_nodes))
    }

    async fn connect(&self, options: ConnectOptions) -> messaging_core::Result<Arc<dyn Broker>> {
        self.setup.connect(options).await
    }

    async fn sweep(&self, _made: &[Destination]) -> messaging_core::Result<usize> {
        let ground = self.ground()?;
        if let Some(route) = &ground.route {
            // A case that failed may have left it down, and an adapter that was dropped says goodbye over it.
            route.proxy().heal().await.map_err(trouble)?;
        }
        let left_over = ground.means.sweep(&self.prefix()).await.map_err(trouble);
        ground.means.close().await;
        left_over
    }

    async fn restart(&self, how: Power) -> messaging_core::Result<()> {
        let Server::One(broker) = &self.ground()?.server else {
            return Err(Error::new(ErrorKind::Internal, "a cluster is not restarted as a whole"));
        };
        let done = async {
            if how == Power::Kill {
                broker.kill().await?
            } else {
                broker.stop().await?
            }
            broker.start().await
        };
        done.await.map_err(trouble)
    }

    async fn cut(&self) -> messaging_core::Result<()> {
        self.route()?.proxy().cut_off().await;
        Ok(())
    }

    async fn set_line(&self, line: Line) -> messaging_core::Result<()> {
        let proxy = self.route()?.proxy();
        match line {
            Line::Up => proxy.heal().await.map_err(trouble)?,
            Line::Down => {
                proxy.refuse().await;
                proxy.cut_off().await;
            }
            Line::BlackHole => proxy.black_hole(),
            Line::Slow => {
                proxy.set(Direction::Requests, Fault::Throttle(TRICKLE));
                proxy.set(Direction::Answers, Fault::Delay(LATE));
            }
        }
        Ok(())
    }

    async fn remove_queue(&self, queue: &QueueName) -> messaging_core::Result<()> {
        self.ground()?.means.remove_queue(&self.name(queue.as_str())).await.map_err(trouble)
    }

    async fn lose_answers(&self, count: u32) -> messaging_core::Result<()> {
        let (proxy, means) = (Arc::clone(self.route()?.proxy()), Arc::clone(&self.ground()?.means));
        let prefix = self.prefix();
        let before = means.before_storing(&prefix).await.map_err(trouble)?;
        proxy.record_answers();
        proxy.set(Direction::Answers, Fault::BlackHole);
        let task = run::spawn(async move {
            // If nothing is published, the line stays silent until the case is over, and the case says so.
            let stored = run::until("a publish is stored", STORED, || async {
                match means.has_stored(&prefix, before, count, &proxy).await? {
                    true => Ok(()),
                    false => Err(crate::Error::failed("not yet")),
                }
            });
            let _ = stored.await;
            // The answers that are held go with their connections.
            proxy.cut_off().await;
            let _ = proxy.heal().await;
        });
        let earlier = self.ground()?.losing.lock().unwrap_or_else(PoisonError::into_inner).replace(task);
        if let Some(earlier) = earlier {
            earlier.abort();
        }
        Ok(())
    }

    async fn fail_dead_letters(&self, source: &Source, failing: bool) -> messaging_core::Result<()> {
        let dead = Names::new(Some(self.namespace.clone())).dead(source);
        self.ground()?.means.set_refusing(&dead, failing).await.map_err(trouble)
    }

    async fn consumers(&self, source: &Source) -> messaging_core::Result<usize> {
        self.ground()?.means.consumers(&source.full_name(Some(&self.namespace))).await.map_err(trouble)
    }

    async fn publish_raw(
        &self,
        to: &Destination,
        payload: &[u8],
        (name, value): (&str, &str),
    ) -> messaging_core::Result<()> {
        let headers = vec![(name.to_owned(), value.as_bytes().to_vec())];
        self.publish(to, &Foreign { payload: Some(payload.to_vec()), headers, ..Foreign::default() }).await
    }

    async fn publish_unreadable(&self, to: &Destination) -> messaging_core::Result<bool> {
        match &self.setup.unreadable {
            Some(message) => self.publish(to, message).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn receive_raw(&self, queue: &QueueName, _published: &Message) -> messaging_core::Result<RawMessage> {
        let taken = self.ground()?.means.take(&self.name(queue.as_str())).await.map_err(trouble)?;
        Ok((self.setup.unpack)(taken))
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut variables =
            vec![(URL.to_owned(), self.lead.url.clone()), (NAMESPACE.to_owned(), self.lead.namespace.clone())];
        // Whoever outlives this process is killed for it.
        if let Ok(run) = Run::current() {
            variables.push((MARK.to_owned(), run.id().to_owned()));
        }
        variables
    }

    fn wrong_addresses(&self) -> Vec<WrongAddress> {
        let wrong = self.ground.as_ref().and_then(|ground| ground.wrong.as_ref());
        wrong.map(WrongPlaces::addresses).unwrap_or_default()
    }

    async fn lose_leader(&self, of: &Destination, down_for: Duration) -> messaging_core::Result<()> {
        let Server::Nodes(cluster) = &self.ground()?.server else {
            return Err(Error::new(ErrorKind::Internal, "the case did not say that it needs a cluster"));
        };
        let (Place::Queue(name) | Place::Topic(name)) = self.place(of)?;
        let lost = async {
            let leader = cluster.node(cluster.leader(&name).await?);
            leader.kill().await?;
            tokio::time::sleep(down_for).await;
            leader.start().await
        };
        lost.await.map_err(trouble)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let losing = self.losing.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = losing.take() {
            task.abort();
        }
    }
}
