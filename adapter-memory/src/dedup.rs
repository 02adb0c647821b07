//! Recognising messages that are published twice within a window.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use messaging_core::MessageId;
use parking_lot::Mutex;

use crate::clock::nanos;

/// Ids seen within a window. Bounded by the window: ids leave it as new ones come.
#[derive(Debug)]
pub(crate) struct Dedup {
    window: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    until: HashMap<MessageId, u64>,
    order: VecDeque<(u64, MessageId)>,
}

impl Dedup {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window: nanos(window), seen: Mutex::default() }
    }

    /// Whether the id was seen within the window; if not, it is from now on.
    pub(crate) fn is_duplicate(&self, id: &MessageId, now: u64) -> bool {
        let mut seen = self.seen.lock();
        while let Some((until, _)) = seen.order.front()
            && *until <= now
        {
            if let Some((_, old)) = seen.order.pop_front() {
                seen.until.remove(&old);
            }
        }
        if seen.until.contains_key(id) {
            return true;
        }
        let until = now.saturating_add(self.window);
        seen.until.insert(id.clone(), until);
        seen.order.push_back((until, id.clone()));
        false
    }

    /// Forgets all, as a restart without data does.
    pub(crate) fn clear(&self) {
        *self.seen.lock() = Seen::default();
    }

    /// Forgets an id whose message was not stored after all.
    pub(crate) fn forget(&self, id: &MessageId) {
        let mut seen = self.seen.lock();
        seen.until.remove(id);
        seen.order.retain(|(_, known)| known != id);
    }
}
