//! Publishers and consumers as processes of their own, killed and sent away.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use integration_tests::{
    Result,
    child::{Child, Entry, Event, Follower, Outcome, Role},
};
use messaging::{Delivery, ErrorKind, ErrorOutcome, Message, PublishOptions};
use messaging_conformance::history::{Fate, Mark, What, mark_of};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::{address::Address, harness::Verdict, killer, run::Run, traffic};

/// What a child is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) at: Address,
    /// A publisher's first mark.
    pub(crate) first: Mark,
    /// A publisher's pause between two messages; a consumer's work for one.
    pub(crate) work: Duration,
    /// A consumer's work for each twentieth message instead, where that is longer.
    pub(crate) twentieth: Duration,
    pub(crate) prefetch: usize,
}

impl Part {
    pub(crate) fn of(at: &Address) -> Self {
        Self { at: at.clone(), first: 0, work: Duration::ZERO, twentieth: Duration::ZERO, prefetch: 100 }
    }
}

pub(crate) const PUBLISHER: &str = "publisher";
pub(crate) const MEMBER: &str = "member";

/// What this program does as a child.
pub(crate) async fn play(role: Role) -> Verdict {
    let part: Part = role.scenario()?;
    match role.name() {
        PUBLISHER => publish(&role, part).await,
        MEMBER => consume(&role, part).await,
        killer::VICTIM => killer::play(role, &part.at).await,
        other => Err(format!("nobody plays {other}").into()),
    }
}

/// Publishes until it is killed.
async fn publish(role: &Role, part: Part) -> Verdict {
    use futures_util::{StreamExt, stream::FuturesUnordered};

    let broker = part.at.open().await?;
    let options = PublishOptions::default().with_timeout(Duration::from_secs(10));
    let publisher = broker.publisher(&part.at.destination()?, options).await?;
    let history = role.history();
    let mut answers = FuturesUnordered::new();
    for mark in part.first.. {
        let message = Message::new(mark.to_string());
        let permit = publisher.core().in_flight().acquire(message.size()).await?;
        history.intent(mark.to_string())?;
        let outcome = publisher.send(message, permit);
        answers.push(async move { (mark, outcome.await) });
        while answers.len() >= 200 || (answers.len() > 100 && !part.work.is_zero()) {
            let Some((mark, result)) = answers.next().await else { break };
            history.outcome(
                mark.to_string(),
                match result {
                    Ok(_) => Outcome::Confirmed,
                    Err(error) if error.outcome() == ErrorOutcome::NotSent => Outcome::Refused,
                    Err(_) => Outcome::Unknown,
                },
            )?;
        }
        if !part.work.is_zero() {
            tokio::time::sleep(part.work).await;
        }
    }
    Ok(())
}

/// Consumes until it is killed, or asked to end: then it drains and closes.
async fn consume(role: &Role, part: Part) -> Verdict {
    let mut asked = signal(SignalKind::interrupt())?;
    let broker = part.at.open().await?;
    let mut consumer = traffic::consumer(&*broker, &part.at, part.prefetch).await?;
    let history = role.history();
    history.note("ready")?;
    loop {
        let received = tokio::select! {
            _ = asked.recv() => break,
            received = consumer.next_many(64) => received?,
        };
        if received.is_empty() {
            break;
        }
        for delivery in &received {
            history.receipt(mark_of(delivery.message()).unwrap_or(Mark::MAX).to_string())?;
        }
        if part.work.is_zero() {
            for delivery in &received {
                history.ack(mark_of(delivery.message()).unwrap_or(Mark::MAX).to_string())?;
            }
            drop(Delivery::ack_all(received));
            continue;
        }
        for delivery in received {
            let mark = mark_of(delivery.message()).unwrap_or(Mark::MAX);
            let work = if mark.is_multiple_of(20) { part.work.max(part.twentieth) } else { part.work };
            tokio::time::sleep(work).await;
            history.ack(mark.to_string())?;
            drop(delivery.ack());
        }
    }
    let drained = consumer.drain(Duration::from_secs(10)).await;
    let closed = broker.close(tokio::time::Instant::now() + Duration::from_secs(10)).await;
    let mut errors = drained.errors.into_iter().chain(closed.errors);
    // Settlements that moved on with their partition are told at the end.
    match errors.find(|error| error.kind() != ErrorKind::StaleDelivery) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// The children of a run, and the reading of what they write down.
pub(crate) struct Troupe {
    run: Arc<Run>,
    members: Vec<Member>,
    /// Those that were killed, and those that were asked to end.
    gone: Vec<Member>,
    started: u64,
}

struct Member {
    child: Child,
    number: u32,
    follower: Follower,
    ready: bool,
    /// It was asked to end, and has to do so in order.
    asked: bool,
}

impl Troupe {
    pub(crate) fn new(run: &Arc<Run>) -> Self {
        Self { run: Arc::clone(run), members: Vec::new(), gone: Vec::new(), started: 0 }
    }

    /// Starts another. A publisher's marks begin where no other's are.
    pub(crate) fn start(&mut self, role: &str, part: &Part) -> Result<()> {
        self.started += 1;
        let part = Part { first: self.started * 1_000_000_000, ..part.clone() };
        let child = Child::start(role, &part)?;
        let follower = Follower::new(child.history_file());
        let number = u32::try_from(self.started).unwrap_or(u32::MAX);
        self.members.push(Member { child, number, follower, ready: false, asked: false });
        Ok(())
    }

    /// How many play.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many of them have told that they consume.
    pub(crate) fn ready(&self) -> usize {
        self.members.iter().filter(|member| member.ready).count()
    }

    /// Kills one of them, chosen at random.
    pub(crate) fn kill_one(&mut self) -> Result<()> {
        let member = self.take_one();
        self.run.fault_began();
        member.child.kill()?;
        self.run.fault_ended();
        self.gone.push(member);
        self.read()
    }

    /// Asks one of them to end, chosen at random, and does not wait for it.
    pub(crate) fn dismiss_one(&mut self) -> Result<()> {
        let mut member = self.take_one();
        member.child.interrupt()?;
        member.asked = true;
        self.gone.push(member);
        Ok(())
    }

    fn take_one(&mut self) -> Member {
        let at = rand::random_range(0..self.members.len());
        self.members.remove(at)
    }

    /// Asks all that are left to end, and waits until all that were asked have, in order.
    pub(crate) async fn dismiss_all(&mut self) -> Verdict {
        while !self.members.is_empty() {
            self.dismiss_one()?;
        }
        for member in self.gone.iter().filter(|member| member.asked) {
            let status = member.child.ended(Duration::from_secs(40)).await?;
            if !status.success() {
                let said = std::fs::read_to_string(member.child.output_file()).unwrap_or_default();
                return Err(format!("a member that was asked to end did so with {status}: {said}").into());
            }
        }
        self.read()?;
        Ok(())
    }

    /// Takes over what they wrote down since the last call. Fails if one has ended by itself.
    pub(crate) fn read(&mut self) -> Result<()> {
        for member in self.members.iter_mut().chain(&mut self.gone) {
            for Entry { at, event, .. } in member.follower.news()? {
                let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at);
                let number = |text: &str| text.parse().unwrap_or(Mark::MAX);
                let what = match event {
                    Event::Intent(id) => What::Intent { mark: number(&id), key: None },
                    Event::Outcome(id, outcome) => What::Outcome { mark: number(&id), fate: fate(outcome) },
                    Event::Receipt(id) => What::Receipt { mark: number(&id), group: 0, consumer: member.number },
                    Event::Ack(id) => {
                        self.run.acking([number(&id)]);
                        continue;
                    }
                    Event::Note(_) => {
                        member.ready = true;
                        continue;
                    }
                };
                self.run.note(at, what);
            }
        }
        self.members.iter().try_for_each(|member| member.child.must_live())
    }

    /// Reads on until a condition holds, as long as something happens from time to time.
    pub(crate) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Verdict {
        let (mut before, mut since) = ((0, 0), std::time::Instant::now());
        loop {
            self.read()?;
            if holds(self) {
                return Ok(());
            }
            let now = (self.run.confirmed(), self.run.missing());
            if now != before {
                (before, since) = (now, std::time::Instant::now());
            }
            if since.elapsed() > Duration::from_secs(60) {
                return Err(format!("{what}: {} confirmed and {} not received, for a minute", now.0, now.1).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn fate(outcome: Outcome) -> Fate {
    match outcome {
        Outcome::Confirmed => Fate::Confirmed,
        Outcome::Refused => Fate::NotSent,
        Outcome::Unknown => Fate::Unknown,
    }
}
