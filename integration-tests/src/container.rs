//! The container way: the official image by default, through `testcontainers`.
//!
//! Only for servers that CI runs this way too: RabbitMQ, Redis and Valkey. The others' official images are named nowhere
//! here, because a path that nobody runs is a path that does not work.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::KillContainerOptions;
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt, TestcontainersError};

use crate::doors::{Doors, local};
use crate::native::install::find;
use crate::raw::round_trip;
use crate::run::{self, Claim, MARK_VARIABLE, Run};
use crate::{Account, Accounts, Broker, Door, Error, Kind, Proxy, Result, Route, Way};

/// The label by which the run's end finds its containers; its value is the run's id.
const RUN_LABEL: &str = "messaging-broker-run";
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// With the time to fetch an image over a slow line.
const START_LIMIT: Duration = Duration::from_secs(180);
const READY_LIMIT: Duration = Duration::from_secs(90);
const LAST_LINES: usize = 25;
const PATIENCE_SECONDS: i32 = 20;

/// Connects to the container engine, or reports where it was looked for.
///
/// # Errors
/// [`Missing`](crate::ErrorKind::Missing) if none does, or nobody could remove its containers after this process is killed.
pub(crate) async fn engine() -> Result<Docker> {
    let absent = |error: String| {
        Error::missing(format!(
            "no container engine answers ({error}): start one, or set DOCKER_HOST to where it listens"
        ))
    };
    if find("docker").is_none() {
        return Err(Error::missing(
            "the command docker, which removes the containers of a run that was killed, is missing: run \
             integration-tests/install.sh --containers",
        ));
    }
    let docker = Docker::connect_with_defaults().map_err(|error| absent(error.to_string()))?;
    match tokio::time::timeout(PING_TIMEOUT, docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(error)) => Err(absent(error.to_string())),
        Err(_) => Err(absent(format!("silent for {PING_TIMEOUT:?}"))),
    }
}

/// Starts a server of its own in a container.
pub(crate) async fn launch(kind: Kind) -> Result<Contained> {
    let (image, port) = image(kind)?;
    let docker = engine().await?;
    let run = Run::current()?;
    // Says to the run's end that there may be containers, and where.
    let note = run.folder().join("engine");
    std::fs::write(&note, env::var("DOCKER_HOST").unwrap_or_default()).map_err(Error::at(&note))?;
    let claim = Claim::new()?;
    let (name, tag) = name_and_tag(&image);
    let request = GenericImage::new(name, tag)
        .with_exposed_port(port.tcp())
        // A port of ours: one that the engine chooses would be another after each restart.
        .with_mapped_port(claim.port(), port.tcp())
        .with_label(RUN_LABEL, run.id())
        // Its processes are seen from here, and are this run's like any other.
        .with_env_var(MARK_VARIABLE, run.id())
        .with_startup_timeout(START_LIMIT);
    let started = tokio::time::timeout(START_LIMIT, request.start()).await;
    let container = started
        .map_err(|_| Error::missing(format!("{kind}: image {image} did not start within {START_LIMIT:?}")))?
        .map_err(|error| Error::missing(format!("{kind}: image {image} cannot be started: {error}")))?;
    let doors = Doors::at(kind, local(claim.port())).await?;
    let broker = Contained { kind, docker, container: Some(container), doors, _claim: claim };
    broker.ready().await?;
    Ok(broker)
}

fn image(kind: Kind) -> Result<(String, u16)> {
    let (official, port) = match kind {
        Kind::RabbitMq => ("rabbitmq:4-management", 5672),
        Kind::Redis => ("redis:8", 6379),
        Kind::Valkey => ("valkey/valkey:8", 6379),
        _ => return Err(Error::missing(format!("{kind} is started natively only: run integration-tests/install.sh"))),
    };
    let variable = format!("MESSAGING_{}_IMAGE", kind.name().to_uppercase());
    Ok((env::var(variable).unwrap_or_else(|_| official.to_owned()), port))
}

/// Takes `registry:port/name:tag` apart. A colon before the last slash is the registry's port; without a tag it is `latest`,
/// as for the engine. Of `name@sha256:digest` the digest is taken for the tag: put together again it is what it was.
fn name_and_tag(image: &str) -> (&str, &str) {
    let path = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[path..].rfind(':') {
        Some(colon) => (&image[..path + colon], &image[path + colon + 1..]),
        None => (image, "latest"),
    }
}

/// A server in a container, removed when dropped.
#[derive(Debug)]
pub(crate) struct Contained {
    kind: Kind,
    docker: Docker,
    /// Taken by `drop` only.
    container: Option<ContainerAsync<GenericImage>>,
    doors: Doors,
    _claim: Claim,
}

impl Contained {
    fn container(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.container.as_ref().ok_or_else(|| Error::failed(format!("the container of {} is gone", self.kind)))
    }

    async fn ready(&self) -> Result<()> {
        let kind = self.kind;
        let answered =
            run::until(format!("{kind} answering"), READY_LIMIT, || async { round_trip(kind, &self.url()).await });
        match answered.await {
            Ok(()) => Ok(()),
            Err(error) => Err(Error::new(error.kind(), format!("{error}; its container {}", self.last_words().await))),
        }
    }

    /// The end of what the server printed.
    async fn last_words(&self) -> String {
        let Ok(container) = self.container() else { return "is gone".to_owned() };
        let (output, errors) = (container.stdout_to_vec().await, container.stderr_to_vec().await);
        let said = [output.unwrap_or_default(), errors.unwrap_or_default()].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().rev().take(LAST_LINES).collect();
        format!("says at its end:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    fn cannot(&self, what: &'static str) -> impl Fn(TestcontainersError) -> Error {
        let kind = self.kind;
        move |error| Error::caused(format!("cannot {what} the container of {kind}"), error)
    }
}

#[async_trait]
impl Broker for Contained {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn way(&self) -> Way {
        Way::Container
    }

    fn address(&self, door: Door) -> Result<SocketAddr> {
        self.doors.address(door)
    }

    fn url_at(&self, door: Door, account: Option<&Account>) -> Result<String> {
        self.doors.url(door, account)
    }

    fn proxy(&self) -> &Proxy {
        self.doors.proxy()
    }

    fn accounts(&self) -> Option<&Accounts> {
        // An image has its first user, and none of those who may do less.
        None
    }

    fn log_file(&self) -> Option<PathBuf> {
        None
    }

    async fn start(&self) -> Result<()> {
        self.container()?.start().await.map_err(self.cannot("start"))?;
        self.ready().await
    }

    async fn stop(&self) -> Result<()> {
        self.container()?.stop_with_timeout(Some(PATIENCE_SECONDS)).await.map_err(self.cannot("stop"))
    }

    async fn kill(&self) -> Result<()> {
        let container = self.container()?;
        let how = KillContainerOptions { signal: "KILL".to_owned() };
        let killed = self.docker.kill_container(container.id(), Some(how)).await;
        killed.map_err(|error| Error::caused(format!("cannot kill the container of {}", self.kind), error))?;
        run::until(format!("the end of {}", self.kind), READY_LIMIT, || async {
            match container.is_running().await.map_err(self.cannot("look at"))? {
                true => Err(Error::failed("it still runs")),
                false => Ok(()),
            }
        })
        .await
    }

    async fn pause(&self) -> Result<()> {
        self.container()?.pause().await.map_err(self.cannot("pause"))
    }

    async fn resume(&self) -> Result<()> {
        self.container()?.unpause().await.map_err(self.cannot("resume"))
    }

    fn url(&self) -> String {
        self.doors.plain_url()
    }

    async fn route(&self) -> Result<Route> {
        self.doors.route(&self.url()).await
    }

    fn proxied_url(&self) -> String {
        self.doors.proxied_url()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        // On a thread of its own, because a runtime cannot be waited for on one of a runtime's threads.
        let removing = std::thread::spawn(move || run::runtime().block_on(container.rm()));
        // A container that cannot be removed now is removed by its label when the run ends.
        let _ = removing.join();
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_tag;

    /// The registry's port is no tag.
    #[test]
    fn an_image_is_split_at_its_tag_and_nowhere_else() {
        assert_eq!(name_and_tag("redis"), ("redis", "latest"));
        assert_eq!(name_and_tag("redis:8"), ("redis", "8"));
        assert_eq!(name_and_tag("mirror.example:5000/redis"), ("mirror.example:5000/redis", "latest"));
        assert_eq!(name_and_tag("mirror.example:5000/library/redis:8"), ("mirror.example:5000/library/redis", "8"));
        assert_eq!(name_and_tag("mirror.example/redis@sha256:0123"), ("mirror.example/redis@sha256", "0123"));
    }
}
