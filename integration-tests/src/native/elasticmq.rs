//! ElasticMQ: SQS alone, exact in time, and kept over a kill by its database.

use std::process::Command;

use super::{Recipe, Site, install, java};
use crate::{Door, Result};

#[derive(Debug)]
pub(super) struct ElasticMq;

impl Recipe for ElasticMq {
    fn prepare(&self, site: &Site) -> Result<()> {
        let port = site.port(Door::Plain)?;
        let database = site.file("messages");
        let text = format!(
            "include classpath(\"application.conf\")
node-address {{ protocol = http, host = 127.0.0.1, port = {port}, context-path = \"\" }}
rest-sqs {{ enabled = true, bind-hostname = \"127.0.0.1\", bind-port = {port}, sqs-limits = strict }}
rest-stats {{ enabled = false }}
messages-storage {{ enabled = true, uri = \"jdbc:h2:{};WRITE_DELAY=0\" }}
",
            database.display()
        );
        site.write("server.conf", &text).map(drop)
    }

    fn command(&self, site: &Site) -> Result<Command> {
        let jars = install::cache().join(format!("elasticmq-{}/libs", install::ELASTICMQ_VERSION));
        let mut command = java("-Xmx128m", &site.folder, &jars);
        command.arg(format!("-Dconfig.file={}", site.file("server.conf").display()));
        command.arg("org.elasticmq.server.Main");
        Ok(command)
    }
}
