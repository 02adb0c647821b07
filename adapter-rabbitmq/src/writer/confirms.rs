//! Publishes that wait for the broker's answer, in the order in which they were written.
//!
//! The client hangs a returned message on whichever confirm comes next, which with joined writes is not always its own
//! (lapin 4.12: 1 of 2,857). So returns are matched by the message's id here. A return comes before the confirm of its own
//! message, and is hung on the first confirm that is resolved after it; hence before any answer is given, all that are
//! resolved by then are looked at. Each confirm notes for itself that it is resolved ([`Bell`]), so that this costs one look
//! each, and not a look at all that wait.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use lapin::{Confirmation, PublisherConfirm};
use messaging_core::{Error, ErrorKind, ErrorOutcome, MessageId, Receipt, Result};
use parking_lot::Mutex;
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

/// The number of a publish, in the order in which they were written.
type Number = u64;

struct Entry {
    waiting: Waiting,
    confirm: Confirm,
    bell: Waker,
}

enum Confirm {
    Open(PublisherConfirm),
    Resolved(lapin::Result<Confirmation>),
}

/// What was resolved and not looked at yet, in the order in which it was resolved.
#[derive(Default)]
struct Resolved {
    numbers: Vec<Number>,
    task: Option<Waker>,
}

/// Notes that a confirm is resolved, and wakes the task.
struct Bell {
    number: Number,
    resolved: Arc<Mutex<Resolved>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let task = {
            let mut resolved = self.resolved.lock();
            resolved.numbers.push(self.number);
            resolved.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The publishes that wait.
#[derive(Default)]
pub(super) struct Confirms {
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first: Number,
    resolved: Arc<Mutex<Resolved>>,
    /// Those of `resolved` that are looked at just now.
    looked_at: Vec<Number>,
    /// Ids of returned messages whose own confirm was not met yet, and why they came back.
    returned: Vec<(MessageId, String)>,
    expired: usize,
}

impl Confirms {
    pub(super) fn push(&mut self, waiting: Waiting, confirm: PublisherConfirm) {
        let number = self.first + self.entries.len() as Number;
        let bell = Waker::from(Arc::new(Bell { number, resolved: Arc::clone(&self.resolved) }));
        self.entries.push_back(Entry { waiting, confirm: Confirm::Open(confirm), bell });
        self.look_at(number);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
        self.look_at_resolved(Some(cx.waker()));
        match self.answer(answers) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Takes all that wait, as when the channel is lost: those that were answered in time have their answer.
    pub(super) fn take_all(&mut self, answers: &mut Vec<(Waiting, Result<Receipt>)>) -> bool {
        self.look_at_resolved(None);
        if self.entries.iter().any(|entry| matches!(entry.confirm, Confirm::Open(_))) {
            return false;
        }
        self.answer(answers);
        true
    }

    /// Gives up on all that wait.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Waiting> {
        self.returned.clear();
        self.expired = 0;
        self.first += self.entries.len() as Number;
        self.entries.drain(..).map(|entry| entry.waiting)
    }

    /// Those whose time is up, each once.
    pub(super) fn expire(&mut self, now: Instant, mut told: impl FnMut(u64)) {
        let waiting = self.entries.iter_mut().map(|entry| &mut entry.waiting);
        for waiting in waiting.take_while(|waiting| waiting.until <= now) {
            if !waiting.expired {
                waiting.expired = true;
                self.expired += 1;
                told(waiting.ticket);
            }
        }
    }

    /// Looks at all that was resolved since the last look, in that order.
    fn look_at_resolved(&mut self, task: Option<&Waker>) {
        let mut numbers = mem::take(&mut self.looked_at);
        {
            let mut resolved = self.resolved.lock();
            mem::swap(&mut numbers, &mut resolved.numbers);
            if let Some(task) = task {
                match &mut resolved.task {
                    Some(known) => known.clone_from(task),
                    None => resolved.task = Some(task.clone()),
                }
            }
        }
        for number in numbers.drain(..) {
            self.look_at(number);
        }
        self.looked_at = numbers;
    }

    fn look_at(&mut self, number: Number) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else { return };
        let Confirm::Open(open) = &mut entry.confirm else { return };
        let Poll::Ready(mut resolved) = Pin::new(open).poll(&mut Context::from_waker(&entry.bell)) else { return };
        if let Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) = &mut resolved
            && let Some(returned) = returned.take()
        {
            let id = returned.properties.message_id().as_ref().map_or("", |id| id.as_str());
            self.returned.push((MessageId::from_text(id), returned.reply_text.to_string()));
        }
        entry.confirm = Confirm::Resolved(resolved);
    }

    /// Answers the oldest, up to the first that is open. Returns how many.
    fn answer(&mut self, answers: &mut Vec<(Waiting, Result<Receipt>)>) -> usize {
        let before = answers.len();
        while let Some(Entry { waiting, confirm, .. }) =
            self.entries.pop_front_if(|entry| matches!(entry.confirm, Confirm::Resolved(_)))
        {
            self.first += 1;
            self.expired -= usize::from(waiting.expired);
            let Confirm::Resolved(resolved) = confirm else { continue };
            let back = waiting.id.as_ref().and_then(|id| self.returned.iter().position(|(known, _)| known == id));
            let result = match back {
                Some(index) => Err(unroutable(&self.returned.swap_remove(index).1)),
                None => result_of(resolved),
            };
            answers.push((waiting, result));
        }
        answers.len() - before
    }
}

fn unroutable(why: &str) -> Error {
    Error::new(
        ErrorKind::Unroutable,
        format!("no queue took the message ({why}): it does not exist, or nothing is bound to its exchange"),
    )
}

fn result_of(resolved: lapin::Result<Confirmation>) -> Result<Receipt> {
    match resolved {
        Ok(Confirmation::Ack(_)) => Ok(Receipt::default()),
        Ok(Confirmation::Nack(_)) => Err(Error::new(
            ErrorKind::Full,
            "the broker refused the message: a queue is full, or cannot reach its replicas",
        )
        // Of several queues behind an exchange some may have it.
        .with_outcome(ErrorOutcome::Unknown)),
        Ok(Confirmation::NotRequested) => {
            Err(Error::new(ErrorKind::Internal, "the channel does not confirm, though it was told to"))
        }
        Err(error) => Err(from_lapin(&error, Call::Publish).with_outcome(ErrorOutcome::Unknown)),
    }
}
