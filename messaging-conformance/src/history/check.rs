//! The check of a history.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Fate, History, Mark, What};

/// How a history offends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OffenceKind {
    /// Confirmed, and never received; or given back as often as it was received.
    Lost,
    /// Received again, though not given back.
    Duplicated,
    /// Received, though never intended or said not to be sent.
    Unexpected,
    /// Received in another order than intended, within a key.
    Reordered,
}

/// An offence, and the smallest part of the history that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// How.
    pub kind: OffenceKind,
    /// In which group.
    pub group: u32,
    /// The messages: one, or the two that changed places.
    pub marks: Vec<Mark>,
    /// What happened to them.
    pub part: History,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks: Vec<String> = self.marks.iter().map(ToString::to_string).collect();
        writeln!(f, "{:?} in group {}: {}", self.kind, self.group, marks.join(" before "))?;
        self.part.events.iter().try_for_each(|event| writeln!(f, "  {event}"))
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many messages were meant to be sent.
    pub intended: usize,
    /// How many the broker confirmed.
    pub confirmed: usize,
    /// How many the broker has not got, as it said.
    pub not_sent: usize,
    /// How many came to nothing that is known.
    pub unknown: usize,
    /// How many different ones were received, all groups together.
    pub received: usize,
    /// How many receipts there were, all groups together.
    pub receipts: usize,
    /// Confirmed, and never received; or given back as often as it was received.
    pub lost: Vec<Offence>,
    /// Received again, though not given back.
    pub duplicated: Vec<Offence>,
    /// Received, though never intended or said not to be sent.
    pub unexpected: Vec<Offence>,
    /// Received in another order than intended, within a key.
    pub reordered: Vec<Offence>,
    /// Received, though the outcome of the send was unknown.
    pub recovered: usize,
    /// Receipts after the message was given back.
    pub redelivered: usize,
    /// From the end of the last fault to the first receipt after it.
    pub time_to_recover: Option<Duration>,
}

impl Findings {
    /// Passes if nothing offends.
    ///
    /// # Errors
    /// Counts, and the smallest part of the history that shows the first offence of each kind.
    pub fn exact(&self) -> Result<(), String> {
        self.without(&[])
    }

    /// Passes if nothing offends but duplicates, as around a fault: those are counted.
    ///
    /// # Errors
    /// As for [`exact`](Self::exact).
    pub fn at_least_once(&self) -> Result<(), String> {
        self.without(&[OffenceKind::Duplicated])
    }

    /// Passes if nothing offends but these kinds.
    ///
    /// # Errors
    /// As for [`exact`](Self::exact).
    pub fn without(&self, allowed: &[OffenceKind]) -> Result<(), String> {
        let all = [&self.lost, &self.duplicated, &self.unexpected, &self.reordered];
        let first: Vec<&Offence> =
            all.into_iter().filter_map(|some| some.first()).filter(|one| !allowed.contains(&one.kind)).collect();
        if first.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = first.iter().map(ToString::to_string).collect();
        Err(format!("{self}\n{}", shown.join("")))
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            intended, confirmed, receipts, lost, duplicated, unexpected, reordered, recovered, redelivered, ..
        } = self;
        write!(
            f,
            "{intended} intended, {confirmed} confirmed, {receipts} received: {} lost, {} duplicated, {} unexpected, {} reordered; {recovered} recovered, {redelivered} redelivered",
            lost.len(),
            duplicated.len(),
            unexpected.len(),
            reordered.len()
        )?;
        match self.time_to_recover {
            Some(time) => write!(f, ", recovered after {time:?}"),
            None => Ok(()),
        }
    }
}

/// What is known of a message.
#[derive(Default)]
struct Known {
    key: Option<Arc<str>>,
    /// Its place among the intents; none if it was never intended.
    place: Option<usize>,
    fate: Option<Fate>,
}

impl Known {
    fn is_unknown(&self) -> bool {
        self.place.is_some() && !matches!(self.fate, Some(Fate::Confirmed | Fate::NotSent))
    }
}

/// A history by message: a run with a thousand duplicates among a million messages would be read a thousand times.
struct Parts<'a> {
    history: &'a History,
    index: OnceCell<HashMap<Mark, Vec<usize>>>,
}

impl Parts<'_> {
    fn about(&self, marks: &[Mark]) -> History {
        let index = self.index.get_or_init(|| {
            let mut index = HashMap::<_, Vec<_>>::new();
            for (place, event) in self.history.events.iter().enumerate() {
                if let Some(mark) = event.what.mark() {
                    index.entry(mark).or_default().push(place);
                }
            }
            index
        });
        let mut places: Vec<usize> = marks.iter().filter_map(|mark| index.get(mark)).flatten().copied().collect();
        places.sort_unstable();
        let events = places.into_iter().map(|place| self.history.events[place].clone()).collect();
        History { events, groups: self.history.groups }
    }
}

/// What a group did with a message.
#[derive(Clone, Copy, Default)]
struct Seen {
    receipts: usize,
    returned: usize,
    duplicates: usize,
    redelivered: usize,
    /// It is with a consumer or settled: another receipt is a duplicate.
    taken: bool,
}

pub(super) fn check(history: &History) -> Findings {
    let known = learn(history);
    let mut findings = Findings {
        intended: known.values().filter(|known| known.place.is_some()).count(),
        confirmed: known.values().filter(|known| known.fate == Some(Fate::Confirmed)).count(),
        not_sent: known.values().filter(|known| known.fate == Some(Fate::NotSent)).count(),
        unknown: known.values().filter(|known| known.is_unknown()).count(),
        ..Findings::default()
    };
    let parts = Parts { history, index: OnceCell::new() };
    let groups = history.groups.max(1);
    let mut recovered = BTreeSet::new();
    for group in 0..groups {
        let seen = receipts(history, group);
        let offence = |kind, marks: Vec<Mark>| Offence { kind, group, part: parts.about(&marks), marks };
        for (mark, known) in &known {
            let seen = seen.get(mark).copied().unwrap_or_default();
            findings.received += usize::from(seen.receipts > 0);
            findings.receipts += seen.receipts;
            findings.redelivered += seen.redelivered;
            if known.fate == Some(Fate::Confirmed) && seen.receipts <= seen.returned {
                findings.lost.push(offence(OffenceKind::Lost, vec![*mark]));
            }
            if seen.receipts > 0 && (known.place.is_none() || known.fate == Some(Fate::NotSent)) {
                findings.unexpected.push(offence(OffenceKind::Unexpected, vec![*mark]));
            }
            if seen.duplicates > 0 {
                findings.duplicated.push(offence(OffenceKind::Duplicated, vec![*mark]));
            }
            if seen.receipts > 0 && known.is_unknown() {
                recovered.insert(*mark);
            }
        }
        findings
            .reordered
            .extend(swaps(history, group, &known).into_iter().map(|marks| offence(OffenceKind::Reordered, marks)));
    }
    findings.recovered = recovered.len();
    findings.time_to_recover = time_to_recover(history);
    findings
}

fn learn(history: &History) -> BTreeMap<Mark, Known> {
    let mut all: BTreeMap<Mark, Known> = BTreeMap::new();
    for (place, event) in history.events.iter().enumerate() {
        let Some(mark) = event.what.mark() else { continue };
        let known = all.entry(mark).or_default();
        match &event.what {
            What::Intent { key, .. } => {
                known.place = Some(place);
                known.key.clone_from(key);
            }
            What::Outcome { fate, .. } => known.fate = Some(*fate),
            _ => {}
        }
    }
    all
}

fn receipts(history: &History, of: u32) -> HashMap<Mark, Seen> {
    let mut all: HashMap<Mark, Seen> = HashMap::new();
    for event in &history.events {
        match event.what {
            What::Receipt { mark, group, .. } if group == of => {
                let seen = all.entry(mark).or_default();
                match (seen.receipts, seen.taken) {
                    (0, _) => {}
                    (_, true) => seen.duplicates += 1,
                    (_, false) => seen.redelivered += 1,
                }
                seen.receipts += 1;
                seen.taken = true;
            }
            What::Returned { mark, group } if group == of => {
                let seen = all.entry(mark).or_default();
                seen.returned += 1;
                seen.taken = false;
            }
            What::Unsure { mark, group } if group == of => all.entry(mark).or_default().taken = false,
            _ => {}
        }
    }
    all
}

/// Pairs of one key that were first received the other way round than intended: (received first, received after).
fn swaps(history: &History, of: u32, known: &BTreeMap<Mark, Known>) -> Vec<Vec<Mark>> {
    let mut firsts = HashSet::new();
    let mut latest: HashMap<&str, (usize, Mark)> = HashMap::new();
    let mut swaps = Vec::new();
    for event in &history.events {
        let What::Receipt { mark, group, .. } = event.what else { continue };
        if group != of || !firsts.insert(mark) {
            continue;
        }
        let Some(Known { key: Some(key), place: Some(place), .. }) = known.get(&mark) else { continue };
        match latest.get(&**key) {
            Some((before, first)) if before > place => swaps.push(vec![*first, mark]),
            _ => drop(latest.insert(key, (*place, mark))),
        }
    }
    swaps
}

fn time_to_recover(history: &History) -> Option<Duration> {
    let end = history.events.iter().rposition(|event| event.what == What::FaultEnded)?;
    let receipt = history.events[end..].iter().find(|event| matches!(event.what, What::Receipt { .. }))?;
    Some(receipt.at.saturating_sub(history.events[end].at))
}
