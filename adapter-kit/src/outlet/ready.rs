//! Messages that may be handed out now.

use std::collections::VecDeque;

/// The most messages that are appended to the last batch. Larger batches are kept as they are, so that taking them in moves none of
/// their messages and the application waits no longer for the lock.
const APPENDED_MAX: usize = 32;

/// Messages in the order in which they are handed out.
pub(super) struct Ready<H> {
    /// Messages that go before all others.
    first: VecDeque<H>,
    /// None of them is empty, but the last may be: its room is used again.
    batches: VecDeque<VecDeque<H>>,
    len: usize,
}

impl<H> Ready<H> {
    pub(super) fn new() -> Self {
        Self { first: VecDeque::new(), batches: VecDeque::from([VecDeque::new()]), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of messages that go before all others.
    pub(super) fn first(&self) -> usize {
        self.first.len()
    }

    pub(super) fn push(&mut self, item: H) {
        self.len += 1;
        match self.batches.back_mut() {
            Some(last) => last.push_back(item),
            None => self.batches.push_back(VecDeque::from([item])),
        }
    }

    pub(super) fn push_first(&mut self, item: H) {
        self.len += 1;
        self.first.push_back(item);
    }

    /// Takes all of a batch, which is empty afterwards.
    pub(super) fn push_batch(&mut self, batch: &mut VecDeque<H>) {
        self.len += batch.len();
        match self.batches.back_mut() {
            Some(last) if batch.len() <= APPENDED_MAX => last.append(batch),
            Some(last) if last.is_empty() => std::mem::swap(last, batch),
            _ => self.batches.push_back(std::mem::take(batch)),
        }
    }

    pub(super) fn pop(&mut self) -> Option<H> {
        if let Some(item) = self.first.pop_front() {
            self.len -= 1;
            return Some(item);
        }
        let batch = self.batches.front_mut()?;
        let item = batch.pop_front()?;
        self.len -= 1;
        if batch.is_empty() && self.batches.len() > 1 {
            self.batches.pop_front();
        }
        Some(item)
    }

    /// Removes the messages that `which` selects, in order.
    pub(super) fn take_where(&mut self, mut which: impl FnMut(&H) -> bool) -> Vec<H> {
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        if self.is_empty() {
            return taken;
        }
        for item in std::mem::take(&mut self.first) {
            if which(&item) { taken.push(item) } else { self.first.push_back(item) }
        }
        for item in std::mem::take(&mut self.batches).into_iter().flatten() {
            if which(&item) { taken.push(item) } else { left.push_back(item) }
        }
        self.len = self.first.len() + left.len();
        self.batches.push_back(left);
        taken
    }
}
