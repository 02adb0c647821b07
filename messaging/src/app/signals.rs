//! The signals that ask a process to end: Ctrl-C everywhere, SIGTERM on Unix.

use messaging_core::{Error, ErrorKind, Result};

/// Waits for signals; none is lost between two waits.
#[derive(Debug)]
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
        let terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
        Ok(Self { interrupt, terminate })
    }

    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(error = %unavailable(error), "Ctrl-C is not heard");
            std::future::pending::<()>().await;
        }
    }
}

#[cold]
fn unavailable(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        "the signals that end the process cannot be heard; use `App::start` and shut down by hand",
    )
    .with_source(error)
}
