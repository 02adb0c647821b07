//! One message of a key at a time.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::epoch::DeliveryId;

/// Lets one message of a key pass at a time. The others of the key wait here, in the order in which they came; other keys pass.
///
/// A message that passed holds its key until [`leave`](Self::leave) is called with its identity: after it was settled, stale or not,
/// or was given back before it was started. While it waits for a retry it still holds its key.
///
/// The gate is not bounded: whoever reads ahead bounds what waits in it. A key costs one allocation when its first message
/// enters; messages that follow while the key is held cost none.
pub struct KeyGate<T> {
    /// For each key that is held, what waits behind its holder.
    behind: HashMap<Arc<str>, VecDeque<(DeliveryId, T)>>,
    /// Key that each passed message holds.
    holders: HashMap<DeliveryId, Arc<str>>,
    waiting: usize,
}

impl<T> KeyGate<T> {
    /// A gate at which nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self { behind: HashMap::new(), holders: HashMap::new(), waiting: 0 }
    }

    /// Returns the item if it may pass: no other message holds its key, or it holds the key itself since an earlier pass.
    /// Otherwise it waits.
    pub fn enter(&mut self, id: DeliveryId, key: &str, item: T) -> Option<T> {
        match self.claim(id, key) {
            None => Some(item),
            Some(held) => self.wait_for(held, id, item),
        }
    }

    /// As [`enter`](Self::enter) for an item that has its key in it; without a key it passes.
    pub fn enter_by(&mut self, id: DeliveryId, item: T, key_of: impl Fn(&T) -> Option<Cow<'_, str>>) -> Option<T> {
        let claimed = key_of(&item).and_then(|key| self.claim(id, &key));
        match claimed {
            None => Some(item),
            Some(held) => self.wait_for(held, id, item),
        }
    }

    /// Gives the key to a message, unless another holds it: then it is returned.
    fn claim(&mut self, id: DeliveryId, key: &str) -> Option<Arc<str>> {
        if let Some((held, _)) = self.behind.get_key_value(key) {
            return (!self.holders.contains_key(&id)).then(|| Arc::clone(held));
        }
        let key: Arc<str> = key.into();
        self.behind.insert(Arc::clone(&key), VecDeque::new());
        self.holders.insert(id, key);
        None
    }

    fn wait_for(&mut self, key: Arc<str>, id: DeliveryId, item: T) -> Option<T> {
        self.behind.entry(key).or_default().push_back((id, item));
        self.waiting += 1;
        None
    }

    /// Frees the key that a message holds. Returns the next message of the key, which holds it from now on. An identity that holds
    /// no key changes nothing.
    pub fn leave(&mut self, id: DeliveryId) -> Option<T> {
        // Nearly always empty where keys are rare, and a lookup in an empty map hashes all the same.
        if self.holders.is_empty() {
            return None;
        }
        let key = self.holders.remove(&id)?;
        match self.behind.get_mut(&*key).and_then(VecDeque::pop_front) {
            Some((next, item)) => {
                self.waiting -= 1;
                self.holders.insert(next, key);
                Some(item)
            }
            None => {
                self.behind.remove(&*key);
                None
            }
        }
    }

    /// True if no message holds this key.
    #[must_use]
    pub fn is_free(&self, key: &str) -> bool {
        !self.behind.contains_key(key)
    }

    /// Number of messages that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Removes the waiting messages that `which` selects; those of one key stay in order. Keys that are held stay held.
    pub fn take_waiting(&mut self, mut which: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        if self.waiting == 0 {
            return taken;
        }
        for behind in self.behind.values_mut() {
            for (id, item) in std::mem::take(behind) {
                if which(&item) { taken.push(item) } else { behind.push_back((id, item)) }
            }
        }
        self.waiting -= taken.len();
        taken
    }
}

impl<T> Default for KeyGate<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for KeyGate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyGate").field("held", &self.holders.len()).field("waiting", &self.waiting).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(tag: u64) -> DeliveryId {
        DeliveryId { epoch: 0, tag }
    }

    #[test]
    fn one_message_of_a_key_passes_at_a_time() {
        let mut gate = KeyGate::new();
        assert_eq!(gate.enter(id(1), "a", 1), Some(1));
        assert_eq!(gate.enter(id(2), "a", 2), None);
        assert_eq!(gate.enter(id(3), "b", 3), Some(3));
        assert_eq!(gate.enter(id(5), "a", 5), None);
        assert_eq!(gate.waiting(), 2);
        assert_eq!(gate.leave(id(4)), None, "it holds no key");
        assert_eq!(gate.leave(id(1)), Some(2));
        assert_eq!(gate.enter(id(2), "a", 2), Some(2), "a retry still holds its key");
        assert_eq!(gate.leave(id(2)), Some(5));
        assert!(!gate.is_free("a"));
        assert_eq!(gate.leave(id(5)), None);
        assert!(gate.is_free("a"));
        assert_eq!(gate.enter(id(6), "a", 6), Some(6));
    }

    #[test]
    fn a_key_stays_held_by_its_holder_of_an_earlier_epoch() {
        let mut gate = KeyGate::new();
        let (before, again) = (DeliveryId { epoch: 0, tag: 1 }, DeliveryId { epoch: 1, tag: 1 });
        assert_eq!(gate.enter(before, "a", "before"), Some("before"));
        assert_eq!(gate.enter(again, "a", "again"), None, "its handler still runs");
        assert_eq!(gate.leave(before), Some("again"));
    }

    /// Step of the model: a message of a key comes, a holder leaves, or some of those that wait are taken.
    #[derive(Clone, Debug)]
    enum Step {
        Enter(u8),
        Leave(usize),
        Take(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..3).prop_map(Step::Enter),
            3 => (0_usize..8).prop_map(Step::Leave),
            1 => (2_u64..4).prop_map(Step::Take),
        ]
    }

    proptest! {
        #[test]
        fn keys_keep_their_order_and_nothing_is_lost(steps in proptest::collection::vec(step(), 0..100)) {
            let mut gate = KeyGate::new();
            let mut passed: Vec<(u8, u64)> = Vec::new();
            let mut waiting: Vec<(u8, u64)> = Vec::new();
            let mut tag = 0;
            for step in steps {
                match step {
                    Step::Enter(key) => {
                        tag += 1;
                        let is_free = passed.iter().all(|(held, _)| *held != key);
                        let entered = gate.enter(id(tag), &key.to_string(), (key, tag));
                        prop_assert_eq!(entered.is_some(), is_free);
                        if is_free { passed.push((key, tag)) } else { waiting.push((key, tag)) }
                    }
                    Step::Leave(at) if at < passed.len() => {
                        let (key, tag) = passed.remove(at);
                        let next = waiting.iter().position(|(waits, _)| *waits == key).map(|at| waiting.remove(at));
                        prop_assert_eq!(gate.leave(id(tag)), next);
                        passed.extend(next);
                    }
                    Step::Leave(_) => {}
                    Step::Take(by) => {
                        let mut taken = gate.take_waiting(|(_, tag)| tag % by == 0);
                        taken.sort_unstable_by_key(|(_, tag)| *tag);
                        let (gone, left) = waiting.into_iter().partition::<Vec<_>, _>(|(_, tag)| tag % by == 0);
                        waiting = left;
                        prop_assert_eq!(taken, gone);
                    }
                }
                prop_assert_eq!(gate.waiting(), waiting.len());
            }
        }
    }
}
