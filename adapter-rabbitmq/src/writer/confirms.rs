//! Publishes that wait for the broker's answer, in the order in which they were written.
//!
//! The client hangs a returned message on whichever confirm comes next, which with joined writes is not always its own
//! (lapin 4.12: 1 of 2,857). So returns are matched by the message's id here. A return comes before the confirm of its own
//! message, and is hung on the first confirm that is resolved after it; hence before any answer is given, all that are
//! resolved by then are looked at.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lapin::{Confirmation, PublisherConfirm};
use messaging_core::{Error, ErrorKind, ErrorOutcome, MessageId, Receipt, Result};
use tokio::time::Instant;

use crate::error::{Call, from_lapin};

/// One publish that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    pub(super) until: Instant,
    /// The message's id, where it may be returned.
    pub(super) id: Option<MessageId>,
    /// The answer is kept back until then: the queue is too young to be trusted.
    pub(super) young_until: Option<Instant>,
    /// The sender was told already that the time is up.
    pub(super) expired: bool,
}

enum Confirm {
    Open(PublisherConfirm),
    Resolved(Verdict),
}

/// What the broker said of one publish.
enum Verdict {
    Taken,
    Refused,
    /// The channel does not confirm.
    Silent,
    Lost(Box<lapin::Error>),
}

/// The publishes that wait.
#[derive(Default)]
pub(super) struct Confirms {
    waiting: VecDeque<(Waiting, Confirm)>,
    /// Ids of returned messages whose own confirm was not met yet, and why they came back.
    returned: Vec<(MessageId, String)>,
    resolved: Vec<(Waiting, Verdict)>,
    expired: usize,
}

impl Confirms {
    pub(super) fn push(&mut self, waiting: Waiting, confirm: PublisherConfirm) {
        self.waiting.push_back((waiting, Confirm::Open(confirm)));
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many were told that their time is up and are still open at the broker.
    pub(super) fn expired(&self) -> usize {
        self.expired
    }

    /// Waits for the answers of the oldest ones.
    pub(super) fn poll_answers(
        &mut self,
        cx: &mut Context<'_>,
        answers: &mut Vec<(Waiting, Result<Receipt>)>,
    ) -> Poll<()> {
        while let Some((_, confirm)) = self.waiting.front_mut() {
            if let Confirm::Open(open) = confirm {
                let Poll::Ready(resolved) = Pin::new(open).poll(cx) else { break };
                *confirm = Confirm::Resolved(verdict(resolved, &mut self.returned));
            }
            if let Some((waiting, Confirm::Resolved(verdict))) = self.waiting.pop_front() {
                self.expired -= usize::from(waiting.expired);
                self.resolved.push((waiting, verdict));
            }
        }
        if self.resolved.is_empty() {
            return Poll::Pending;
        }
        self.answer(answers);
        Poll::Ready(())
    }

    /// Takes all that wait, as when the channel is lost: those that were answered in time have their answer.
    pub(super) fn take_all(&mut self, answers: &mut Vec<(Waiting, Result<Receipt>)>) -> bool {
        self.look_at_all();
        if self.waiting.iter().any(|(_, confirm)| matches!(confirm, Confirm::Open(_))) {
            return false;
        }
        for (waiting, confirm) in self.waiting.drain(..) {
            if let Confirm::Resolved(verdict) = confirm {
                self.resolved.push((waiting, verdict));
            }
        }
        self.expired = 0;
        self.answer(answers);
        true
    }

    /// Gives up on all that wait.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Waiting> {
        self.returned.clear();
        self.expired = 0;
        self.waiting.drain(..).map(|(waiting, _)| waiting)
    }

    /// Those whose time is up, each once.
    pub(super) fn expire(&mut self, now: Instant, mut told: impl FnMut(u64)) {
        for (waiting, _) in self.waiting.iter_mut().take_while(|(waiting, _)| waiting.until <= now) {
            if !waiting.expired {
                waiting.expired = true;
                self.expired += 1;
                told(waiting.ticket);
            }
        }
    }

    fn look_at_all(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for (_, confirm) in &mut self.waiting {
            if let Confirm::Open(open) = confirm
                && let Poll::Ready(resolved) = Pin::new(open).poll(&mut context)
            {
                *confirm = Confirm::Resolved(verdict(resolved, &mut self.returned));
            }
        }
    }

    fn answer(&mut self, answers: &mut Vec<(Waiting, Result<Receipt>)>) {
        // Only messages that may be returned need the look; their publisher's are all of that kind.
        if self.resolved.iter().any(|(waiting, _)| waiting.id.is_some()) {
            self.look_at_all();
        }
        for (waiting, verdict) in self.resolved.drain(..) {
            let back = waiting.id.as_ref().and_then(|id| self.returned.iter().position(|(known, _)| known == id));
            let result = match back {
                Some(index) => Err(unroutable(&self.returned.swap_remove(index).1)),
                None => result_of(verdict),
            };
            answers.push((waiting, result));
        }
    }
}

/// Keeps what came back, and says the rest in short.
fn verdict(resolved: lapin::Result<Confirmation>, returned: &mut Vec<(MessageId, String)>) -> Verdict {
    let (verdict, back) = match resolved {
        Ok(Confirmation::Ack(back)) => (Verdict::Taken, back),
        Ok(Confirmation::Nack(back)) => (Verdict::Refused, back),
        Ok(Confirmation::NotRequested) => (Verdict::Silent, None),
        Err(error) => (Verdict::Lost(Box::new(error)), None),
    };
    if let Some(back) = back {
        let id = back.properties.message_id().as_ref().map_or("", |id| id.as_str());
        returned.push((MessageId::from_text(id), back.reply_text.to_string()));
    }
    verdict
}

fn unroutable(why: &str) -> Error {
    Error::new(
        ErrorKind::Unroutable,
        format!("no queue took the message ({why}): it does not exist, or nothing is bound to its exchange"),
    )
}

fn result_of(verdict: Verdict) -> Result<Receipt> {
    match verdict {
        Verdict::Taken => Ok(Receipt::default()),
        Verdict::Refused => Err(Error::new(
            ErrorKind::Full,
            "the broker refused the message: a queue is full, or cannot reach its replicas",
        )
        // Of several queues behind an exchange some may have it.
        .with_outcome(ErrorOutcome::Unknown)),
        Verdict::Silent => Err(Error::new(ErrorKind::Internal, "the channel does not confirm, though it was told to")),
        Verdict::Lost(error) => Err(from_lapin(&error, Call::Publish).with_outcome(ErrorOutcome::Unknown)),
    }
}
