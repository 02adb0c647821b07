//! Messages that wait for room in a store that is full, in the order in which they were sent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use messaging_core::{Message, Receipt};
use tokio::time::Instant;

use super::effects::Answer;
use crate::publisher::Sends;

/// A message that waits for room. How many there can be is bounded by the publishers' in-flight bounds.
pub(crate) struct Parked {
    pub(crate) message: Message,
    pub(crate) sends: Arc<Sends>,
    pub(crate) ticket: u64,
    /// Until when it waits.
    pub(crate) by: Instant,
}

impl Parked {
    pub(crate) fn admit(self, receipt: Receipt) -> (Message, Answer) {
        (self.message, Answer { sends: self.sends, ticket: self.ticket, by: self.by, receipt })
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Parking(VecDeque<Parked>);

impl Parking {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, parked: Parked) {
        self.0.push_back(parked);
    }

    pub(crate) fn pop(&mut self) -> Option<Parked> {
        self.0.pop_front()
    }

    pub(crate) fn remove(&mut self, ticket: u64, sends: &Sends) -> Option<Message> {
        let at = self.0.iter().position(|parked| parked.ticket == ticket && std::ptr::eq(&*parked.sends, sends));
        at.and_then(|index| self.0.remove(index)).map(|parked| parked.message)
    }
}
