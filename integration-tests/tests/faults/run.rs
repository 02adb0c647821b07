//! One run: what happened in it, what came of it in one line, and the verdict.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use integration_tests::Error;
use messaging::{Broker, Delivery, ErrorKind, HealthState, Message, Receipt};
use messaging_conformance::history::{Fate, Findings, History, Mark, Offence, OffenceKind, Recorder, What};

use integration_tests::runner::Verdict;

/// Publishing and consuming go on again so soon after the broker answers.
const BACK: Duration = Duration::from_secs(5);

/// What is recorded while messages move and break.
#[derive(Debug)]
pub(crate) struct Run {
    name: String,
    recorder: Recorder,
    /// The next mark to be given when the last fault ended: what is newer was published after it.
    newer: AtomicU64,
    latest: AtomicU64,
    /// How many newer ones were confirmed and received.
    newer_confirmed: AtomicUsize,
    newer_received: AtomicUsize,
    /// Publishes that fail because all was closed are expected.
    closing: AtomicBool,
    /// What somebody was about to acknowledge.
    acked: Mutex<HashSet<Mark>>,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    faults: Vec<(Duration, Duration)>,
    /// What publishes failed with, and how often.
    errors: BTreeMap<String, usize>,
    /// Kinds of error that no fault explains.
    wrong: Vec<String>,
    remarks: Vec<String>,
}

/// What goes on while a fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Publishing; what it left is consumed afterwards.
    Publishing,
    /// Consuming and settling what was published before.
    Consuming,
    /// Everything at once.
    Both,
}

/// What a run has to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// How many are confirmed at least.
    pub(crate) confirmed: usize,
    /// A message first received so long before a fault, or after it, does not come twice: what the broker did not know as
    /// settled when the fault came may.
    pub(crate) slack: Duration,
    /// How soon all goes on after the last fault; none where the fault does not end at one moment.
    pub(crate) back: Option<Duration>,
    /// What goes on then.
    pub(crate) phase: Phase,
    /// Whether messages of one key keep their order.
    pub(crate) ordered: bool,
    /// How many come twice at least, because the run is about just that.
    pub(crate) fewest_duplicates: usize,
    /// How many may come twice.
    pub(crate) duplicates: usize,
}

impl Demand {
    /// So many confirmed, back within 5 s, duplicates only of what was received within 2 s of a fault.
    pub(crate) fn of(confirmed: usize) -> Self {
        Self {
            confirmed,
            slack: Duration::from_secs(2),
            back: Some(BACK),
            phase: Phase::Both,
            ordered: false,
            fewest_duplicates: 0,
            duplicates: usize::MAX,
        }
    }

    pub(crate) fn while_(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    pub(crate) fn with_slack(self, slack: Duration) -> Self {
        Self { slack, ..self }
    }

    pub(crate) fn without_end(self) -> Self {
        Self { back: None, ..self }
    }

    pub(crate) fn with_duplicates(self, fewest_duplicates: usize, duplicates: usize) -> Self {
        Self { fewest_duplicates, duplicates, ..self }
    }

    pub(crate) fn in_order(self) -> Self {
        Self { ordered: true, ..self }
    }
}

impl Run {
    /// A run by this name: the broker, and what happens to it.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            recorder: Recorder::new(1),
            newer: AtomicU64::new(0),
            latest: AtomicU64::new(0),
            newer_confirmed: AtomicUsize::new(0),
            newer_received: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            acked: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Notes that a message is about to be sent, and makes it.
    pub(crate) fn intend(&self, key: Option<&str>) -> (Mark, Message) {
        let (mark, message) = self.recorder.intend(key);
        self.latest.fetch_max(mark + 1, Ordering::AcqRel);
        (mark, message)
    }

    /// Notes what became of it. Returns whether it was confirmed.
    pub(crate) fn outcome(&self, mark: Mark, result: &messaging::Result<Receipt>) -> bool {
        self.recorder.outcome(mark, result);
        match result {
            Ok(_) => {
                if mark >= self.newer.load(Ordering::Acquire) {
                    self.newer_confirmed.fetch_add(1, Ordering::AcqRel);
                }
                true
            }
            Err(error) => {
                let mut notes = self.notes();
                *notes.errors.entry(format!("{} {:?}", error.kind(), error.outcome())).or_default() += 1;
                let by_a_fault = [
                    ErrorKind::Disconnected,
                    ErrorKind::Timeout,
                    ErrorKind::Unreachable,
                    ErrorKind::NotFound,
                    ErrorKind::Unroutable,
                    ErrorKind::Full,
                ];
                let by_us = error.kind() == ErrorKind::Closed && self.closing.load(Ordering::Acquire);
                if !by_us && !by_a_fault.contains(&error.kind()) && notes.wrong.len() < 5 {
                    notes.wrong.push(error.to_string());
                }
                false
            }
        }
    }

    /// Notes a receipt.
    pub(crate) fn receipt(&self, delivery: &Delivery, consumer: u32) -> Mark {
        let mark = self.recorder.receipt(delivery, 0, consumer);
        if mark >= self.newer.load(Ordering::Acquire) {
            self.newer_received.fetch_add(1, Ordering::AcqRel);
        }
        mark
    }

    /// Notes what is about to be acknowledged, before it is.
    pub(crate) fn acking(&self, marks: impl IntoIterator<Item = Mark>) {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).extend(marks);
    }

    /// All that somebody was about to acknowledge so far.
    pub(crate) fn acked(&self) -> HashSet<Mark> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what another process wrote down.
    pub(crate) fn note(&self, at: SystemTime, what: What) {
        self.recorder.note(at, what);
    }

    /// From now on what is still under way may fail because all is closed.
    pub(crate) fn closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Notes that a fault begins.
    pub(crate) fn fault_began(&self) {
        self.recorder.fault_began();
        let now = self.recorder.elapsed();
        self.notes().faults.push((now, Duration::MAX));
    }

    /// Notes that the fault is over and the broker answers.
    pub(crate) fn fault_ended(&self) {
        let now = self.recorder.elapsed();
        if let Some(fault) = self.notes().faults.last_mut() {
            fault.1 = now;
        }
        self.newer_confirmed.store(0, Ordering::Release);
        self.newer_received.store(0, Ordering::Release);
        self.newer.store(self.latest.load(Ordering::Acquire), Ordering::Release);
        self.recorder.fault_ended();
    }

    /// Adds words to the line.
    pub(crate) fn remark(&self, words: impl Into<String>) {
        self.notes().remarks.push(words.into());
    }

    /// How many were confirmed so far.
    pub(crate) fn confirmed(&self) -> usize {
        self.recorder.confirmed()
    }

    /// How many publishes failed so far.
    pub(crate) fn failed(&self) -> usize {
        self.notes().errors.values().sum()
    }

    /// How many confirmed ones are still to be received.
    pub(crate) fn missing(&self) -> usize {
        self.recorder.missing(0)
    }

    /// How long the run goes on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.recorder.elapsed()
    }

    /// Whether what was published after the last fault gets through.
    pub(crate) fn publishes_again(&self) -> bool {
        self.newer_confirmed.load(Ordering::Acquire) > 0
    }

    /// Whether what was published after the last fault is received.
    pub(crate) fn consumes_again(&self) -> bool {
        self.newer_received.load(Ordering::Acquire) > 0
    }

    /// Watches the broker's health until it is not up, and says after how long; `None` past the limit.
    pub(crate) async fn notice(&self, broker: &dyn Broker, limit: Duration) -> Option<Duration> {
        let began = self.elapsed();
        while self.elapsed() - began < limit {
            if broker.health().state != HealthState::Up {
                let after = self.elapsed() - began;
                self.remark(format!("noticed after {:.1} s", after.as_secs_f32()));
                return Some(after);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Leaves out what was meant to be sent before the last fault was over: a queue that is deleted takes its messages along.
    pub(crate) fn forgive_before_the_end_of_the_fault(&self) -> Findings {
        let newer = self.newer.load(Ordering::Acquire);
        let mut history = self.recorder.history();
        history.events.retain(|event| event.what.mark().is_none_or(|mark| mark >= newer));
        history.check()
    }

    /// Checks everything, prints the line and passes the verdict.
    pub(crate) fn judge(&self, demand: Demand) -> Verdict {
        self.judge_by(self.recorder.check(), demand)
    }

    /// As [`judge`](Self::judge), of findings made otherwise.
    pub(crate) fn judge_by(&self, findings: Findings, demand: Demand) -> Verdict {
        let notes = self.notes();
        let (published, consumed) = self.recovery(&notes.faults, demand.phase);
        let strays = strays(&findings.duplicated, &notes.faults, demand.slack);
        let back = match demand.phase {
            Phase::Publishing => published,
            Phase::Consuming => consumed,
            Phase::Both => published.zip(consumed).map(|(one, other)| one.max(other)),
        };
        print(&self.line(&findings, &notes, back));

        let mut faults = Vec::new();
        let allowed = [OffenceKind::Duplicated, OffenceKind::Reordered];
        faults.extend(findings.without(&allowed[..if demand.ordered { 1 } else { 2 }]).err());
        if let Some(stray) = strays.first() {
            faults.push(format!("{} came twice that no fault explains, such as {stray}", strays.len()));
        }
        if findings.duplicated.len() > demand.duplicates {
            faults.push(format!("{} came twice, at most {} may", findings.duplicated.len(), demand.duplicates));
        }
        if findings.duplicated.len() < demand.fewest_duplicates {
            let (came, fewest) = (findings.duplicated.len(), demand.fewest_duplicates);
            faults.push(format!("{came} came twice, at least {fewest} should: the run did not try what it is about"));
        }
        if findings.confirmed < demand.confirmed {
            faults.push(format!("{} were confirmed, {} were asked for", findings.confirmed, demand.confirmed));
        }
        if let Some(limit) = demand.back {
            let of = [("publishing", Phase::Publishing, published), ("consuming", Phase::Consuming, consumed)];
            for (what, _, took) in of.into_iter().filter(|of| demand.phase == Phase::Both || demand.phase == of.1) {
                match took {
                    Some(took) if took <= limit => {}
                    Some(took) => faults.push(format!("{what} went on {took:?} after the fault, not within {limit:?}")),
                    None => faults.push(format!("{what} did not go on after the fault")),
                }
            }
        }
        faults.extend(notes.wrong.iter().map(|error| format!("a publish failed with what no fault explains: {error}")));
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::failed(format!("{}\npublishes failed with {:?}", faults.join("\n"), notes.errors)).into())
    }

    fn line(&self, findings: &Findings, notes: &Notes, back: Option<Duration>) -> String {
        let Findings { confirmed, received, unknown, recovered, not_sent, .. } = findings;
        let mut line = format!(
            "fault {}: {confirmed} confirmed, {received} received, {} lost, {} unexpected, {} duplicated, {unknown} unknown \
             ({recovered} arrived), {not_sent} not sent, {} reordered",
            self.name,
            findings.lost.len(),
            findings.unexpected.len(),
            findings.duplicated.len(),
            findings.reordered.len(),
        );
        if let Some(back) = back {
            // Writing to a string does not fail.
            let _ = write!(line, "; back after {:.2} s", back.as_secs_f32());
        }
        for remark in &notes.remarks {
            let _ = write!(line, ", {remark}");
        }
        let _ = write!(line, ", {:.0} s in all", self.elapsed().as_secs_f32());
        line
    }

    /// From the end of the last fault to the first confirm and the first receipt of a message that was not on its way before.
    fn recovery(&self, faults: &[(Duration, Duration)], phase: Phase) -> (Option<Duration>, Option<Duration>) {
        let Some(&(_, end)) = faults.last() else { return (None, None) };
        let history = self.recorder.history();
        let newer = self.newer.load(Ordering::Acquire);
        let first = |history: &History, is: &mut dyn FnMut(&What) -> bool| {
            let after = history.events.iter().filter(|event| event.at >= end).find(|event| is(&event.what));
            after.map(|event| event.at - end)
        };
        let published = first(
            &history,
            &mut |what| matches!(what, What::Outcome { mark, fate: Fate::Confirmed } if *mark >= newer),
        );
        let mut seen = HashSet::new();
        for event in history.events.iter().filter(|event| event.at < end) {
            if let What::Receipt { mark, .. } = event.what {
                seen.insert(mark);
            }
        }
        let consumed = first(&history, &mut |what| match what {
            // Where nothing was published any more, the backlog that nobody had seen yet is what counts.
            What::Receipt { mark, .. } if phase == Phase::Consuming => !seen.contains(mark),
            What::Receipt { mark, .. } => *mark >= newer,
            _ => false,
        });
        (published, consumed)
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Duplicates of messages first received at a time when nothing was broken.
fn strays<'a>(duplicated: &'a [Offence], faults: &[(Duration, Duration)], slack: Duration) -> Vec<&'a Offence> {
    let explained = |offence: &&Offence| {
        let mut receipts = offence.part.events.iter().filter(|event| matches!(event.what, What::Receipt { .. }));
        let Some(first) = receipts.next().map(|event| event.at) else { return false };
        faults.iter().any(|(began, ended)| first + slack >= *began && first <= ended.saturating_add(slack))
    };
    duplicated.iter().filter(|offence| !explained(offence)).collect()
}

#[allow(clippy::print_stderr, reason = "what a test program has to say")]
fn print(line: &str) {
    // The runner has begun a line with the case's name.
    eprintln!("\n{line}");
}
