//! Redis and Valkey by `redis`: a stream with one group.

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, TlsCertificates, cmd};

use super::{Location, RawClient};
use crate::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// For ever, to a client that wants a number.
const NO_TIMEOUT: Duration = Duration::from_secs(3600);
const CONSUMER_GROUP: &str = "raw";

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
            // As below: who waits sets the limits.
            let patient = ClusterClientBuilder::new(nodes).connection_timeout(NO_TIMEOUT).response_timeout(NO_TIMEOUT);
            let client = patient.build().map_err(cannot("begin"))?;
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

/// The port of the living master that holds a key; none while there is none.
pub(crate) async fn master_port(url: &str, key: &str) -> Result<Option<u16>> {
    let mut client = Client::connect(&Location::parse(url, None)?).await?;
    let nodes: String = client.ask("ask for the nodes", cmd("CLUSTER").arg("NODES")).await?;
    let slot = client.ask("ask for a slot", cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
    Ok(nodes.lines().find(|line| holds(line, slot)).and_then(port_of))
}

/// True if a replica has all that its master has: only then does it take over when the master is lost.
pub(crate) async fn is_in_step(url: &str) -> Result<bool> {
    let mut client = Client::connect(&Location::parse(url, None)?).await?;
    let said: String = client.ask("ask for the replication", cmd("INFO").arg("replication")).await?;
    Ok(said.lines().any(|line| line.trim() == "master_link_status:up"))
}

#[async_trait]
impl RawClient for Client {
    async fn create(&mut self, name: &str) -> Result<()> {
        self.ask("create a stream", cmd("XGROUP").arg("CREATE").arg(name).arg(CONSUMER_GROUP).arg("0").arg("MKSTREAM"))
            .await
    }

    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        // No stream is made by the way: a destination that is gone must be seen to be gone.
        let add = cmd("XADD").arg(name).arg("NOMKSTREAM").arg("*").arg("text").arg(text).to_owned();
        let id: Option<String> = self.ask("add to a stream", &add).await?;
        id.map(drop).ok_or_else(|| Error::failed(format!("redis has no stream {name}")))
    }

    async fn take(&mut self, name: &str) -> Result<String> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(CONSUMER_GROUP).arg("one").arg("COUNT").arg(1).arg("STREAMS").arg(name).arg(">");
        loop {
            let reply: Option<StreamReadReply> = self.ask("read a stream", &read).await?;
            let key = reply.and_then(|reply| reply.keys.into_iter().next());
            if let Some(entry) = key.and_then(|key| key.ids.into_iter().next()) {
                let _: u64 = self.ask("acknowledge", cmd("XACK").arg(name).arg(CONSUMER_GROUP).arg(&entry.id)).await?;
                return entry.get("text").ok_or_else(|| Error::failed("redis gave back an entry without its text"));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
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

/// True if a line of `CLUSTER NODES` is of a living master that holds the slot.
fn holds(line: &str, slot: u16) -> bool {
    let fields: Vec<_> = line.split_whitespace().collect();
    let Some(flags) = fields.get(2) else { return false };
    let mut flags = flags.split(',');
    let ranges = fields.iter().skip(8).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    // `fail?` is a suspicion and `fail` a verdict: either way nobody can write there.
    flags.clone().any(|flag| flag == "master")
        && !flags.any(|flag| flag.starts_with("fail"))
        && ranges.into_iter().any(|range| range.contains(&slot))
}

/// The port in the second field, `host:port@bus,name`.
fn port_of(line: &str) -> Option<u16> {
    let address = line.split_whitespace().nth(1)?.split('@').next()?;
    address.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER_LINE: &str = "07c3 127.0.0.1:7001@17001,host myself,master - 0 0 1 connected 0-5460 [93-<-29]";

    /// A slot is found at the master that holds it, and its port in the address.
    #[test]
    fn a_line_of_cluster_nodes_is_read() {
        assert!(holds(MASTER_LINE, 0) && holds(MASTER_LINE, 5460) && !holds(MASTER_LINE, 5461));
        assert_eq!(port_of(MASTER_LINE), Some(7001));
    }

    /// A master that failed, or may have, leads nothing; a replica never does.
    #[test]
    fn only_a_living_master_leads() {
        for flags in ["master,fail", "master,fail?", "slave"] {
            assert!(!holds(&MASTER_LINE.replace("myself,master", flags), 7), "{flags}");
        }
    }
}
