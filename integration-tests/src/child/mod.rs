//! A publisher or consumer as a process of its own, to be killed and stopped at any point.
//!
//! A test program starts itself again with a *role*: its `main` finds it by [`Role::current`] (so it is one without libtest's
//! `main`, whose tests would run again and count what a child does as one of them), plays the scenario it was given and
//! writes every intent, outcome and receipt to its [`History`] before and after it acts. The parent kills or pauses it at a
//! chosen or a random point of that history, and reads it afterwards.

mod history;

use std::env;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use history::{Entry, Event, Follower, History, Outcome, Tally, read};

use crate::run::{self, Folder, Process};
use crate::{Error, Result};

const ROLE_VARIABLE: &str = "MESSAGING_CHILD_ROLE";
const SCENARIO_VARIABLE: &str = "MESSAGING_CHILD_SCENARIO";
const HISTORY_VARIABLE: &str = "MESSAGING_CHILD_HISTORY";

/// A child process with its history; killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: Mutex<Process>,
    folder: Folder,
}

impl Child {
    /// Starts this program again in a role, for programs whose `main` asks [`Role::current`] first.
    ///
    /// # Errors
    /// If the scenario is no JSON or the program cannot be started.
    pub fn start(role: &str, scenario: &impl Serialize) -> Result<Self> {
        Self::start_by(&[], role, scenario)
    }

    /// Like [`Self::start`], by way of another program that is given this one with its arguments: `unshare`, `prlimit`, `env`.
    ///
    /// # Errors
    /// If the scenario is no JSON or the program cannot be started.
    pub fn start_by(wrapper: &[&str], role: &str, scenario: &impl Serialize) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("child-{role}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder::create(&name)?;
        let program = env::current_exe().map_err(|error| Error::caused("this program's file is not known", error))?;
        let scenario = serde_json::to_string(scenario);
        let scenario = scenario.map_err(|error| Error::caused(format!("the scenario of {name} is no json"), error))?;
        let mut command = match wrapper {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        // A backtrace would push what went wrong out of the last lines that an error shows.
        command.env("RUST_BACKTRACE", "0");
        command
            .env(ROLE_VARIABLE, role)
            .env(SCENARIO_VARIABLE, scenario)
            .env(HISTORY_VARIABLE, folder.path().join("history"));
        let process = Process::start(&name, command, &folder.path().join("output"))?;
        Ok(Self { process: Mutex::new(process), folder })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.lock().id()
    }

    /// The file with its history.
    pub fn history_file(&self) -> PathBuf {
        self.folder.path().join("history")
    }

    /// The file with all it printed.
    pub fn output_file(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// Its history so far.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn history(&self) -> Result<Vec<Entry>> {
        read(&self.history_file())
    }

    /// Passes if it runs.
    ///
    /// # Errors
    /// If it ended, with the end of what it printed.
    pub fn must_live(&self) -> Result<()> {
        self.lock().must_live()
    }

    /// Waits for a point of its history. Fails at once if it ended without getting there.
    ///
    /// # Errors
    /// If it is not reached in time.
    pub async fn reached(&self, what: &str, limit: Duration, point: impl Fn(&[Entry]) -> bool) -> Result<()> {
        let over = async {
            loop {
                let ended = self.lock().must_live();
                // It may have got there with its last breath.
                if let Err(error) = ended.and_then(|()| self.history().map(drop)) {
                    return if self.history().is_ok_and(|entries| point(&entries)) { Ok(()) } else { Err(error) };
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        let arrived = run::until(what, limit, || async {
            let entries = self.history()?;
            if point(&entries) { Ok(()) } else { Err(Error::failed(format!("{} entries so far", entries.len()))) }
        });
        tokio::select! {
            arrived = arrived => arrived,
            over = over => over.map_err(|error| error.within(what)),
        }
    }

    /// Kills it (-9) once its history has a number of entries chosen at random from `within`, and returns that number.
    ///
    /// # Errors
    /// If it ends or stands still before.
    pub async fn kill_somewhere(&self, within: Range<usize>, limit: Duration) -> Result<usize> {
        let chosen = rand::rng().random_range(within);
        self.reached(&format!("entry {chosen}"), limit, |entries| entries.len() >= chosen).await?;
        self.kill()?;
        Ok(chosen)
    }

    /// Ends it by SIGKILL, and returns when it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&self) -> Result<()> {
        self.lock().kill()
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pause(&self) -> Result<()> {
        self.lock().signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it is not running.
    pub fn resume(&self) -> Result<()> {
        self.lock().signal(Signal::CONT)
    }

    /// Sends it what Ctrl-C sends.
    ///
    /// # Errors
    /// If it is not running.
    pub fn interrupt(&self) -> Result<()> {
        self.lock().signal(Signal::INT)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        let what = "the end of a child";
        run::until(what, limit, || async { self.lock().ended().ok_or_else(|| Error::failed("it runs")) }).await
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Role of a child process.
#[derive(Debug)]
pub struct Role {
    name: String,
    scenario: String,
    history: History,
}

impl Role {
    /// The role this process was started in; none for a process that is nobody's child.
    ///
    /// # Errors
    /// If the history cannot be written.
    pub fn current() -> Result<Option<Self>> {
        let (Ok(name), Ok(scenario), Some(path)) =
            (env::var(ROLE_VARIABLE), env::var(SCENARIO_VARIABLE), env::var_os(HISTORY_VARIABLE))
        else {
            return Ok(None);
        };
        Ok(Some(Self { name, scenario, history: History::open(Path::new(&path))? }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scenario given by the parent.
    ///
    /// # Errors
    /// If it has another shape.
    pub fn scenario<T: DeserializeOwned>(&self) -> Result<T> {
        let parsed = serde_json::from_str(&self.scenario);
        parsed.map_err(|error| Error::caused(format!("the scenario of {} has another shape", self.name), error))
    }

    /// Where to write what happens.
    pub fn history(&self) -> &History {
        &self.history
    }
}
