//! The report of a run, as JSON: what the capability matrix is made of.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::pins::Answers;
use crate::run::Record;
use crate::{About, Reality};

/// Everything that a run found out about one broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The driver's name.
    pub driver: String,
    /// The option that changes its capabilities; may be empty.
    pub option: String,
    /// The broker's version.
    pub version: String,
    /// `real`, or what stood in for it.
    pub server: String,
    /// What it says it can do.
    pub answers: Vec<Answers>,
    /// What became of each case.
    pub cases: Vec<Record>,
}

impl Report {
    pub(crate) fn new(about: &About, answers: Vec<Answers>, cases: Vec<Record>) -> Self {
        let About { driver, option, version, reality } = about;
        let server = match reality {
            Reality::Real => "real".to_owned(),
            Reality::Emulator(name) => format!("emulator: {name}"),
        };
        Self {
            driver: (*driver).to_owned(),
            option: (*option).to_owned(),
            version: version.clone(),
            server,
            answers,
            cases,
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// A text that names what is wrong with the file.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{} is not a report: {error}", file.display()))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), String> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(file, text + "\n").map_err(|error| error.to_string())
    }
}
