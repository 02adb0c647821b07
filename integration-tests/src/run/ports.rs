//! Ports below 32768.
//!
//! Above begins the range from which the kernel takes the client's end of a connection: a client that reconnects to a
//! dead server's port up there can be given that very port and talk to itself. A port is claimed with a file, because
//! a server that is down for a while must find its port free again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use rand::RngExt;

use super::{Run, base};
use crate::{Error, Result};

const FIRST_PORT: u16 = 11_000;
const LAST_PORT: u16 = 32_000;
const PORT_TRIES: usize = 200;

/// A port of this run, free again when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    port: u16,
    file: PathBuf,
}

impl Claim {
    /// Claims a port that nobody listens on.
    pub(crate) fn new() -> Result<Self> {
        let run = Run::current()?;
        let folder = base().join("ports");
        for _ in 0..PORT_TRIES {
            let port = rand::rng().random_range(FIRST_PORT..LAST_PORT);
            let file = folder.join(port.to_string());
            // Another run's end removes the folder when it is empty, so it is made each time.
            fs::create_dir_all(&folder).map_err(Error::at(&folder))?;
            let Ok(mut claimed) = OpenOptions::new().write(true).create_new(true).open(&file) else { continue };
            writeln!(claimed, "{}", run.id()).map_err(Error::at(&file))?;
            let claim = Self { port, file };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(claim);
            }
        }
        Err(Error::failed(format!(
            "no free port between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1 after {PORT_TRIES} tries"
        )))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// A port on 127.0.0.1 that nobody listens on, below the range of client ports; it stays this process's until it ends.
///
/// # Errors
/// If none is found.
pub fn free_port() -> Result<u16> {
    let claim = Claim::new()?;
    let port = claim.port();
    std::mem::forget(claim);
    Ok(port)
}
