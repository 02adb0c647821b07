//! Installed servers that the native way needs: their places on this machine, and the missing ones.

use std::env;
use std::path::PathBuf;

use crate::{Error, Kind, Result};

// The versions that `install.sh` installs; a test compares the two files.
pub(crate) const KAFKA_VERSION: &str = "4.3.0";
pub(super) const ARTEMIS_VERSION: &str = "2.44.0";
pub(super) const ELASTICMQ_VERSION: &str = "1.7.1";
pub(super) const LOCALSTACK: &str = "2026.3.0";

/// The folder that `install.sh` fills.
pub(crate) fn cache() -> PathBuf {
    let given = env::var_os("MESSAGING_BROKER_CACHE").map(PathBuf::from);
    given.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/messaging-brokers"))
}

/// The Debian root with the servers, current unless `MESSAGING_BROKER_SUITE` asks for the older.
pub(crate) fn root() -> PathBuf {
    cache().join(format!("debian-{}", env::var("MESSAGING_BROKER_SUITE").as_deref().unwrap_or("trixie")))
}

/// Why this machine cannot start this server natively.
///
/// # Errors
/// [`Missing`](crate::ErrorKind::Missing), naming what is missing and how to get it.
pub(crate) fn check(kind: Kind) -> Result<()> {
    let needs: Vec<PathBuf> = match kind {
        Kind::RabbitMq => vec![root().join(".complete"), root().join("usr/lib/rabbitmq/bin/rabbitmq-server")],
        Kind::Redis => vec![root().join(".complete"), root().join("usr/bin/redis-server")],
        Kind::Valkey => vec![root().join(".complete"), root().join("usr/bin/valkey-server")],
        Kind::Sqs => vec![localstack_root().join(format!("opt/localstack/.complete-{LOCALSTACK}"))],
        Kind::Kafka => vec![cache().join(format!("kafka-{KAFKA_VERSION}/libs"))],
        Kind::ElasticMq => vec![cache().join(format!("elasticmq-{ELASTICMQ_VERSION}/libs"))],
        Kind::ActiveMq => vec![cache().join(format!("artemis-{ARTEMIS_VERSION}/bin/artemis"))],
    };
    let lacking =
        |what: String| Err(Error::missing(format!("{kind}: {what} is missing: run integration-tests/install.sh")));
    if let Some(path) = needs.iter().find(|path| !path.exists()) {
        return lacking(path.display().to_string());
    }
    let java = matches!(kind, Kind::Kafka | Kind::ElasticMq | Kind::ActiveMq);
    if java && find("java").is_none() {
        return lacking("java".to_owned());
    }
    if !java && !rustix::process::geteuid().is_root() {
        return Err(Error::missing(format!(
            "{kind}: its Debian root needs mounts, and so the superuser: run as root, or name a running server in {}",
            kind.variable()
        )));
    }
    Ok(())
}

/// LocalStack needs the current root's Python whatever suite is asked for.
pub(super) fn localstack_root() -> PathBuf {
    cache().join("debian-trixie")
}

/// A program on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script installs the versions that the library looks for.
    #[test]
    fn the_script_and_the_library_agree_on_versions() {
        let script = include_str!("../../install.sh");
        let line = format!(
            "KAFKA_VERSION={KAFKA_VERSION} ARTEMIS_VERSION={ARTEMIS_VERSION} ELASTICMQ_VERSION={ELASTICMQ_VERSION} LOCALSTACK={LOCALSTACK}"
        );
        assert!(script.lines().any(|found| found == line), "install.sh lacks the line {line}");
    }
}
