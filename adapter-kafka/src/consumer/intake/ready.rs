//! What may be handed out now.

use std::collections::VecDeque;

use super::Item;

/// Messages in the order in which they are handed out.
///
/// What was read together stays together: taking in a batch moves none of its messages, so that whoever receives does not wait
/// for it.
#[derive(Default)]
pub(super) struct Ready {
    /// What goes before all else.
    first: VecDeque<Item>,
    /// None of them is empty.
    batches: VecDeque<VecDeque<Item>>,
    len: usize,
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, item: Item) {
        self.len += 1;
        match self.batches.back_mut() {
            Some(last) => last.push_back(item),
            None => self.batches.push_back(VecDeque::from([item])),
        }
    }

    pub(super) fn push_first(&mut self, item: Item) {
        self.len += 1;
        self.first.push_back(item);
    }

    /// How many go before all else.
    pub(super) fn first(&self) -> usize {
        self.first.len()
    }

    pub(super) fn push_batch(&mut self, batch: VecDeque<Item>) {
        if !batch.is_empty() {
            self.len += batch.len();
            self.batches.push_back(batch);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        if let Some(item) = self.first.pop_front() {
            self.len -= 1;
            return Some(item);
        }
        let batch = self.batches.front_mut()?;
        let item = batch.pop_front()?;
        self.len -= 1;
        if batch.is_empty() {
            self.batches.pop_front();
        }
        Some(item)
    }

    /// Takes out what is not to stay, in order.
    pub(super) fn take_out(&mut self, mut goes: impl FnMut(&Item) -> bool) -> Vec<Item> {
        let (mut gone, mut left) = (Vec::new(), VecDeque::new());
        for item in std::mem::take(&mut self.first) {
            if goes(&item) { gone.push(item) } else { self.first.push_back(item) }
        }
        for item in std::mem::take(&mut self.batches).into_iter().flatten() {
            if goes(&item) { gone.push(item) } else { left.push_back(item) }
        }
        self.len = self.first.len();
        self.push_batch(left);
        gone
    }
}
