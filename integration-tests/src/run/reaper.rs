//! The process that outlives us to clean up.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::directory;
use crate::{Error, Result};

/// The variable that every process of a run carries; its value is the run's id.
pub(crate) const MARK_VARIABLE: &str = "MESSAGING_BROKER_RUN";

// In shell, because this library is linked into other crates' test programs: there is no binary of ours to start.
const REAPER_SCRIPT: &str = include_str!("reaper.sh");

/// The reaper of this run. Its pipe is closed by the kernel when this process ends, and not before.
#[derive(Debug)]
pub(super) struct Reaper {
    _child: Child,
}

impl Reaper {
    pub(super) fn start(id: &str) -> Result<Self> {
        // A group of its own, so that the terminal's Ctrl-C is not for it.
        let child = command(id).stdin(Stdio::piped()).process_group(0).spawn();
        Ok(Self {
            _child: child.map_err(|error| Error::caused("cannot start /bin/sh to clean up after this run", error))?,
        })
    }
}

/// Ends what runs without an owner left.
pub(super) fn sweep() -> Result<()> {
    for id in directory::known_ids().into_iter().filter(|id| !directory::owner_lives(id)) {
        let status = command(&id).stdin(Stdio::null()).status();
        status.map_err(|error| Error::caused(format!("cannot clean up after the earlier run {id}"), error))?;
    }
    Ok(())
}

fn command(id: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", REAPER_SCRIPT, "reaper"]).arg(directory::base()).arg(id).arg(format!("{MARK_VARIABLE}={id}"));
    // It must not find itself among those to kill, should this process carry another run's mark.
    command.env_remove(MARK_VARIABLE).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command
}
