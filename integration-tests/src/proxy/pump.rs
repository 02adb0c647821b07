//! Carrying one connection's bytes under faults.
//!
//! Reading and writing are apart, with a bounded queue of time-stamped pieces between: so a delay costs no throughput,
//! and a black hole takes in what a socket's buffers would, then pushes back.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Direction, Fault, State};

const PIECE_BYTES: usize = 16 * 1024;
/// Pieces between reader and writer: 4 MiB at most.
const QUEUED_PIECES: usize = 256;
/// A throttled connection writes this often, so that small rates are steady and not in jumps.
const THROTTLE_INTERVAL: Duration = Duration::from_millis(20);

type Piece = (Instant, Vec<u8>);

/// Forwards until both sides have closed, or one has failed; dropped before, it resets both.
/// Every piece that the server answers is shown to `see` when it is read.
pub(super) async fn forward(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut state: watch::Receiver<State>,
    see: impl Fn(&[u8]),
) {
    // Without lingering, dropping a socket with nothing more to say sends a reset: the sign of a broken connection.
    if client.set_zero_linger().is_err() {
        return;
    }
    // The server must not hear of a connection whose first bytes would not have reached it.
    if state.wait_for(|state| state.requests != Fault::BlackHole).await.is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    if server.set_zero_linger().is_err() || server.set_nodelay(true).is_err() || client.set_nodelay(true).is_err() {
        return;
    }
    // Borrowed halves, because an owned one says an orderly end when it is dropped, before any reset.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let requests = one_way(from_client, to_server, Direction::Requests, state.clone(), |_| {});
    let answers = one_way(from_server, to_client, Direction::Answers, state, see);
    // An error on one side ends both; an end of file is passed on, and the other direction goes on.
    let _ = tokio::try_join!(requests, answers);
}

async fn one_way(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    state: watch::Receiver<State>,
    see: impl Fn(&[u8]),
) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
    tokio::try_join!(read(from, sender, see), write(receiver, to, direction, state)).map(drop)
}

async fn read(mut from: ReadHalf<'_>, pieces: mpsc::Sender<Piece>, see: impl Fn(&[u8])) -> std::io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        piece.truncate(length);
        see(&piece);
        if pieces.send((Instant::now(), piece)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut pieces: mpsc::Receiver<Piece>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    while let Some((taken, piece)) = pieces.recv().await {
        let mut rest = piece.as_slice();
        while !rest.is_empty() {
            let share = admit(taken, rest.len(), direction, &mut state).await?;
            to.write_all(&rest[..share]).await?;
            rest = &rest[share..];
        }
    }
    // An end of file is a byte like others: a hole holds it too.
    admit(Instant::now(), 1, direction, &mut state).await?;
    to.shutdown().await?;
    // An orderly end: what is still in the socket's buffer must arrive, so no reset when it is dropped.
    Ok(set_socket_linger(to.as_ref(), None)?)
}

/// Waits until bytes read at `taken` may be written, and says how many of them.
async fn admit(
    taken: Instant,
    length: usize,
    direction: Direction,
    state: &mut watch::Receiver<State>,
) -> std::io::Result<usize> {
    loop {
        // Marks the state as seen, so that `changed` below wakes for a later one only.
        let fault = state.borrow_and_update().of(direction);
        let change = async { state.changed().await.map_err(|_| std::io::ErrorKind::ConnectionAborted) };
        match fault {
            Fault::None => return Ok(length),
            Fault::BlackHole => change.await?,
            Fault::Delay(by) if taken + by <= Instant::now() => return Ok(length),
            Fault::Delay(by) => tokio::select! {
                () = sleep_until(taken + by) => return Ok(length),
                changed = change => changed?,
            },
            Fault::Throttle(rate) => {
                let (share, pause) = portion(rate, length);
                tokio::select! {
                    () = sleep(pause) => return Ok(share),
                    changed = change => changed?,
                }
            }
        }
    }
}

/// How many bytes to write next at this rate, after which pause.
fn portion(rate: u64, length: usize) -> (usize, Duration) {
    let rate = rate.max(1);
    let a_tick = u128::from(rate) * THROTTLE_INTERVAL.as_nanos() / 1_000_000_000;
    let share = usize::try_from(a_tick.max(1)).map_or(length, |share| share.min(length));
    let nanos = u128::try_from(share).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(rate);
    (share, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}
