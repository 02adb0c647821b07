//! What has to happen after a lock is released: wake, answer, drop.

use std::sync::Arc;
use std::task::Waker;

use messaging_core::{Receipt, Tickets};

use super::entry::Entry;

/// An answer for a publisher that waited for room.
pub(crate) struct Answer {
    pub(crate) sends: Arc<Tickets<Receipt>>,
    pub(crate) ticket: u64,
    pub(crate) receipt: Receipt,
}

/// Collected under a lock, run after it. Empty ones cost nothing: no vector allocates until it is used.
#[derive(Default)]
pub(crate) struct Effects {
    waker: Option<Waker>,
    wakers: Vec<Waker>,
    answers: Vec<Answer>,
    last: Option<Entry>,
    dropped: Vec<Entry>,
}

impl Effects {
    pub(crate) fn wake(&mut self, waker: Waker) {
        match &self.waker {
            None => self.waker = Some(waker),
            Some(_) => self.wakers.push(waker),
        }
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// Lets an entry go after the lock: its payload may be large, and its destructor foreign.
    pub(crate) fn drop_later(&mut self, entry: Entry) {
        self.dropped.extend(self.last.replace(entry));
    }

    pub(crate) fn run(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
        for waker in self.wakers {
            waker.wake();
        }
        for Answer { sends, ticket, receipt } in self.answers {
            sends.complete(ticket, Ok(receipt));
        }
    }
}
