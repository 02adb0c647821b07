//! A TCP proxy that misbehaves on request.
//!
//! It stands in front of a server and forwards bytes until told otherwise: [`Proxy::cut`] resets connections,
//! [`Proxy::black_hole`] lets nothing through without closing anything, [`Proxy::delay`] and [`Proxy::throttle`] make the
//! network slow, [`Proxy::refuse`] closes the port; [`Proxy::heal`] ends whatever is on. Faults but a cut can be set for one
//! direction alone: a broker that gets a message and whose answer is lost is the case where an outcome is unknown.
//!
//! Bytes are delayed and held, never lost or changed: as with a real network under TCP, a connection that outlives a
//! fault goes on where it was.

mod pump;
mod recording;
mod route;
mod tls_front;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use route::Lanes;
pub use route::Route;
pub use tls_front::TlsFront;

use crate::Result;
use crate::run::{self, Claim};
use recording::Recording;

/// Before the next connection is accepted, after one could not be.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Fault applied to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// They arrive.
    #[default]
    None,
    /// They are held until the fault ends. New connections are accepted and hear nothing: a kernel offers no way to
    /// leave a connection attempt unanswered from user space.
    BlackHole,
    /// They arrive this much later, at full throughput.
    Delay(Duration),
    /// They arrive at this many bytes a second, each connection for itself. Zero is taken as one.
    Throttle(u64),
}

/// Which bytes a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Answers,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    requests: Fault,
    answers: Fault,
    /// Grows with every cut: a connection that began before the latest is reset.
    cuts: u64,
}

impl State {
    fn of(&self, direction: Direction) -> Fault {
        match direction {
            Direction::Requests => self.requests,
            Direction::Answers => self.answers,
        }
    }
}

/// A proxy on a port of its own in front of one address; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    upstream: SocketAddr,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    recording: Arc<Recording>,
    /// The listener is gone while refusing.
    listener: Mutex<Option<JoinHandle<()>>>,
    _claim: Claim,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicUsize,
    /// By connection that is open: how many cuts there had been when it was accepted.
    open_since: watch::Sender<HashMap<u64, u64>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `upstream`, which need not be there yet: while it is not,
    /// connections are accepted and reset.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let claim = Claim::new()?;
        let address = SocketAddr::from(([127, 0, 0, 1], claim.port()));
        let proxy = Self {
            address,
            upstream,
            state: watch::Sender::new(State::default()),
            counts: Arc::default(),
            recording: Arc::default(),
            listener: Mutex::new(None),
            _claim: claim,
        };
        proxy.listen().await?;
        Ok(proxy)
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Acquire)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Resets every open connection, both sides; new ones are welcome.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Like [`Self::cut`], and returns when every connection that was open is reset: what was held of it is lost for good.
    pub async fn cut_off(&self) {
        self.cut();
        let cuts = self.state.borrow().cuts;
        let mut open = self.counts.open_since.subscribe();
        // The sender lives as long as `self`.
        let _ = open.wait_for(|open| open.values().all(|born| *born >= cuts)).await;
    }

    /// Keeps a copy of what servers answer from now on, for [`Self::answers`]; forgets what was kept before.
    pub fn record_answers(&self) {
        self.recording.begin();
    }

    /// Answers since [`Self::record_answers`], each connection for itself, at most 1 MiB of each: also what a fault
    /// keeps from the client.
    pub fn answers(&self) -> Vec<Vec<u8>> {
        self.recording.kept()
    }

    /// Sets the fault of one direction, in place of what was on there.
    pub fn set(&self, direction: Direction, fault: Fault) {
        self.state.send_modify(|state| match direction {
            Direction::Requests => state.requests = fault,
            Direction::Answers => state.answers = fault,
        });
    }

    /// Lets nothing through, either way, and closes nothing.
    pub fn black_hole(&self) {
        self.set_both(Fault::BlackHole);
    }

    /// Makes every byte arrive `by` later, either way: a round trip takes twice that longer.
    pub fn delay(&self, by: Duration) {
        self.set_both(Fault::Delay(by));
    }

    /// Lets this many bytes a second through, each way and connection for itself.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.set_both(Fault::Throttle(bytes_per_second));
    }

    /// Closes the port, so that connecting is refused, and resets what is open.
    ///
    /// Returns when the port is closed.
    pub async fn refuse(&self) {
        let listener = self.lock().take();
        if let Some(task) = listener {
            task.abort();
            // The port is closed once the task is dropped, and the task is once awaited.
            let _ = task.await;
        }
        self.cut();
    }

    /// Ends all faults: held bytes go on, a closed port opens.
    ///
    /// # Errors
    /// If the port cannot be opened again.
    pub async fn heal(&self) -> Result<()> {
        self.recording.end();
        self.state.send_modify(|state| *state = State { cuts: state.cuts, ..State::default() });
        let refused = self.lock().is_none();
        if refused { self.listen().await } else { Ok(()) }
    }

    fn set_both(&self, fault: Fault) {
        self.state.send_modify(|state| {
            state.requests = fault;
            state.answers = fault;
        });
    }

    async fn listen(&self) -> Result<()> {
        let listener = run::listen(self.address).await?;
        let task = run::spawn(accept(
            listener,
            self.upstream,
            self.state.clone(),
            Arc::clone(&self.counts),
            Arc::clone(&self.recording),
        ));
        *self.lock() = Some(task);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = self.lock().take() {
            task.abort();
        }
        self.cut();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Proxy")
            .field("address", &self.address)
            .field("upstream", &self.upstream)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    recording: Arc<Recording>,
) {
    loop {
        // A failure here concerns the connection (reset before it was accepted), not the listener; or this process has no file left.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let connection = Connection::open(state.subscribe(), Arc::clone(&counts), Arc::clone(&recording));
        // Counted once it can be cut: whoever has seen the count may rely on that.
        counts.accepted.fetch_add(1, Ordering::Release);
        run::spawn(connection.carry(client, upstream));
    }
}

struct Connection {
    id: u64,
    state: watch::Receiver<State>,
    /// How many cuts there had been when it was accepted: one that comes before its task first runs concerns it too.
    born: u64,
    counts: Arc<Counts>,
    recording: Arc<Recording>,
}

impl Connection {
    fn open(state: watch::Receiver<State>, counts: Arc<Counts>, recording: Arc<Recording>) -> Self {
        let id = counts.accepted.load(Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        let born = state.borrow().cuts;
        counts.open_since.send_modify(|open| {
            open.insert(id, born);
        });
        Self { id, state, born, counts, recording }
    }

    async fn carry(self, client: TcpStream, upstream: SocketAddr) {
        let mut state = self.state.clone();
        let forward =
            pump::forward(client, upstream, self.state.clone(), |answer| self.recording.note(self.id, answer));
        tokio::select! {
            // Dropping the forwarder resets both sides.
            _ = state.wait_for(|state| state.cuts > self.born) => {}
            () = forward => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        self.counts.open_since.send_modify(|open| {
            open.remove(&self.id);
        });
    }
}
