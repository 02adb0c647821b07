//! Publishes that wait for the broker's answer.
//!
//! The client hangs a returned message on whichever confirm comes next, which with joined writes is not always its own
//! (lapin 4.12: 1 of 2,857). So returns are matched by the message's id here. A return comes before the confirm of its own
//! message, and is hung on the first confirm that is resolved after it; hence before any answer is given, all that are
//! resolved by then are looked at. Each says for itself that it is resolved, so that this costs one look each.
//!
//! Answers are given as they come: one that the broker holds back, because its queue has lost its majority perhaps, holds up
//! none of the others.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lapin::Confirmation;
use lapin::types::ShortString;
use messaging_core::{Error, ErrorKind, ErrorOutcome, MessageId, Receipt, Result, Source};
use tokio::time::Instant;

use super::ready_slots::ReadySlots;
use crate::error::{Call, from_lapin};

/// One publish that waits.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) ticket: u64,
    pub(super) until: Instant,
    /// The message's id, where it may be returned.
    pub(super) id: Option<MessageId>,
    /// The routing key, where the writer has several recipients: ids are the publisher's, and two copies may share one.
    pub(super) routing_key: Option<ShortString>,
    /// The source whose dead letter this is.
    pub(super) dead_letter_of: Option<Box<Source>>,
    /// Time until which the answer is held back, because the queue is too young to be trusted.
    pub(super) trusted_from: Option<Instant>,
    /// Whether the sender has been answered already that the time is up.
    pub(super) expired: bool,
}

/// A publish and what became of it.
pub(super) type Answer = (Unconfirmed, Result<Receipt>);

/// A message that no queue took.
struct Returned {
    id: MessageId,
    routing_key: ShortString,
    why: String,
}

impl Returned {
    fn is_of(&self, publish: &Unconfirmed) -> bool {
        publish.id.as_ref() == Some(&self.id) && publish.routing_key.as_ref().is_none_or(|key| *key == self.routing_key)
    }
}

/// Answer of the broker to one publish.
enum Verdict {
    Taken,
    Refused,
    /// The channel does not confirm.
    Silent,
    Lost(Box<lapin::Error>),
}

/// Slot of one publish. Its waker is used again for the next.
struct Slot<C> {
    waker: Waker,
    open: Option<(Unconfirmed, C)>,
}

/// The publishes that wait.
pub(super) struct Confirms<C> {
    slots: Vec<Slot<C>>,
    free: Vec<usize>,
    ready: ReadySlots,
    /// Those of `ready` that are looked at just now.
    looked_at: Vec<usize>,
    /// What was resolved and not answered yet.
    resolved: Vec<(Unconfirmed, Verdict)>,
    /// Returned messages whose own confirm was not met yet, and why they came back.
    returned: Vec<Returned>,
    expired: usize,
}

impl<C> Default for Confirms<C> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ready: ReadySlots::default(),
            looked_at: Vec::new(),
            resolved: Vec::new(),
            returned: Vec::new(),
            expired: 0,
        }
    }
}

impl<C: Future<Output = lapin::Result<Confirmation>> + Unpin> Confirms<C> {
    pub(super) fn push(&mut self, waiting: Unconfirmed, confirm: C) {
        let index = self.free.pop().unwrap_or_else(|| {
            let waker = self.ready.waker(self.slots.len());
            self.slots.push(Slot { waker, open: None });
            self.slots.len() - 1
        });
        self.expired += usize::from(waiting.expired);
        self.slots[index].open = Some((waiting, confirm));
        // From now on its waker is called when it is resolved.
        self.look_at(index);
    }

    /// Looks at all that were resolved. `task` is woken when another is.
    pub(super) fn look(&mut self, task: &Waker) {
        loop {
            let mut looked_at = mem::take(&mut self.looked_at);
            self.ready.take(&mut looked_at, task);
            let is_done = looked_at.is_empty();
            for index in looked_at.drain(..) {
                self.look_at(index);
            }
            self.looked_at = looked_at;
            // What is resolved now came before what was seen now, and may carry a return that is not its own.
            if is_done {
                return;
            }
        }
    }

    /// Whether there is something to answer.
    pub(super) fn has_resolved(&self) -> bool {
        !self.resolved.is_empty()
    }

    /// Answers what was resolved.
    pub(super) fn answer(&mut self, answers: &mut Vec<Answer>) {
        for (waiting, verdict) in self.resolved.drain(..) {
            let back = self.returned.iter().position(|returned| returned.is_of(&waiting));
            let result = match back {
                Some(index) => Err(unroutable(&self.returned.swap_remove(index).why, &waiting)),
                None => result_of(verdict),
            };
            answers.push((waiting, result));
        }
    }

    fn look_at(&mut self, index: usize) {
        // A waker may be called late: for a publish that was given up, or looked at before.
        let Some(place) = self.slots.get_mut(index) else { return };
        let Some((_, confirm)) = &mut place.open else { return };
        let Poll::Ready(resolved) = Pin::new(confirm).poll(&mut Context::from_waker(&place.waker)) else { return };
        if let Some((waiting, _)) = place.open.take() {
            self.expired -= usize::from(waiting.expired);
            self.resolved.push((waiting, verdict(resolved, &mut self.returned)));
            self.free.push(index);
        }
    }
}

impl<C> Confirms<C> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len() + self.resolved.len()
    }

    /// How many were told that their time is up and are still open at the broker.
    pub(super) fn expired(&self) -> usize {
        self.expired
    }

    /// Those whose time is up, each once.
    pub(super) fn expire(&mut self, now: Instant, mut told: impl FnMut(u64)) {
        for (waiting, _) in self.slots.iter_mut().filter_map(|place| place.open.as_mut()) {
            if waiting.expire(now) {
                self.expired += 1;
                told(waiting.ticket);
            }
        }
    }

    /// Gives up on all that wait.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Unconfirmed> {
        self.returned.clear();
        self.free.clear();
        self.expired = 0;
        let open = self.slots.drain(..).filter_map(|place| place.open.map(|(waiting, _)| waiting));
        open.chain(self.resolved.drain(..).map(|(waiting, _)| waiting))
    }
}

impl Unconfirmed {
    /// Whether its time is up and its sender does not know.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let expires = !self.expired && self.until <= now;
        self.expired |= expires;
        expires
    }
}

/// Keeps what came back, and says the rest in short.
fn verdict(resolved: lapin::Result<Confirmation>, returned: &mut Vec<Returned>) -> Verdict {
    let (verdict, back) = match resolved {
        Ok(Confirmation::Ack(back)) => (Verdict::Taken, back),
        Ok(Confirmation::Nack(back)) => (Verdict::Refused, back),
        Ok(Confirmation::NotRequested) => (Verdict::Silent, None),
        Err(error) => (Verdict::Lost(Box::new(error)), None),
    };
    if let Some(back) = back {
        let id = back.properties.message_id().as_ref().map_or("", |id| id.as_str());
        returned.push(Returned {
            id: MessageId::from_text(id),
            routing_key: back.routing_key.clone(),
            why: back.reply_text.to_string(),
        });
    }
    verdict
}

fn unroutable(why: &str, publish: &Unconfirmed) -> Error {
    let text = match &publish.dead_letter_of {
        Some(source) => format!("the dead letter of {source} does not exist: create it, or set topology = \"create\""),
        None => format!("no queue took the message ({why}): it does not exist, or nothing is bound to its exchange"),
    };
    Error::new(ErrorKind::Unroutable, text)
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
