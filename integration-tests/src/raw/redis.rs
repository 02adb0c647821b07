//! Redis and Valkey by `redis`: a stream with one group.

use std::time::Duration;

use async_trait::async_trait;
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, TlsCertificates, aio::MultiplexedConnection,
    cluster::ClusterClientBuilder, cluster_async::ClusterConnection, cmd, streams::StreamReadReply,
};

use super::{Location, RawClient};
use crate::{Error, Result};

const LOOK: Duration = Duration::from_millis(10);
const GROUP: &str = "raw";

/// Several hosts in the URL mean a cluster.
enum Connection {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

pub(super) struct Client {
    connection: Connection,
}

impl Client {
    pub(super) async fn connect(at: &Location) -> Result<Self> {
        let nodes = at.each_url();
        if nodes.len() > 1 {
            let client = ClusterClientBuilder::new(nodes).build().map_err(cannot("begin"))?;
            let connection = client.get_async_connection().await.map_err(cannot("connect to the cluster"))?;
            return Ok(Self { connection: Connection::Many(connection) });
        }
        let client = match at.trust()? {
            Some(authority) => {
                let trust = TlsCertificates { client_tls: None, root_cert: Some(authority.into_bytes()) };
                redis::Client::build_with_tls(at.url(), trust)
            }
            None => redis::Client::open(at.url()),
        }
        .map_err(cannot("begin"))?;
        // The caller sets the limits: by default an answer after 500 ms is an error.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let connection =
            client.get_multiplexed_async_connection_with_config(&config).await.map_err(cannot("connect"))?;
        Ok(Self { connection: Connection::One(connection) })
    }

    async fn ask<T: FromRedisValue>(&mut self, what: &'static str, command: &Cmd) -> Result<T> {
        match &mut self.connection {
            Connection::One(connection) => command.query_async(connection).await,
            Connection::Many(connection) => command.query_async(connection).await,
        }
        .map_err(cannot(what))
    }
}

/// What a node says of its cluster: a line a node, as `CLUSTER NODES` gives it, and the slot of a key.
pub(crate) async fn cluster_nodes(url: &str, key: &str) -> Result<(String, u16)> {
    let mut client = Client::connect(&Location::parse(url, None)?).await?;
    let nodes = client.ask("ask for the nodes", cmd("CLUSTER").arg("NODES")).await?;
    let slot = client.ask("ask for a slot", cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
    Ok((nodes, slot))
}

/// Whether a replica has all that its master has: only then does it take over when the master is lost.
pub(crate) async fn is_in_step(url: &str) -> Result<bool> {
    let mut client = Client::connect(&Location::parse(url, None)?).await?;
    let said: String = client.ask("ask for the replication", cmd("INFO").arg("replication")).await?;
    Ok(said.lines().any(|line| line.trim() == "master_link_status:up"))
}

#[async_trait]
impl RawClient for Client {
    async fn create(&mut self, name: &str) -> Result<()> {
        self.ask("create a stream", cmd("XGROUP").arg("CREATE").arg(name).arg(GROUP).arg("0").arg("MKSTREAM")).await
    }

    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        // No stream is made by the way: a destination that is gone must be seen to be gone.
        let add = cmd("XADD").arg(name).arg("NOMKSTREAM").arg("*").arg("text").arg(text).to_owned();
        let id: Option<String> = self.ask("add to a stream", &add).await?;
        id.map(drop).ok_or_else(|| Error::failed(format!("redis has no stream {name}")))
    }

    async fn take(&mut self, name: &str) -> Result<String> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("one").arg("COUNT").arg(1).arg("STREAMS").arg(name).arg(">");
        loop {
            let reply: Option<StreamReadReply> = self.ask("read a stream", &read).await?;
            let key = reply.and_then(|reply| reply.keys.into_iter().next());
            if let Some(entry) = key.and_then(|key| key.ids.into_iter().next()) {
                let _: u64 = self.ask("acknowledge", cmd("XACK").arg(name).arg(GROUP).arg(&entry.id)).await?;
                return entry.get("text").ok_or_else(|| Error::failed("redis gave back an entry without its text"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        self.ask("delete a stream", cmd("DEL").arg(name)).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Client").finish_non_exhaustive()
    }
}

fn cannot(what: &'static str) -> impl Fn(RedisError) -> Error {
    move |error| Error::caused(format!("redis' client could not {what}"), error)
}
