//! History of a process: its intents, their outcomes and its receipts, in a file that survives the process.
//!
//! Each entry is one line and one `write` to a file opened for appending: it is with the kernel before the next step is taken, and
//! stays there when the process is killed. There is no `fsync`, because it is processes that die here, not machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The message is about to be sent.
    Intent(String),
    /// Answer of the broker about it.
    Outcome(String, Outcome),
    /// A message was received.
    Receipt(String),
    /// A received message is about to be acknowledged.
    Ack(String),
    /// Anything else worth knowing.
    Note(String),
}

/// Outcome of a sent message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The broker has it.
    Confirmed,
    /// The broker does not have it.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// An event, with when and in which process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since 1970 by the machine's clock.
    pub at: u64,
    /// The process id.
    pub by: u32,
    /// The event.
    pub event: Event,
}

/// A history being written, by as many threads as like.
#[derive(Debug)]
pub struct History {
    file: File,
    path: PathBuf,
}

impl History {
    /// Opens a history to go on with it, or begins one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(path).map_err(Error::at(path))?;
        end_torn_line(&mut file).map_err(Error::at(path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes down that a message is about to be sent.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn intent(&self, id: impl Into<String>) -> Result<()> {
        self.write(Event::Intent(id.into()))
    }

    /// Writes down what came of it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn outcome(&self, id: impl Into<String>, outcome: Outcome) -> Result<()> {
        self.write(Event::Outcome(id.into(), outcome))
    }

    /// Writes down that a message was received.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn receipt(&self, id: impl Into<String>) -> Result<()> {
        self.write(Event::Receipt(id.into()))
    }

    /// Writes down that a received message is about to be acknowledged.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn ack(&self, id: impl Into<String>) -> Result<()> {
        self.write(Event::Ack(id.into()))
    }

    /// Writes down anything else.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn note(&self, text: impl Into<String>) -> Result<()> {
        self.write(Event::Note(text.into()))
    }

    fn write(&self, event: Event) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let entry = Entry { at, by: process::id(), event };
        let mut line = serde_json::to_vec(&entry).map_err(|error| Error::caused("an event is no json", error))?;
        line.push(b'\n');
        (&self.file).write_all(&line).map_err(Error::at(&self.path))
    }
}

/// A process killed in the middle of a line leaves half of one; the next entry must not be glued to it.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Reads a history, leaving out what was torn; a file that is not there yet is an empty one.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    match fs::read(path) {
        Ok(bytes) => Ok(entries(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::at(path)(error)),
    }
}

/// Reads a history while it grows: each entry once.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// Up to here it was read, a whole number of lines.
    read: u64,
}

impl Follower {
    /// Begins at the beginning; the file need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: 0 }
    }

    /// Entries written since the last call.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn news(&mut self) -> Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::at(&self.path)(error)),
        };
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes));
        read.map_err(Error::at(&self.path))?;
        // The last line may be half written now, and whole the next time.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        Ok(entries(&bytes[..whole]))
    }
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Histories added up: what was lost, what came twice, what nobody sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Confirmed and never received.
    pub lost: BTreeSet<String>,
    /// Received and never meant to be sent.
    pub unexpected: BTreeSet<String>,
    /// Received more than once, and how often.
    pub duplicated: BTreeMap<String, usize>,
    /// Refused and received all the same.
    pub refused_but_received: BTreeSet<String>,
    /// Meant to be sent, with no word of what came of it: these may be received or not.
    pub unknown: BTreeSet<String>,
    /// How many were confirmed.
    pub confirmed: usize,
    /// How many different ones were received.
    pub received: usize,
}

impl Tally {
    /// Adds up all entries, of however many processes.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let (mut meant, mut confirmed, mut refused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut received = BTreeMap::<_, usize>::new();
        for entry in entries {
            match &entry.event {
                Event::Intent(id) => drop(meant.insert(id.clone())),
                Event::Outcome(id, Outcome::Confirmed) => drop(confirmed.insert(id.clone())),
                Event::Outcome(id, Outcome::Refused) => drop(refused.insert(id.clone())),
                Event::Receipt(id) => *received.entry(id.clone()).or_default() += 1,
                Event::Outcome(_, Outcome::Unknown) | Event::Ack(_) | Event::Note(_) => {}
            }
        }
        // Sent again after a refusal and then confirmed, it is confirmed.
        refused.retain(|id| !confirmed.contains(id));
        Self {
            lost: confirmed.iter().filter(|id| !received.contains_key(*id)).cloned().collect(),
            unexpected: received.keys().filter(|id| !meant.contains(*id)).cloned().collect(),
            refused_but_received: refused.iter().filter(|id| received.contains_key(*id)).cloned().collect(),
            unknown: meant.iter().filter(|id| !confirmed.contains(*id) && !refused.contains(*id)).cloned().collect(),
            confirmed: confirmed.len(),
            received: received.len(),
            duplicated: received.into_iter().filter(|(_, times)| *times > 1).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: Event) -> Entry {
        Entry { at: 0, by: 0, event }
    }

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    /// Each message ends in the column it belongs to.
    #[test]
    fn a_tally_tells_lost_from_doubled_from_unknown() {
        let sent = |id: &str, outcome| [entry(Event::Intent(id.into())), entry(Event::Outcome(id.into(), outcome))];
        let got = |id: &str| entry(Event::Receipt(id.into()));
        let mut all = [sent("fine", Outcome::Confirmed), sent("lost", Outcome::Confirmed)].concat();
        all.extend([sent("twice", Outcome::Confirmed), sent("lied", Outcome::Refused)].concat());
        all.extend(sent("silent", Outcome::Unknown));
        all.push(entry(Event::Intent("killed".into())));
        all.extend([got("fine"), got("twice"), got("twice"), got("lied"), got("stray"), got("killed")]);

        let tally = Tally::of(&all);

        assert_eq!(tally.lost, ids(&["lost"]));
        assert_eq!(tally.unexpected, ids(&["stray"]));
        assert_eq!(tally.duplicated, BTreeMap::from([("twice".to_owned(), 2)]));
        assert_eq!(tally.refused_but_received, ids(&["lied"]));
        assert_eq!(tally.unknown, ids(&["killed", "silent"]));
        assert_eq!((tally.confirmed, tally.received), (3, 5));
    }

    /// Half a line at the end costs that line alone, also when the history goes on after it.
    #[test]
    fn a_torn_line_harms_no_other() {
        let path = std::env::temp_dir().join(format!("messaging-history-{}", process::id()));
        History::open(&path).unwrap().intent("whole").unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at\":1,\"by\"").unwrap();

        History::open(&path).unwrap().intent("after").unwrap();
        let events: Vec<_> = read(&path).unwrap().into_iter().map(|entry| entry.event).collect();
        fs::remove_file(&path).unwrap();

        assert_eq!(events, [Event::Intent("whole".into()), Event::Intent("after".into())]);
    }

    /// A follower gets each entry once, and a line when it is whole.
    #[test]
    fn a_follower_gets_each_entry_once() {
        let path = std::env::temp_dir().join(format!("messaging-followed-{}", process::id()));
        let mut follower = Follower::new(&path);
        let mut events = || follower.news().unwrap().into_iter().map(|entry| entry.event).collect::<Vec<_>>();
        let (none, history) = (events(), History::open(&path).unwrap());
        history.ack("one").unwrap();
        let first = events();
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"at\":1,\"by\":1,\"event\":").unwrap();
        let half = events();
        torn.write_all(b"{\"receipt\":\"two\"}}\n").unwrap();
        let second = events();
        fs::remove_file(&path).unwrap();

        assert_eq!((none, half), (Vec::new(), Vec::new()));
        assert_eq!((first, second), (vec![Event::Ack("one".into())], vec![Event::Receipt("two".into())]));
    }
}
