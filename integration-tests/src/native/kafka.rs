//! Kafka: a node that is broker and controller, alone or one of several.
//!
//! Clients go where a broker's *advertised* address sends them, so each door is a listener of its own: the one behind the
//! proxy advertises the proxy.

use std::path::PathBuf;
use std::process::Command;

use super::{Recipe, Site, install, java};
use crate::doors::accounts;
use crate::run::Claim;
use crate::tls::certificates;
use crate::{Accounts, Door, Error, Kind, Result};

/// Any id of the right form: a cluster's data lives as long as the cluster.
const CLUSTER_ID: &str = "bWVzc2FnaW5nLXRlc3RzIQ";
/// How a login may be proved without sending the password.
const SCRAM_MECHANISMS: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

/// A node as its peers know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) id: usize,
    pub(crate) controller: u16,
}

/// A node, with the peers that form its cluster.
#[derive(Debug)]
pub(crate) struct Kafka {
    own: Peer,
    peers: Vec<Peer>,
    _controller: Claim,
}

impl Kafka {
    pub(crate) fn alone() -> Result<Self> {
        let controller = Claim::new()?;
        let own = Peer { id: 1, controller: controller.port() };
        Ok(Self::member(own, vec![own], controller))
    }

    pub(crate) fn member(own: Peer, peers: Vec<Peer>, controller: Claim) -> Self {
        Self { own, peers, _controller: controller }
    }

    fn properties(&self, site: &Site) -> Result<String> {
        let address = |door| site.doors.address(door);
        let (plain, proxied) = (address(Door::Plain)?, address(Door::Proxied)?);
        let (login, tls) = (address(Door::Login)?, address(Door::Tls)?);
        let tls_login = address(Door::TlsLogin)?;
        let (behind, controller) = (site.doors.behind_proxy(), self.own.controller);
        let voters: Vec<_> =
            self.peers.iter().map(|peer| format!("{}@127.0.0.1:{}", peer.id, peer.controller)).collect();
        let identity = certificates()?;
        let logins = logins("login") + &logins("tlslogin");
        let (copies, in_sync) = if self.peers.len() > 1 { (3, 2) } else { (1, 1) };
        let id = self.own.id;
        let voters = voters.join(",");
        let (mut listeners, mut advertised, mut protocols, mut threads) =
            (String::new(), String::new(), String::new(), String::new());
        for (at, lane) in site.doors.lanes().iter().enumerate() {
            listeners += &format!(",LANE{at}://{}", lane.listener);
            advertised += &format!(",LANE{at}://{}", lane.advertised);
            protocols += &format!(",LANE{at}:PLAINTEXT");
            // One test at a time goes there.
            threads += &format!("listener.name.lane{at}.num.network.threads=1\n");
        }
        let logs = site.file("logs");
        let (logs, bundle, authority) =
            (logs.display(), identity.server.bundle_file().display(), identity.authority.display());
        Ok(format!(
            "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAIN://{plain},PROXIED://{behind},LOGIN://{login},TLS://{tls},TLSLOGIN://{tls_login},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=PLAIN://{plain},PROXIED://{proxied},LOGIN://{login},TLS://{tls},TLSLOGIN://{tls_login}{advertised}
listener.security.protocol.map=PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,TLSLOGIN:SASL_SSL,CONTROLLER:PLAINTEXT{protocols}
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
{logins}ssl.keystore.type=PEM
ssl.keystore.location={bundle}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.tls.ssl.client.auth=requested
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{admin};User:ANONYMOUS
log.dirs={logs}
num.partitions=1
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=3000
group.consumer.session.timeout.ms=6000
auto.create.topics.enable=false
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.timeout.ms=500
{threads}",
            admin = accounts(Kind::Kafka).admin.user
        ))
    }
}

/// Accounts of a listener: by PLAIN as is written here, by SCRAM as the formatted storage says.
fn logins(listener: &str) -> String {
    let Accounts { admin, limited, .. } = accounts(Kind::Kafka);
    let at = format!("listener.name.{listener}");
    let mut lines = format!(
        "{at}.sasl.enabled.mechanisms=PLAIN,{}
{at}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{}=\"{}\" user_{}=\"{}\";
",
        SCRAM_MECHANISMS.join(","),
        admin.user,
        admin.password,
        limited.user,
        limited.password
    );
    for mechanism in SCRAM_MECHANISMS {
        let mechanism = mechanism.to_ascii_lowercase();
        lines += &format!(
            "{at}.{mechanism}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
        );
    }
    lines
}

impl Recipe for Kafka {
    fn prepare(&self, site: &Site) -> Result<()> {
        let properties = site.write("server.properties", &self.properties(site)?)?;
        let mut format = java("-Xmx128m", &site.folder, &jars());
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(properties);
        let Accounts { admin, limited, .. } = accounts(Kind::Kafka);
        for (mechanism, account) in SCRAM_MECHANISMS.into_iter().flat_map(|name| [(name, &admin), (name, &limited)]) {
            let login = format!("{mechanism}=[name={},password={}]", account.user, account.password);
            format.args(["--add-scram", &login]);
        }
        let output = format.output().map_err(|error| Error::caused("cannot run java for kafka's storage", error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::failed(format!("kafka's storage could not be formatted: {}", said.trim())))
    }

    fn command(&self, site: &Site) -> Result<Command> {
        let mut command = java("-Xmx384m", &site.folder, &jars());
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.arg("kafka.Kafka").arg(site.file("server.properties"));
        Ok(command)
    }

    fn administration(&self, site: &Site, arguments: &[&str]) -> Option<Command> {
        let mut command = java("-Xmx128m", &site.folder, &jars());
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        let server = site.doors.address(Door::Plain).ok()?;
        let (class, rest) = arguments.split_first()?;
        command.arg(class).args(["--bootstrap-server", &server.to_string()]).args(rest);
        Some(command)
    }
}

/// One of Kafka's own tools, by the name of its class: the script that usually starts it is not installed.
///
/// # Errors
/// [`ErrorKind::Missing`](crate::ErrorKind::Missing) where Kafka or Java is not installed.
pub fn kafka_tool(class: &str) -> Result<Command> {
    install::check(Kind::Kafka)?;
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
    command.arg("-cp").arg(jars().join("*")).arg(class);
    Ok(command)
}

/// The version of the installed server, by the name of its archive.
///
/// # Errors
/// If the archive is not there.
#[cfg(all(feature = "conformance", feature = "kafka"))]
pub(crate) fn kafka_version() -> Result<String> {
    let jars = jars();
    let version = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        Some(name.strip_prefix("kafka-server-")?.strip_suffix(".jar")?)
            .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
            .map(str::to_owned)
    };
    let found = std::fs::read_dir(&jars).map_err(Error::at(&jars))?.flatten().find_map(version);
    found.ok_or_else(|| Error::missing(format!("{} has no archive of the server", jars.display())))
}

fn jars() -> PathBuf {
    install::cache().join(format!("kafka-{}/libs", install::KAFKA_VERSION))
}
