//! Where a run keeps its files, and who owns them.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use crate::{Error, Result};

/// The folder that holds the folders of all runs, and nothing when none is going on.
pub fn base() -> PathBuf {
    env::temp_dir().join(format!("messaging-brokers-{}", rustix::process::getuid().as_raw()))
}

/// `<pid>-<start time>`: a pid comes back after a while, the pair does not.
pub(super) fn own_id() -> Result<String> {
    let pid = process::id();
    let started = super::process::started(pid)
        .ok_or_else(|| Error::unsupported("brokers are started on Linux only: /proc/self/stat cannot be read"))?;
    Ok(format!("{pid}-{started}"))
}

/// True if the process that began the run is still there.
pub(super) fn owner_lives(id: &str) -> bool {
    let Some((pid, started)) = id.split_once('-') else { return false };
    pid.parse().ok().and_then(super::process::started).is_some_and(|now| now.to_string() == started)
}

pub(super) fn path_of(id: &str) -> PathBuf {
    base().join(format!("run-{id}"))
}

pub(super) fn create(id: &str) -> Result<PathBuf> {
    let path = path_of(id);
    fs::create_dir_all(&path).map_err(Error::at(&path))?;
    Ok(path)
}

/// The ids of the runs that have a folder.
pub(super) fn known_ids() -> Vec<String> {
    let Ok(entries) = fs::read_dir(base()) else { return Vec::new() };
    entries.flatten().filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("run-")?.to_owned())).collect()
}

/// A folder of a run, removed with what is in it when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes `name` in the folder of this run.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let path = super::Run::current()?.folder().join(name);
        fs::create_dir_all(&path).map_err(Error::at(&path))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Files still in use now are removed with the run.
        let _ = fs::remove_dir_all(&self.0);
    }
}
