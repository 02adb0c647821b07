//! One message of a key at a time.
//!
//! A lane's queue has one active consumer, which may hold many of its messages. Those of one key are handed out one after the
//! other; while one waits for its retry, those behind it wait too, and other keys flow.

use std::collections::{HashMap, VecDeque};

use messaging_core::Message;
use smol_str::SmolStr;

/// What waits behind messages of the same key.
#[derive(Debug)]
pub(crate) struct Gate<T> {
    /// Keys of which a message is out, and what waits behind it.
    busy: HashMap<SmolStr, VecDeque<T>>,
    /// The keys of what is out, by tag: a batch of acknowledgements has nothing but tags.
    out: HashMap<u64, SmolStr>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { busy: HashMap::new(), out: HashMap::new() }
    }
}

impl<T> Gate<T> {
    /// Lets an item pass if nothing of its key is out; keeps it otherwise. What has no key passes.
    pub(crate) fn enter(&mut self, tag: u64, message: &Message, item: T) -> Option<T> {
        let Some(key) = message.key() else { return Some(item) };
        if let Some(behind) = self.busy.get_mut(key) {
            behind.push_back(item);
            return None;
        }
        let key = SmolStr::new(key);
        self.out.insert(tag, key.clone());
        self.busy.insert(key, VecDeque::new());
        Some(item)
    }

    /// What is out under a tag is done with: the next of its key passes.
    pub(crate) fn leave(&mut self, tag: u64, tag_of: impl Fn(&T) -> u64) -> Option<T> {
        let key = self.out.remove(&tag)?;
        match self.busy.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => {
                self.out.insert(tag_of(&next), key);
                Some(next)
            }
            None => {
                self.busy.remove(&key);
                None
            }
        }
    }

    /// Takes all that waits; what is out stays out, and its key busy.
    pub(crate) fn take_waiting(&mut self) -> Vec<T> {
        self.busy.values_mut().flat_map(std::mem::take).collect()
    }

    /// Forgets all, and takes what waits, in no particular order of keys.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.out.clear();
        self.busy.drain().flat_map(|(_, behind)| behind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str) -> Message {
        Message::builder("x").key(key).build().unwrap()
    }

    #[test]
    fn one_of_a_key_at_a_time() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(1, &message("a"), 1), Some(1));
        assert_eq!(gate.enter(2, &message("a"), 2), None);
        assert_eq!(gate.enter(3, &message("b"), 3), Some(3));
        assert_eq!(gate.enter(4, &Message::new("none"), 4), Some(4));
        assert_eq!(gate.enter(5, &message("a"), 5), None);
        assert_eq!(gate.leave(4, |tag| *tag), None);
        assert_eq!(gate.leave(1, |tag| *tag), Some(2));
        assert_eq!(gate.leave(2, |tag| *tag), Some(5));
        assert_eq!(gate.leave(5, |tag| *tag), None);
        assert_eq!(gate.enter(6, &message("a"), 6), Some(6));
    }
}
