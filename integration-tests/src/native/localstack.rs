//! LocalStack: SQS and SNS on one port, plain and TLS told apart by the first byte. Nothing is kept over a kill.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Recipe, Site, install, root};
use crate::tls::certificates;
use crate::{Door, Error, Result};

#[derive(Debug)]
pub(super) struct LocalStack;

impl Recipe for LocalStack {
    fn prepare(&self, site: &Site) -> Result<()> {
        for folder in ["state", "home"] {
            let path = site.file(folder);
            fs::create_dir_all(&path).map_err(Error::at(&path))?;
        }
        Ok(())
    }

    fn command(&self, site: &Site) -> Result<Command> {
        let mut command = root::command(&install::localstack_root(), "/opt/localstack/bin/python");
        command.args(["-m", "localstack.runtime.main"]);
        let address = site.doors.address(Door::Plain)?.to_string();
        command
            .env("HOME", site.file("home"))
            .env("TMPDIR", &site.folder)
            .env("FILESYSTEM_ROOT", site.file("state"))
            // Any other server binds every interface.
            .env("GATEWAY_SERVER", "twisted")
            .env("GATEWAY_LISTEN", &address)
            .env("LOCALSTACK_HOST", &address)
            .env("CUSTOM_SSL_CERT_PATH", certificates()?.server.bundle_file())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs([
            ("SERVICES", "sqs,sns"),
            ("EAGER_SERVICE_LOADING", "1"),
            ("DISABLE_EVENTS", "1"),
            ("SKIP_SSL_CERT_DOWNLOAD", "1"),
            ("DNS_ADDRESS", "0"),
            ("SQS_ENDPOINT_STRATEGY", "path"),
            ("SQS_DISABLE_CLOUDWATCH_METRICS", "1"),
            // Both by AWS' rules: a name is free again 60 s after its deletion.
            ("SQS_DELAY_PURGE_RETRY", "1"),
            ("SQS_DELAY_RECENTLY_DELETED", "1"),
        ]);
        Ok(command)
    }

    fn patience(&self) -> Duration {
        // It keeps nothing, so there is nothing to wait for.
        Duration::ZERO
    }
}
