//! Handing deliveries out, never more than the prefetch allows.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use messaging_core::{Delivery, Event, Flow, Result};
use tokio::time::Instant;

use super::state::State;
use super::{Held, Inner};

impl<H: Held> Inner<H> {
    /// Hands out up to `max` deliveries; `taken` is room to work in, empty between two calls.
    pub(super) fn poll_next(
        &self,
        cx: &Context<'_>,
        max: usize,
        taken: &mut Vec<H>,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let mut expired = Vec::new();
        let (polled, has_room_again) = {
            let mut state = self.state.lock();
            let polled = self.poll_state(&mut state, cx, max, taken, &mut expired);
            let has_room_again = state.is_full && state.update_room(&self.options);
            (polled, has_room_again)
        };
        out.extend(taken.drain(..).map(H::into_delivery));
        expired.into_iter().for_each(H::expire);
        // Only below low water: before, the feeder would look and wait again.
        if has_room_again {
            self.feeder.wake();
        }
        polled
    }

    fn poll_state(
        &self,
        state: &mut State<H>,
        cx: &Context<'_>,
        max: usize,
        taken: &mut Vec<H>,
        expired: &mut Vec<H>,
    ) -> Poll<Result<usize>> {
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.error()));
        }
        match state.flow {
            Flow::Stopped => return Poll::Ready(Ok(0)),
            Flow::Paused => {
                state.wait(cx);
                return Poll::Pending;
            }
            Flow::Running => {}
        }
        let prefetch = self.options.prefetch.saturating_sub(state.held_places(&self.options));
        let mut now = None;
        loop {
            let places = prefetch.saturating_sub(self.unsettled.load(Ordering::SeqCst));
            let left = max.min(places);
            while taken.len() < left {
                let Some(item) = state.ready.pop() else { break };
                state.bytes = state.bytes.saturating_sub(item.size());
                if item.expires().is_some_and(|expires| *now.get_or_insert_with(Instant::now) >= expires) {
                    expired.push(item);
                } else {
                    taken.push(item);
                }
            }
            if !taken.is_empty() {
                H::handed_out(taken);
                self.unsettled.fetch_add(taken.len(), Ordering::SeqCst);
                return Poll::Ready(Ok(taken.len()));
            }
            state.wait(cx);
            if state.ready.is_empty() || max == 0 {
                return Poll::Pending;
            }
            // A settlement between the look at the places and this note would wake nobody: they are looked at again after it.
            self.is_starved.store(true, Ordering::SeqCst);
            if prefetch <= self.unsettled.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
    }

    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Poll<Event> {
        let mut state = self.state.lock();
        match state.events.pop() {
            Some(event) => Poll::Ready(event),
            None => {
                state.event_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn stop_waiting(&self) {
        self.state.lock().waker = None;
    }
}
