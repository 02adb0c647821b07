//! ActiveMQ Artemis: an instance written by hand, as small as the server allows. Its ports speak AMQP 1.0 alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Recipe, Site, install, java};
use crate::doors::accounts;
use crate::tls::certificates;
use crate::{Door, Error, Kind, Result};

const LOGIN_MODULE: &str = "activemq {
   org.apache.activemq.artemis.spi.core.security.jaas.PropertiesLoginModule required
   org.apache.activemq.jaas.properties.user=\"users.properties\"
   org.apache.activemq.jaas.properties.role=\"roles.properties\";
};
";

#[derive(Debug)]
pub(super) struct Artemis;

impl Recipe for Artemis {
    fn prepare(&self, site: &Site) -> Result<()> {
        for folder in ["etc", "data", "tmp"] {
            let path = site.file(folder);
            fs::create_dir_all(&path).map_err(Error::at(&path))?;
        }
        let users = accounts(Kind::ActiveMq);
        let (admin, limited) = (users.admin, users.limited);
        let lines = format!("{}={}\n{}={}\n", admin.user, admin.password, limited.user, limited.password);
        site.write("etc/users.properties", &lines)?;
        site.write("etc/roles.properties", &format!("all={}\nreaders={}\n", admin.user, limited.user))?;
        site.write("etc/login.config", LOGIN_MODULE)?;
        // Looked for and not needed: managing goes by AMQP.
        site.write("etc/management.xml", "<management-context xmlns=\"http://activemq.apache.org/schema\"/>\n")?;
        let configuration = site.write("etc/broker.xml", &broker(site)?)?;
        site.write("etc/bootstrap.xml", &bootstrap(&configuration.display().to_string()))?;
        Ok(())
    }

    fn command(&self, site: &Site) -> Result<Command> {
        let home = install::cache().join(format!("artemis-{}", install::ARTEMIS_VERSION));
        let etc = site.file("etc");
        let mut command = java("-Xmx512m", &site.file("tmp"), &home.join("lib"));
        let property = |name: &str, value: PathBuf| format!("-D{name}={}", value.display());
        command
            .arg(property("artemis.home", home))
            .arg(property("artemis.instance", site.folder.clone()))
            .arg(property("java.security.auth.login.config", etc.join("login.config")))
            .arg(property("artemis.instance.etc", etc))
            .arg(property("data.dir", site.file("data")))
            .args(["-Dlog4j2.disableJmx=true", "--add-opens", "java.base/jdk.internal.misc=ALL-UNNAMED"])
            .args(["org.apache.activemq.artemis.boot.Artemis", "run"]);
        Ok(command)
    }
}

fn bootstrap(configuration: &str) -> String {
    format!(
        "<broker xmlns=\"http://activemq.apache.org/schema\">
  <jaas-security domain=\"activemq\"/>
  <server configuration=\"file:{configuration}\"/>
</broker>
"
    )
}

fn broker(site: &Site) -> Result<String> {
    let (plain, tls) = (site.doors.address(Door::Plain)?, site.doors.address(Door::Tls)?);
    let bundle = certificates()?.server.bundle_file().display();
    let (data, amqp) =
        (site.file("data"), "protocols=AMQP;amqpCredits=1000;amqpLowCredits=300;amqpDuplicateDetection=true");
    let data = data.display();
    let readers = ["consume", "browse", "createAddress", "createDurableQueue", "createNonDurableQueue"];
    let others = ["send", "manage", "deleteAddress", "deleteDurableQueue", "deleteNonDurableQueue"];
    let permission = |name: &&str, roles: &str| format!("<permission type=\"{name}\" roles=\"{roles}\"/>");
    let permissions: String = (readers.iter().map(|name| permission(name, "all,readers")))
        .chain(others.iter().map(|name| permission(name, "all")))
        .collect();
    // The critical analyser would take a paused process for a broken one, and end it.
    Ok(format!(
        "<configuration xmlns=\"urn:activemq\"><core xmlns=\"urn:activemq:core\">
  <name>tests</name>
  <persistence-enabled>true</persistence-enabled>
  <journal-type>NIO</journal-type>
  <journal-min-files>2</journal-min-files>
  <paging-directory>{data}/paging</paging-directory>
  <bindings-directory>{data}/bindings</bindings-directory>
  <journal-directory>{data}/journal</journal-directory>
  <large-messages-directory>{data}/large-messages</large-messages-directory>
  <critical-analyzer>false</critical-analyzer>
  <max-disk-usage>100</max-disk-usage>
  <acceptors>
    <acceptor name=\"plain\">tcp://{plain}?{amqp}</acceptor>
    <acceptor name=\"tls\">tcp://{tls}?sslEnabled=true;keyStoreType=PEM;keyStorePath={bundle};{amqp}</acceptor>
  </acceptors>
  <security-settings><security-setting match=\"#\">{permissions}</security-setting></security-settings>
  <address-settings>
    <address-setting match=\"#\">
      <dead-letter-address>DLQ</dead-letter-address>
      <expiry-address>ExpiryQueue</expiry-address>
      <auto-delete-queues>false</auto-delete-queues>
      <auto-delete-addresses>false</auto-delete-addresses>
    </address-setting>
  </address-settings>
  <addresses>
    <address name=\"DLQ\"><anycast><queue name=\"DLQ\"/></anycast></address>
    <address name=\"ExpiryQueue\"><anycast><queue name=\"ExpiryQueue\"/></anycast></address>
  </addresses>
</core></configuration>
"
    ))
}
