//! A server's process: started with marks, its output in a file, ended by pid.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{MARK_VARIABLE, Run};
use crate::{Error, Result};

const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(10);
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A child process that does not outlive this value, nor the run.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with its output appended to `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;

        let output = OpenOptions::new().create(true).append(true).open(log).map_err(Error::at(log))?;
        let errors = output.try_clone().map_err(Error::at(log))?;
        command.env(MARK_VARIABLE, Run::current()?.id());
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let program = command.get_program().to_owned();
        let child = command.spawn().map_err(|error| cannot_start(name, &program, error))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// True if it was stopped by a signal.
    pub(crate) fn is_stopped(&self) -> bool {
        fields(self.child.id()).is_some_and(|fields| fields.starts_with('T'))
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error with the end of the log, if the process ended by itself.
    pub(crate) fn must_live(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(Error::failed(format!("{} ended with {status}: {}", self.name, tail(&self.log)))),
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended().is_some() {
            return Err(Error::failed(format!("{} is not running", self.name)));
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).map_err(|error| Error::caused(format!("cannot signal {}", self.name), error))
    }

    /// Asks with SIGTERM, and takes after `patience`.
    pub(crate) async fn stop(&mut self, patience: Duration) -> Result<()> {
        if self.ended().is_none() {
            // A stopped process does not see SIGTERM before it goes on.
            self.signal(Signal::TERM)?;
            self.signal(Signal::CONT)?;
            let end = Instant::now() + patience;
            while self.ended().is_none() && Instant::now() < end {
                tokio::time::sleep(EXIT_POLL_INTERVAL).await;
            }
        }
        self.kill()
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.ended().is_none() {
            let killed = self.child.kill().and_then(|()| self.child.wait().map(drop));
            killed.map_err(|error| Error::caused(format!("cannot kill {}", self.name), error))?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn cannot_start(name: &str, program: &OsStr, error: std::io::Error) -> Error {
    Error::caused(format!("cannot start {name} by {}", program.display()), error)
}

/// The last lines of a log, for an error's text.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(25).collect();
    let lines: Vec<_> = lines.into_iter().rev().collect();
    format!("the end of {} says:\n{}", log.display(), lines.join("\n"))
}

/// The fields of a process's `stat` from the third, its state, on.
fn fields(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    Some(stat[stat.rfind(')')? + 1..].trim_start().to_owned())
}

/// When the process was started, in ticks since the machine was: field 22. None for one that has ended.
pub(super) fn started(pid: u32) -> Option<u64> {
    let fields = fields(pid)?;
    if fields.starts_with(['Z', 'X']) {
        return None;
    }
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// True if a process of this pid runs.
pub(crate) fn is_alive(pid: u32) -> bool {
    started(pid).is_some()
}

/// Kills all processes whose environment holds `variable=value`, and waits until they are gone.
///
/// For what a server starts behind our back: it may have left the group and have a parent that is gone.
pub(crate) fn kill_marked(variable: &str, value: &str) {
    let end = Instant::now() + KILL_LIMIT;
    let mark = format!("{variable}={value}");
    while Instant::now() < end {
        let pids = marked(mark.as_bytes());
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(EXIT_POLL_INTERVAL);
    }
}

fn marked(mark: &[u8]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && carries(*pid, mark) && is_alive(*pid))
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

fn carries(pid: u32, mark: &[u8]) -> bool {
    use std::io::Read;

    let mut environment = Vec::new();
    let Ok(mut file) = File::open(format!("/proc/{pid}/environ")) else { return false };
    // A process that ends while it is read has no environment any more.
    file.read_to_end(&mut environment).is_ok() && environment.split(|byte| *byte == 0).any(|entry| entry == mark)
}
