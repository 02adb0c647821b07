//! RabbitMQ: a node with everything it writes in its own folder, and an `epmd` that is ours.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::{Recipe, Site, install, root};
use crate::doors::accounts;
use crate::run::{Claim, Folder, Process};
use crate::tls::certificates;
use crate::{Door, Error, Result};

/// Shared by the nodes of a cluster; good for nothing outside of this run.
const ERLANG_COOKIE: &str = "messaging-tests";

/// Erlang's port mapper, started by us and in the foreground: one that a node starts would outlive the node.
#[derive(Debug)]
pub(crate) struct Epmd {
    claim: Claim,
    _process: Process,
    _folder: Folder,
}

impl Epmd {
    pub(crate) fn start() -> Result<Self> {
        let claim = Claim::new()?;
        let folder = Folder::create(&format!("epmd-{}", claim.port()))?;
        let mut command = root::command(&install::root(), "/usr/bin/epmd");
        command.args(["-port", &claim.port().to_string(), "-address", "127.0.0.1"]);
        let process = Process::start("epmd", command, &folder.path().join("epmd.log"))?;
        Ok(Self { claim, _process: process, _folder: folder })
    }
}

/// A node, alone or to be joined to others.
#[derive(Debug)]
pub(crate) struct RabbitMq {
    epmd: Arc<Epmd>,
    distribution: Claim,
    /// All nodes of the cluster, this one among them; empty alone.
    cluster: Vec<String>,
}

impl RabbitMq {
    pub(crate) fn alone() -> Result<Self> {
        Ok(Self::member(Arc::new(Epmd::start()?), Claim::new()?, Vec::new()))
    }

    /// A node that forms a cluster with those named; all share the port mapper.
    pub(crate) fn member(epmd: Arc<Epmd>, distribution: Claim, cluster: Vec<String>) -> Self {
        Self { epmd, distribution, cluster }
    }

    /// The name of the node that speaks to its peers on this port.
    pub(crate) fn node_name(distribution: &Claim) -> String {
        format!("r{}@localhost", distribution.port())
    }

    fn configuration(&self, site: &Site) -> Result<String> {
        let tls = certificates()?;
        let mut lines = vec![
            format!("listeners.tcp.1 = 127.0.0.1:{}", site.port(Door::Plain)?),
            format!("listeners.ssl.1 = 127.0.0.1:{}", site.port(Door::Tls)?),
            format!("ssl_options.cacertfile = {}", tls.authority.display()),
            format!("ssl_options.certfile = {}", tls.server.certificate_file().display()),
            format!("ssl_options.keyfile = {}", tls.server.key_file().display()),
            "ssl_options.verify = verify_peer".to_owned(),
            "ssl_options.fail_if_no_peer_cert = false".to_owned(),
            "management.tcp.ip = 127.0.0.1".to_owned(),
            format!("management.tcp.port = {}", site.port(Door::Management)?),
            format!("load_definitions = {}", site.file("definitions.json").display()),
            "log.console = true".to_owned(),
            "log.console.level = warning".to_owned(),
            "log.file = false".to_owned(),
            // The disk is the machine's: its alarm would block publishers for a reason no test is about.
            "disk_free_limit.absolute = 50MB".to_owned(),
        ];
        if !self.cluster.is_empty() {
            lines.push("cluster_formation.peer_discovery_backend = classic_config".to_owned());
            let nodes = self.cluster.iter().enumerate();
            lines.extend(nodes.map(|(at, node)| format!("cluster_formation.classic_config.nodes.{} = {node}", at + 1)));
        }
        Ok(lines.join("\n") + "\n")
    }
}

impl Recipe for RabbitMq {
    fn prepare(&self, site: &Site) -> Result<()> {
        for folder in ["home", "mnesia", "log", "schema", "generated"] {
            let path = site.file(folder);
            fs::create_dir_all(&path).map_err(Error::at(&path))?;
        }
        // Erlang refuses a cookie that others can read.
        let cookie = site.write("home/.erlang.cookie", ERLANG_COOKIE)?;
        fs::set_permissions(&cookie, Permissions::from_mode(0o400)).map_err(Error::at(&cookie))?;
        site.write("enabled_plugins", "[rabbitmq_management, rabbitmq_stream].\n")?;
        // The stream plugin listens by itself, on a port that other servers here would want too.
        site.write("advanced.config", "[{rabbitmq_stream, [{tcp_listeners, []}]}].\n")?;
        site.write("definitions.json", &definitions())?;
        site.write("rabbitmq.conf", &self.configuration(site)?)?;
        Ok(())
    }

    fn command(&self, site: &Site) -> Result<Command> {
        let mut command = root::command(&install::root(), "/usr/lib/rabbitmq/bin/rabbitmq-server");
        let file = |name: &str| site.file(name);
        let in_folder: [(&str, PathBuf); 10] = [
            ("HOME", file("home")),
            ("RABBITMQ_MNESIA_BASE", file("mnesia")),
            ("RABBITMQ_LOG_BASE", file("log")),
            ("RABBITMQ_SCHEMA_DIR", file("schema")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
            ("RABBITMQ_PID_FILE", file("pid")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_CONF_ENV_FILE", Path::new("/dev/null").to_owned()),
        ];
        command.envs(in_folder);
        command
            .env("RABBITMQ_NODENAME", Self::node_name(&self.distribution))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", site.port(Door::Plain)?.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.port().to_string())
            .env("ERL_EPMD_PORT", self.epmd.claim.port().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Its start script would stay as a parent to pass signals on; said to be under a supervisor, it becomes
            // the server, so that the pid we know is the one to pause and kill.
            .env("RUNNING_UNDER_SYSTEMD", "1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 2:2",
            );
        Ok(command)
    }

    fn administration(&self, site: &Site, arguments: &[&str]) -> Option<Command> {
        let mut command = root::command(&install::root(), "/usr/lib/rabbitmq/bin/rabbitmqctl");
        command.env("HOME", site.file("home")).env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        command.env("ERL_EPMD_PORT", self.epmd.claim.port().to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.args(["--node", &Self::node_name(&self.distribution)]).args(arguments);
        Some(command)
    }
}

/// The users at first start, as the server's own export would write them.
fn definitions() -> String {
    let accounts = accounts(crate::Kind::RabbitMq);
    let user = |name: &str, password: &str, tags: &str| serde_json::json!({ "name": name, "password": password, "tags": tags });
    let may = |name: &str, write: &str| serde_json::json!({ "user": name, "vhost": "/", "configure": ".*", "write": write, "read": ".*" });
    serde_json::json!({
        "users": [
            user(accounts.admin.user, accounts.admin.password, "administrator"),
            user(accounts.limited.user, accounts.limited.password, ""),
        ],
        "vhosts": [{ "name": "/" }],
        "permissions": [may(accounts.admin.user, ".*"), may(accounts.limited.user, "^$")],
    })
    .to_string()
}
