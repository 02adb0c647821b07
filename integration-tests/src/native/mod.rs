//! The native way: a server process of this run.

mod activemq;
mod elasticmq;
pub(crate) mod install;
mod kafka;
mod localstack;
mod rabbitmq;
mod redis;
mod root;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::net::TcpStream;

pub use kafka::kafka_tool;
#[cfg(all(feature = "conformance", feature = "kafka"))]
pub(crate) use kafka::kafka_version;
pub(crate) use kafka::{Kafka, Peer as KafkaPeer};
pub(crate) use rabbitmq::{Epmd, RabbitMq};
pub(crate) use redis::{Redis, cli as redis_cli};

use crate::doors::Doors;
use crate::raw::round_trip;
use crate::run::{self, Folder, Process, kill_marked};
use crate::{Account, Accounts, Broker, Door, Error, Kind, Proxy, Result, Route, Way};

/// Marks the processes of one server, beside the mark of the run.
const INSTANCE_VARIABLE: &str = "MESSAGING_BROKER_INSTANCE";
const READY_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Properties particular to one server.
pub(crate) trait Recipe: fmt::Debug + Send + Sync {
    /// Writes what the server finds when it first starts: configuration, accounts, formatted storage.
    fn prepare(&self, site: &Site) -> Result<()>;

    /// The command that runs it in the foreground.
    fn command(&self, site: &Site) -> Result<Command>;

    /// The command of the server's administrators; none if it has none here.
    fn administration(&self, _site: &Site, _arguments: &[&str]) -> Option<Command> {
        None
    }

    /// How long it may take to end when asked; zero for one that is not worth asking.
    fn patience(&self) -> Duration {
        STOP_LIMIT
    }
}

/// Where one server lives.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    pub(crate) doors: Doors,
}

impl Site {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        std::fs::write(&path, text).map_err(Error::at(&path))?;
        Ok(path)
    }

    /// The port of a door that the recipe itself asked for.
    pub(crate) fn port(&self, door: Door) -> Result<u16> {
        self.doors.address(door).map(|address| address.port())
    }
}

/// A server process with its data, both gone when dropped.
#[derive(Debug)]
pub(crate) struct NativeBroker {
    kind: Kind,
    name: String,
    recipe: Box<dyn Recipe>,
    process: std::sync::Mutex<Option<Process>>,
    site: Site,
    /// Where a message must go through before the server counts as ready, if not by itself.
    trip: Option<String>,
    erlang_name: Option<String>,
    /// After `site` and `process`, so that it is removed last.
    _folder: Folder,
}

/// Starts a server of its own natively.
pub(crate) async fn launch(kind: Kind) -> Result<NativeBroker> {
    install::check(kind)?;
    let recipe: Box<dyn Recipe> = match kind {
        Kind::RabbitMq => Box::new(RabbitMq::alone()?),
        Kind::Kafka => Box::new(Kafka::alone()?),
        Kind::Redis | Kind::Valkey => Box::new(Redis::alone(kind)),
        Kind::Sqs => Box::new(localstack::LocalStack),
        Kind::ElasticMq => Box::new(elasticmq::ElasticMq),
        Kind::ActiveMq => Box::new(activemq::Artemis),
    };
    let broker = NativeBroker::prepare(kind, recipe, Doors::with_lanes(kind).await?)?;
    broker.start().await?;
    Ok(broker)
}

impl NativeBroker {
    /// Makes everything ready and starts nothing.
    pub(crate) fn prepare(kind: Kind, recipe: Box<dyn Recipe>, doors: Doors) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{kind}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder::create(&name)?;
        let site = Site { folder: folder.path().to_owned(), doors };
        recipe.prepare(&site).map_err(|error| error.within(format!("cannot set up {name}")))?;
        Ok(Self {
            kind,
            name,
            recipe,
            process: std::sync::Mutex::new(None),
            site,
            trip: None,
            erlang_name: None,
            _folder: folder,
        })
    }

    /// The same server, known to Erlang by this name.
    pub(crate) fn named(mut self, name: String) -> Self {
        self.erlang_name = Some(name);
        self
    }

    pub(crate) fn erlang_name(&self) -> Option<String> {
        self.erlang_name.clone()
    }

    /// The same server, ready when a message goes through there: a node that holds a part of the data cannot
    /// promise a place for any name.
    pub(crate) fn ready_by(mut self, url: String) -> Self {
        self.trip = Some(url);
        self
    }

    /// Starts the process and does not wait for it to answer.
    pub(crate) fn spawn(&self) -> Result<()> {
        let mut process = self.lock();
        if process.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Ok(());
        }
        let mut command = self.recipe.command(&self.site)?;
        command.env(INSTANCE_VARIABLE, self.instance());
        *process = Some(Process::start(&self.name, command, &self.log())?);
        Ok(())
    }

    /// Waits until a message went through.
    pub(crate) async fn ready(&self) -> Result<()> {
        // A server may open its listeners one after another.
        let own: Vec<_> = self.site.doors.own().collect();
        let url = self.trip.clone().unwrap_or_else(|| self.url());
        let answered = run::until(format!("{} answering", self.name), READY_LIMIT, || async {
            for at in &own {
                let connected = TcpStream::connect(at).await;
                connected.map_err(|error| Error::caused(format!("nobody listens at {at}"), error))?;
            }
            round_trip(self.kind, &url).await
        });
        tokio::select! {
            answered = answered => answered,
            // A server that ended will not answer: no use in waiting on.
            ended = self.death() => Err(ended),
        }
    }

    /// An error with the log's end, if the process is gone.
    pub(crate) fn must_live(&self) -> Result<()> {
        match self.lock().as_mut() {
            Some(process) => process.must_live(),
            None => Err(Error::failed(format!("{} was not started", self.name))),
        }
    }

    /// Resolves when the process ends.
    pub(crate) async fn death(&self) -> Error {
        loop {
            if let Err(error) = self.must_live() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn instance(&self) -> String {
        // Two runs may have a `kafka-0` each.
        self.site.folder.display().to_string()
    }

    fn log(&self) -> PathBuf {
        self.site.file("server.log")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        match self.lock().as_mut() {
            Some(process) => process.signal(signal),
            None => Err(Error::failed(format!("{} is not running", self.name))),
        }
    }
}

#[async_trait]
impl Broker for NativeBroker {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn way(&self) -> Way {
        Way::Native
    }

    fn address(&self, door: Door) -> Result<SocketAddr> {
        self.site.doors.address(door)
    }

    fn url_at(&self, door: Door, account: Option<&Account>) -> Result<String> {
        self.site.doors.url(door, account)
    }

    fn proxy(&self) -> &Proxy {
        self.site.doors.proxy()
    }

    fn accounts(&self) -> Option<&Accounts> {
        self.site.doors.accounts()
    }

    fn log_file(&self) -> Option<PathBuf> {
        Some(self.log())
    }

    async fn start(&self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    async fn stop(&self) -> Result<()> {
        // Taken out, so that no lock is held while it ends.
        let process = self.lock().take();
        match process {
            Some(mut process) => process.stop(self.recipe.patience()).await,
            None => Ok(()),
        }
    }

    async fn kill(&self) -> Result<()> {
        let process = self.lock().take();
        process.map_or(Ok(()), |mut process| process.kill())
    }

    async fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        // A signal is delivered soon, not at once.
        run::until(format!("{} standing still", self.name), STOP_LIMIT, || async {
            match self.lock().as_ref().map(Process::is_stopped) {
                Some(true) => Ok(()),
                _ => Err(Error::failed("it still moves")),
            }
        })
        .await
    }

    async fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn url(&self) -> String {
        self.site.doors.plain_url()
    }

    async fn route(&self) -> Result<Route> {
        self.site.doors.route(&self.url()).await
    }

    fn proxied_url(&self) -> String {
        self.site.doors.proxied_url()
    }

    async fn administer(&self, arguments: &[&str]) -> Result<String> {
        let command = self.recipe.administration(&self.site, arguments);
        let none = || Error::unsupported(format!("{} has no command line here, asked for {arguments:?}", self.kind));
        let command = command.ok_or_else(none)?;
        let cannot = |error: std::io::Error| Error::caused(format!("cannot administer {}", self.name), error);
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.map_err(cannot)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let complained = String::from_utf8_lossy(&output.stderr);
        Err(Error::failed(format!("{} did not do {arguments:?}: {said}{complained}", self.name)))
    }
}

impl Drop for NativeBroker {
    fn drop(&mut self) {
        drop(self.lock().take());
        kill_marked(INSTANCE_VARIABLE, &self.instance());
    }
}

/// `java` with what all servers here want: little memory, no files outside of the server's folder.
fn java(memory: &str, folder: &Path, jars: &Path) -> Command {
    let mut command = Command::new("java");
    // Performance data would be left in the machine's temporary folder after a SIGKILL.
    command.args([memory, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
    command.arg(format!("-Djava.io.tmpdir={}", folder.display()));
    command.arg("-cp").arg(jars.join("*")).current_dir(folder);
    command
}
