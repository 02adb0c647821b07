//! The sides of the feeder and of the settlers.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use messaging_core::{Event, Flow, Order};
use tokio::time::Instant;

use super::{Buffered, EndReason, Held, Outlet, unlock_and_wake};
use crate::epoch::{DeliveryId, Epoch};

/// The feeder's side.
impl<H: Held> Outlet<H> {
    /// A new registration at the broker. Its number is greater than those of all before.
    #[must_use]
    pub fn begin_epoch(&self) -> Epoch {
        Epoch::new(self.0.epochs.fetch_add(1, Ordering::SeqCst))
    }

    /// Ends an epoch: nothing of it is handed out any more, its deliveries are stale, and their places are free. Returns what was not
    /// handed out.
    #[must_use = "where the broker still knows these messages, they are given back"]
    pub fn end_epoch(&self, epoch: &Epoch) -> Vec<H> {
        // In this order: once it is leaving nothing is put back, and what is there is taken out, before its places are counted.
        epoch.leave();
        let unstarted = self.take_unstarted(|item| item.id().epoch == epoch.number());
        self.freed(epoch.end());
        unstarted
    }

    /// Puts in what was read, in order. The batch is empty afterwards; its memory may be used again.
    pub fn offer(&self, batch: &mut VecDeque<H>) {
        if batch.is_empty() {
            return;
        }
        let options = &self.0.options;
        let state = if options.order == Order::ByKey {
            let mut state = self.0.state.lock();
            batch.drain(..).for_each(|item| state.admit(item, options));
            state
        } else {
            let bytes: usize = batch.iter().map(H::size).sum();
            let mut state = self.0.state.lock();
            state.bytes += bytes;
            state.ready.push_batch(batch);
            state
        };
        unlock_and_wake(state);
    }

    /// Puts in what is handed out before all else that waits.
    pub fn offer_first(&self, items: impl IntoIterator<Item = H>) {
        let mut state = self.0.state.lock();
        items.into_iter().for_each(|item| state.admit_first(item, &self.0.options));
        unlock_and_wake(state);
    }

    /// Puts in what was read before it is due. It does not hold its key meanwhile. The feeder calls
    /// [`release_due`](Self::release_due) at that time.
    pub fn delay(&self, item: H, due: Instant) {
        let mut state = self.0.state.lock();
        state.delayed_bytes += item.size();
        state.delayed.push(due, item);
    }

    /// Makes ready what is due by `now`. Returns when the next is due: the feeder calls this again then.
    pub fn release_due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.0.state.lock();
        let is_any = state.release_due(now, &self.0.options);
        let next = state.next_due();
        if is_any {
            unlock_and_wake(state);
        }
        next
    }

    /// Takes out messages that were not handed out, wherever they wait, and frees the keys that they hold. Those of one key stay in
    /// order. Once the consumer was stopped they count as released in the report of the drain.
    #[must_use = "where the broker still knows these messages, they are given back"]
    pub fn take_unstarted(&self, which: impl FnMut(&H) -> bool) -> Vec<H> {
        let mut state = self.0.state.lock();
        let taken = state.take_unstarted(which);
        if state.flow == Flow::Stopped {
            self.0.released.fetch_add(taken.len() as u64, Ordering::SeqCst);
        }
        if !taken.is_empty() {
            unlock_and_wake(state);
        }
        taken
    }

    /// True while the feeder may read on: the flow runs and what was read is below high water, or, after that was reached, below low water. The
    /// feeder is woken when this becomes true.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut state = self.0.state.lock();
        state.update_room(&self.0.options) && state.flow == Flow::Running
    }

    /// How much waits here.
    #[must_use]
    pub fn buffered(&self) -> Buffered {
        self.0.state.lock().buffered(&self.0.options)
    }

    /// True if a message of this key would be handed out without waiting for another of its key.
    #[must_use]
    pub fn is_key_free(&self, key: &str) -> bool {
        self.0.options.order != Order::ByKey || self.0.state.lock().gate.is_free(key)
    }

    /// Reports an event. At most 64 wait for the application; gaps are summed and never dropped.
    pub fn report(&self, event: Event) {
        let mut state = self.0.state.lock();
        state.events.push(event);
        let waker = state.event_waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection is lost, or still is for another reason: health is degraded, and [`Event::Disconnected`] is reported once.
    pub fn lost(&self, why: impl Into<String>) {
        if self.0.trouble.set(why) {
            self.report(Event::Disconnected);
        }
    }

    /// The connection is back: health is up, and [`Event::Reconnected`] is reported if it was lost.
    pub fn back(&self) {
        if self.0.trouble.clear() {
            self.report(Event::Reconnected);
        }
    }

    /// Reason why the connection is lost, while it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.why()
    }

    /// Ends the consumer with an error, which every receive returns from now on. The first reason stays. The flow is stopped.
    pub fn end(&self, reason: EndReason) {
        let mut state = self.0.state.lock();
        state.end.get_or_insert(reason);
        state.flow = Flow::Stopped;
        self.0.is_stopped.store(true, Ordering::SeqCst);
        let watcher = state.event_waker.take();
        unlock_and_wake(state);
        if let Some(watcher) = watcher {
            watcher.wake();
        }
        self.0.feeder.wake();
    }
}

/// The settlers' side.
impl<H: Held> Outlet<H> {
    /// Deliveries were settled: their places are free.
    pub fn settled(&self, count: usize) {
        self.0.settled.fetch_add(count as u64, Ordering::SeqCst);
        self.freed(count);
    }

    /// Places of deliveries are free without a settlement: their epoch ended.
    pub fn freed(&self, count: usize) {
        if count == 0 {
            return;
        }
        let before = self.0.unsettled.fetch_sub(count, Ordering::SeqCst);
        debug_assert!(before >= count, "more places were freed than were taken");
        // Read before it is written: nearly always nobody waits, and a read is cheaper.
        if self.0.is_starved.load(Ordering::SeqCst) && self.0.is_starved.swap(false, Ordering::SeqCst) {
            unlock_and_wake(self.0.state.lock());
        }
        if before == count && self.0.is_stopped.load(Ordering::SeqCst) {
            self.0.idle.notify_waiters();
            self.0.feeder.wake();
        }
    }

    /// Frees the key that a delivery holds, once its settlement is decided, whatever came of it: also a stale one waited for its
    /// handler. Costs nothing where messages are not ordered by key.
    pub fn free_key(&self, id: DeliveryId) {
        self.free_keys([id]);
    }

    /// As [`free_key`](Self::free_key) for many, under one lock.
    pub fn free_keys(&self, ids: impl IntoIterator<Item = DeliveryId>) {
        if self.0.options.order != Order::ByKey {
            return;
        }
        let mut state = self.0.state.lock();
        let freed = ids.into_iter().filter(|id| state.free_key(*id)).count();
        if freed > 0 {
            unlock_and_wake(state);
        }
    }

    /// Takes back a delivery that is handed out again from here: at once, before all that was not started, or at `due`. It keeps its
    /// key. Its place is freed by [`settled`](Self::settled), which the caller calls afterwards; while it waits for `due` it uses a
    /// place as [`OutletOptions::retry_mode`](super::OutletOptions::retry_mode) says.
    ///
    /// Returns the item, with its key freed, if the consumer was stopped or the item is not wanted any more: the caller gives it back
    /// to the broker. Both are looked at under the lock under which unstarted messages are taken out, so that none stays behind.
    #[must_use = "an item that is returned goes back to the broker"]
    pub fn put_back(&self, item: H, due: Option<Instant>) -> Option<H> {
        let mut state = self.0.state.lock();
        if state.flow == Flow::Stopped || !item.is_wanted() {
            if state.free_key(item.id()) {
                unlock_and_wake(state);
            }
            return Some(item);
        }
        match due {
            Some(due) => {
                let is_first = state.next_due().is_none_or(|next| due < next);
                state.held_bytes += item.size();
                state.held.push(due, item);
                drop(state);
                if is_first {
                    self.0.feeder.wake();
                }
            }
            None => {
                state.admit_first(item, &self.0.options);
                unlock_and_wake(state);
            }
        }
        None
    }
}
