//! Redis and Valkey, which are started alike.
//!
//! Every write is in the append-only file and synced before it is answered. With the default, a sync each second, a write that
//! comes while a sync is under way waits in the process and is answered all the same: a SIGKILL then loses what was confirmed.

use std::process::Command;

use super::{Recipe, Site, install, root};
use crate::doors::accounts;
use crate::run::Claim;
use crate::tls::certificates;
use crate::{Door, Kind, Result};

/// A server, alone or a node of a cluster.
#[derive(Debug)]
pub(crate) struct Redis {
    kind: Kind,
    /// The port on which nodes speak to each other.
    bus: Option<Claim>,
}

impl Redis {
    pub(crate) fn alone(kind: Kind) -> Self {
        Self { kind, bus: None }
    }

    pub(crate) fn member(kind: Kind) -> Result<Self> {
        Ok(Self { kind, bus: Some(Claim::new()?) })
    }
}

impl Recipe for Redis {
    fn prepare(&self, site: &Site) -> Result<()> {
        let tls = certificates()?;
        let users = accounts(self.kind);
        let (folder, plain, encrypted) = (site.folder.display(), site.port(Door::Plain)?, site.port(Door::Tls)?);
        let (admin, limited) = (users.admin, users.limited);
        // Renaming its process, as it does by default, overwrites the environment by which we find it.
        let mut text = format!(
            "bind 127.0.0.1
port {plain}
tls-port {encrypted}
tls-cert-file {}
tls-key-file {}
tls-ca-cert-file {}
tls-auth-clients no
dir {folder}
daemonize no
set-proc-title no
appendonly yes
appendfsync always
save \"\"
user default on nopass ~* &* +@all
user {} on >{} ~* &* +@all
user {} on >{} ~* &* -@all +@connection +@read
",
            tls.server.certificate_file().display(),
            tls.server.key_file().display(),
            tls.authority.display(),
            admin.user,
            admin.password,
            limited.user,
            limited.password,
        );
        if let Some(bus) = &self.bus {
            text.push_str(&format!(
                "cluster-enabled yes
cluster-port {}
cluster-node-timeout 2000
cluster-announce-ip 127.0.0.1
cluster-announce-port {}
cluster-allow-replica-migration no
repl-diskless-sync-delay 0
",
                bus.port(),
                // Where a cluster sends its clients: past the proxy, no fault of the proxy would concern them.
                site.port(Door::Proxied)?,
            ));
        }
        site.write("server.conf", &text).map(drop)
    }

    fn command(&self, site: &Site) -> Result<Command> {
        let program = format!("/usr/bin/{}-server", self.kind);
        let mut command = root::command(&install::root(), &program);
        command.arg(site.file("server.conf"));
        Ok(command)
    }
}

/// The command line of the same server, for what only it offers: forming a cluster.
pub(crate) fn cli(kind: Kind) -> Command {
    root::command(&install::root(), &format!("/usr/bin/{kind}-cli"))
}
