//! What has to happen after a lock is released: wake, answer, drop.

use std::sync::Arc;
use std::task::Waker;

use messaging_core::Receipt;
use tokio::time::Instant;

use super::entry::Entry;
use crate::publisher::Sends;

/// An answer for a publisher that waited for room.
pub(crate) struct Answer {
    pub(crate) sends: Arc<Sends>,
    pub(crate) ticket: u64,
    pub(crate) by: Instant,
    pub(crate) receipt: Receipt,
}

/// Collected under a lock, run after it. The usual case, at most one to wake, is two words and allocates nothing.
#[derive(Default)]
pub(crate) struct Effects {
    waker: Option<Waker>,
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    wakers: Vec<Waker>,
    answers: Vec<Answer>,
    dropped: Vec<Entry>,
}

impl Effects {
    pub(crate) fn wake(&mut self, waker: Waker) {
        match &self.waker {
            None => self.waker = Some(waker),
            Some(_) => self.more().wakers.push(waker),
        }
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.more().answers.push(answer);
    }

    /// Lets an entry go after the lock: its payload may be large, and its destructor foreign.
    pub(crate) fn drop_later(&mut self, entry: Entry) {
        self.more().dropped.push(entry);
    }

    #[inline]
    pub(crate) fn run(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
        if let Some(more) = self.more {
            more.run();
        }
    }

    #[cold]
    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}

impl More {
    #[cold]
    fn run(self) {
        for waker in self.wakers {
            waker.wake();
        }
        for Answer { sends, ticket, by, receipt } in self.answers {
            sends.stored(ticket, by, receipt);
        }
    }
}
