//! The connection: the only owner of the client, and the supervisor that brings it back.
//!
//! A broker handle has three, to publish, to consume and to declare: RabbitMQ stops reading from a connection that has published
//! while it is short of memory or disk (`connection.blocked`), acknowledgements and declarations included.
//!
//! A channel that the broker closed leaves its number unusable in the client (lapin 4.12.3): every later channel of that number
//! fails with the old error. Such numbers are skipped, and a connection that has lost many of its 2,047 is replaced.
//! The client's own recovery is off: it restores connections and not what a channel held (lapin 4.12).

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::protocol::AMQPErrorKind;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::LongString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, DefaultConnectionBuilder, Event};
use messaging_core::{Error, ErrorKind, Health, HealthState, Host, Result};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Config;
use crate::error::{Call, closed, from_lapin, silent};

/// Interval at which the supervisor reads the connection's status: the client has no event for every way to end.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Time that closing a connection may take. Into a dead network it never ends (lapin 4.12).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest pause between two attempts to connect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Refused calls after which a connection is replaced: each costs one of its 2,047 channel numbers.
const SPOILT_CHANNELS_MAX: u32 = 1_000;

/// State of a connection at this moment.
#[derive(Clone, Debug)]
enum State {
    Up(Arc<Connection>),
    Down { since: Instant, why: String },
    Closed,
}

/// A connection that is brought back whenever it is lost.
#[derive(Debug)]
pub(crate) struct Link {
    role: &'static str,
    request_timeout: Duration,
    state: watch::Receiver<State>,
    blocked: watch::Receiver<Option<String>>,
    spoilt: Arc<SpoiltChannels>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    /// Ends the supervisor, which says goodbye to the broker, also when the link is merely dropped.
    end: DropGuard,
}

impl Link {
    /// Connects, and keeps it so.
    ///
    /// # Errors
    /// What the last of the hosts said.
    pub(crate) async fn open(config: Arc<Config>, role: &'static str) -> Result<Self> {
        let connection = Arc::new(connect(&config, role).await?);
        let (state, watched) = watch::channel(State::Up(connection.clone()));
        let (blocked, blocked_watched) = watch::channel(None);
        let end = CancellationToken::new();
        let request_timeout = config.request_timeout;
        let spoilt = Arc::<SpoiltChannels>::default();
        let supervisor = Supervisor { config, role, state, blocked, spoilt: spoilt.clone(), end: end.clone() };
        Ok(Self {
            role,
            request_timeout,
            state: watched,
            blocked: blocked_watched,
            spoilt,
            supervisor: Mutex::new(Some(tokio::spawn(supervisor.run(connection)))),
            end: end.drop_guard(),
        })
    }

    /// Opens a channel, waiting for the connection to be back until `by`.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`], or why there is no connection.
    pub(crate) async fn channel(&self, by: Instant) -> Result<Line> {
        let connection = self.connection(by).await?;
        let watch = Watch { connection, state: self.state.clone() };
        let by = by.min(Instant::now() + self.request_timeout);
        loop {
            return match timeout_at(by, watch.unless_lost(watch.connection.create_channel())).await {
                Ok(Ok(Ok(channel))) => Ok(Line { channel, watch }),
                // The broker refuses no channel in this way: it is the answer to an earlier channel of the same number.
                Ok(Ok(Err(error))) if is_of_channel(&error) => continue,
                Ok(Ok(Err(error))) => {
                    if matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached) {
                        self.spoilt.replace_if_many();
                    }
                    Err(from_lapin(&error, Call::Other))
                }
                Ok(Err(lost)) => Err(lost),
                Err(_) => Err(silent("opening a channel", self.request_timeout)),
            };
        }
    }

    /// Notes the error that a call on one of its channels came to.
    pub(crate) fn note(&self, error: &lapin::Error) {
        if is_of_channel(error) {
            self.spoilt.add();
        }
    }

    async fn connection(&self, by: Instant) -> Result<Arc<Connection>> {
        let mut state = self.state.clone();
        loop {
            let why = match &*state.borrow_and_update() {
                State::Up(connection) if connection.status().connected() => return Ok(connection.clone()),
                State::Up(_) => "it was lost".to_owned(),
                State::Down { why, .. } => why.clone(),
                State::Closed => return Err(closed()),
            };
            match timeout_at(by, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(closed()),
                Err(_) => {
                    return Err(Error::new(ErrorKind::Disconnected, format!("no connection to {}: {why}", self.role)));
                }
            }
        }
    }

    /// How the connection is.
    pub(crate) fn health(&self) -> Health {
        let state = match &*self.state.borrow() {
            State::Up(connection) if connection.status().connected() => Health::up(),
            State::Up(_) => Health::not_up(HealthState::Down, format!("the connection to {} was lost", self.role)),
            State::Down { since, why } => Health::not_up(
                HealthState::Down,
                format!("no connection to {} for {:.1} s: {why}", self.role, since.elapsed().as_secs_f32()),
            ),
            State::Closed => Health::not_up(HealthState::Down, "the broker was closed"),
        };
        match &*self.blocked.borrow() {
            Some(reason) => state.and(Health::not_up(
                HealthState::Degraded,
                format!("the broker takes no messages on the connection to {} ({reason}): publishes wait", self.role),
            )),
            None => state,
        }
    }

    /// Says goodbye, until `by`.
    pub(crate) async fn close(&self, by: Instant) {
        self.end_token().cancel();
        let supervisor = self.supervisor.lock().take();
        if let Some(mut supervisor) = supervisor
            && timeout_at(by, &mut supervisor).await.is_err()
        {
            supervisor.abort();
        }
    }

    fn end_token(&self) -> &CancellationToken {
        self.end.token()
    }
}

/// Channel numbers of the current connection that the broker's refusals have made unusable.
#[derive(Debug, Default)]
struct SpoiltChannels {
    count: AtomicU32,
    replace: Notify,
}

impl SpoiltChannels {
    fn add(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 >= SPOILT_CHANNELS_MAX {
            self.replace.notify_one();
        }
    }

    /// The client has no number left, and refusals are a reason for it.
    fn replace_if_many(&self) {
        if self.count.load(Ordering::Relaxed) >= SPOILT_CHANNELS_MAX / 4 {
            self.replace.notify_one();
        }
    }
}

/// Whether the broker closed a channel with this error.
fn is_of_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(said) if matches!(said.kind(), AMQPErrorKind::Soft(_)))
}

/// A channel, and whether its connection is still there.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    channel: Channel,
    watch: Watch,
}

impl Line {
    /// Most bytes of a frame on this connection.
    pub(crate) fn frame_max(&self) -> usize {
        self.watch.connection.configuration().frame_max() as usize
    }

    /// Waits for the connection to be lost.
    pub(crate) async fn lost(&self) {
        self.watch.lost().await;
    }

    /// Runs a call of the client, which may never answer once the connection is lost (lapin 4.12).
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] if the connection was lost first.
    pub(crate) async fn unless_lost<T>(&self, call: impl Future<Output = T>) -> Result<T> {
        self.watch.unless_lost(call).await
    }
}

impl Deref for Line {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

#[derive(Clone, Debug)]
struct Watch {
    connection: Arc<Connection>,
    state: watch::Receiver<State>,
}

impl Watch {
    async fn lost(&self) {
        let mut state = self.state.clone();
        // An error says that the supervisor has ended.
        let _ =
            state.wait_for(|state| !matches!(state, State::Up(other) if Arc::ptr_eq(other, &self.connection))).await;
    }

    async fn unless_lost<T>(&self, call: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            done = call => Ok(done),
            () = self.lost() => Err(Error::new(ErrorKind::Disconnected, "the connection was lost before it answered")),
        }
    }
}

/// Brings one connection back for as long as its link lives.
struct Supervisor {
    config: Arc<Config>,
    role: &'static str,
    state: watch::Sender<State>,
    blocked: watch::Sender<Option<String>>,
    spoilt: Arc<SpoiltChannels>,
    end: CancellationToken,
}

impl Supervisor {
    async fn run(self, mut connection: Arc<Connection>) {
        loop {
            let why = tokio::select! {
                why = self.watch_over(&connection) => why,
                () = self.spoilt.replace.notified() => match connect(&self.config, self.role).await {
                    // Calls on the old one see it as lost, and are repeated on the new one.
                    Ok(fresh) => {
                        let old = std::mem::replace(&mut connection, Arc::new(fresh));
                        self.spoilt.count.store(0, Ordering::Relaxed);
                        self.state.send_replace(State::Up(connection.clone()));
                        let goodbye = old.close(200, "replaced".into());
                        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(role = self.role, %error, "a connection could not be replaced, for now");
                        continue;
                    }
                },
                () = self.end.cancelled() => {
                    let goodbye = connection.close(200, "closed by the application".into());
                    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
                    self.state.send_replace(State::Closed);
                    return;
                }
            };
            tracing::warn!(role = self.role, why, "the connection to RabbitMQ was lost");
            self.blocked.send_replace(None);
            self.state.send_replace(State::Down { since: Instant::now(), why });
            tokio::select! {
                back = self.reconnect() => connection = back,
                () = self.end.cancelled() => {
                    self.state.send_replace(State::Closed);
                    return;
                }
            }
            tracing::info!(role = self.role, "the connection to RabbitMQ is back");
            self.spoilt.count.store(0, Ordering::Relaxed);
            self.state.send_replace(State::Up(connection.clone()));
        }
    }

    /// Returns why the connection ended.
    async fn watch_over(&self, connection: &Connection) -> String {
        let mut events = connection.events_listener();
        let mut look = interval(STATUS_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut why = "the broker or the network closed it".to_owned();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        self.blocked.send_replace(Some(reason));
                    }
                    Some(Event::ConnectionUnblocked) => {
                        self.blocked.send_replace(None);
                    }
                    Some(Event::Error(error)) => why = from_lapin(&error, Call::Other).text().to_owned(),
                    Some(_) => {}
                    None => return why,
                },
                _ = look.tick() => {}
            }
            if !connection.status().connected() {
                return why;
            }
        }
    }

    async fn reconnect(&self) -> Arc<Connection> {
        let mut pause = Duration::from_millis(50);
        loop {
            match connect(&self.config, self.role).await {
                Ok(connection) => return Arc::new(connection),
                Err(error) => self.state.send_modify(|state| {
                    if let State::Down { why, .. } = state {
                        error.to_string().clone_into(why);
                    }
                }),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }
}

/// Connects to the first host that answers.
async fn connect(config: &Config, role: &'static str) -> Result<Connection> {
    let mut last = None;
    for host in config.access.url().hosts() {
        match connect_to(config, host, role).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Config, "the address names no host")))
}

async fn connect_to(config: &Config, host: &Host, role: &'static str) -> Result<Connection> {
    let port = host.port.unwrap_or(if config.encrypted { 5671 } else { 5672 });
    let place = format!("{}:{port}", host.name);
    let properties =
        ConnectionProperties::default().with_connection_name(LongString::from(format!("messaging: {role}")));
    let connecting = async {
        DefaultConnectionBuilder::new()?
            .with_uri(address(config, host, port))
            .with_properties(properties)
            .with_tls_config(tls(config))
            .connect()
            .await
    };
    match timeout(config.connect_timeout, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain(config, &place, &from_lapin(&error, Call::Connect))),
        Err(_) => {
            let next = if config.encrypted {
                "does the port speak TLS, and is it RabbitMQ's?"
            } else {
                "is it RabbitMQ's port, and does it want amqps:// instead of amqp://?"
            };
            Err(Error::new(
                ErrorKind::Timeout,
                format!("{place} took the connection and did not answer within {:?}: {next}", config.connect_timeout),
            ))
        }
    }
}

/// Says where it happened, and what to do.
fn explain(config: &Config, place: &str, error: &Error) -> Error {
    let said = config.access.url().redact(error.text());
    let user = config.access.user().unwrap_or("guest");
    let lower = said.to_lowercase();
    let certificate = config.encrypted && (lower.contains("certificate") || lower.contains("unknownissuer"));
    // An alert is the other side's word: it was this side's certificate that did not please.
    let ours = certificate && lower.contains("alert");
    let (kind, next) = match error.kind() {
        ErrorKind::Unauthenticated => (
            ErrorKind::Unauthenticated,
            format!("check the password of user {user:?}; the user guest may log in from localhost only"),
        ),
        ErrorKind::NotFound | ErrorKind::Forbidden => (
            error.kind(),
            format!("check that the virtual host {:?} exists and user {user:?} may use it", config.virtual_host),
        ),
        _ if ours => (ErrorKind::Unauthenticated, "the broker does not take the one of certificate_file".to_owned()),
        _ if certificate => {
            (ErrorKind::Config, "set ca_file to the authority that signed the broker's certificate".to_owned())
        }
        ErrorKind::Unreachable if lower.contains("refused") => {
            (ErrorKind::Unreachable, "is the broker running, and is this its port?".to_owned())
        }
        kind if config.encrypted => (kind, "does this port speak TLS, and is it RabbitMQ's?".to_owned()),
        kind => (kind, "is this RabbitMQ's port, and does it want amqps:// instead of amqp://?".to_owned()),
    };
    Error::new(kind, format!("{place}: {said}: {next}"))
}

fn address(config: &Config, host: &Host, port: u16) -> AMQPUri {
    let password = config.access.url().password().map_or("guest", |password| password.expose_secret());
    let millis = u64::try_from(config.connect_timeout.as_millis()).unwrap_or(u64::MAX);
    AMQPUri {
        scheme: if config.encrypted { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: config.access.user().unwrap_or("guest").to_owned(),
                password: password.to_owned(),
            },
            host: host.name.clone(),
            port,
        },
        vhost: config.virtual_host.clone(),
        query: AMQPQueryString {
            heartbeat: Some(u16::try_from(config.heartbeat.as_secs()).unwrap_or(u16::MAX)),
            connection_timeout: Some(millis),
            ..AMQPQueryString::default()
        },
    }
}

fn tls(config: &Config) -> OwnedTLSConfig {
    let identity = config.access.identity().map(|identity| OwnedIdentity::PKCS8 {
        pem: identity.certificate.clone().into_bytes(),
        key: identity.key.expose_secret().as_bytes().to_vec(),
    });
    OwnedTLSConfig { identity, cert_chain: config.access.authority().map(str::to_owned) }
}
