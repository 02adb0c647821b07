//! Somebody who waits always has a timer for what is due next.
//!
//! A delay that is sooner than all others wakes everybody, who then set their timers anew. Leases are granted for every
//! delivery, so that this would wake everybody for every message: one consumer that waits keeps watch for all of them.

use super::effects::Effects;
use super::entry::NEVER;
use super::state::State;

/// Who keeps watch, and until when its timer is set.
#[derive(Debug, Default)]
pub(super) struct Watch {
    member: u32,
    until: u64,
}

impl State {
    /// A consumer begins to wait with its timer set to `until`.
    pub(super) fn watch(&mut self, id: u32, until: u64) {
        if let Some(member) = self.member_mut(id) {
            member.timer = until;
        }
        if !self.is_watched(until) {
            self.watch = Watch { member: id, until };
        }
    }

    /// Has somebody in line wake at the next deadline, if nobody who waits does. Those at the end of the line are the last to
    /// be woken for a message.
    pub(super) fn keep_watch(&mut self, effects: &mut Effects) {
        let due = self.next_due();
        if due == NEVER || self.is_watched(due) {
            return;
        }
        for id in self.line.iter().rev() {
            let Some(member) = self.members.get_mut(*id as usize).and_then(Option::as_mut) else { continue };
            if !member.in_line {
                continue;
            }
            if member.timer <= due && member.waker.is_some() {
                self.watch = Watch { member: *id, until: member.timer };
                return;
            }
            if let Some(waker) = member.waker.take() {
                effects.wake(waker);
                return;
            }
        }
    }

    fn is_watched(&self, due: u64) -> bool {
        let Watch { member, until } = self.watch;
        let waits = |id| self.member(id).is_some_and(|member| member.waker.is_some() && member.timer == until);
        until <= due && waits(member)
    }
}
