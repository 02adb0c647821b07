//! A run: one process that starts brokers, with its folder, its ports and everything that must not outlive it.
//!
//! A folder `run-<pid>-<start time>` under [`base`] holds all of a run's files. A small shell, the *reaper*, holds the
//! other end of a pipe: when this process ends, in whatever way, the pipe closes and the reaper kills every process
//! that carries the run's mark in its environment, frees the run's ports and removes its folder. Should the reaper be
//! killed too, the next run sweeps.
//!
//! A mark in the environment was chosen over process groups and parent-death signals: daemons leave their group (Erlang's
//! `epmd`), and a parent-death signal follows the *thread* that started the server, which in a test ends with the case.

mod directory;
mod ports;
mod process;
mod reaper;
mod wait;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::OnceLock;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub use directory::base;
pub use ports::free_port;
pub use wait::until;

pub(crate) use directory::Folder;
pub(crate) use ports::Claim;
pub(crate) use process::{Process, kill_marked};
pub(crate) use reaper::MARK_VARIABLE;

use crate::{Error, Result};

/// This process as the owner of brokers.
#[derive(Debug)]
pub(crate) struct Run {
    id: String,
    folder: std::path::PathBuf,
    _reaper: reaper::Reaper,
}

impl Run {
    /// The run of this process, begun at the first call: older runs whose process is gone are swept first.
    pub(crate) fn current() -> Result<&'static Self> {
        static RUN: OnceLock<Result<Run>> = OnceLock::new();
        RUN.get_or_init(Self::begin).as_ref().map_err(|error| Error::new(error.kind(), error.to_string()))
    }

    fn begin() -> Result<Self> {
        reaper::sweep()?;
        let id = directory::own_id()?;
        let folder = directory::create(&id)?;
        let reaper = reaper::Reaper::start(&id)?;
        Ok(Self { id, folder, _reaper: reaper })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }
}

/// The folder of this process's run: what is put there is gone when the process is.
///
/// # Errors
/// If it cannot be made.
pub fn run_folder() -> Result<&'static std::path::Path> {
    Run::current().map(Run::folder)
}

/// Runs a task on this crate's own runtime: a test's runtime ends with the case, a shared broker's proxy must not.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime().spawn(future)
}

/// Listens on this crate's own runtime: a socket belongs to the runtime that binds it, and falls silent with it.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let cannot = |error: std::io::Error| Error::caused(format!("cannot listen on {address}"), error);
    let bound = spawn(TcpListener::bind(address)).await;
    bound.map_err(|error| cannot(error.into()))?.map_err(cannot)
}

/// This crate's own runtime, with a thread of its own, for as long as the process lives.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        #[allow(clippy::expect_used, reason = "a machine that cannot start one thread runs no broker either")]
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("brokers")
            .enable_all()
            .build()
            .expect("a runtime with one thread starts")
    })
}
