//! Handing deliveries out, never more than the prefetch allows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::SystemTime;

use messaging_core::wire::to_millis;
use messaging_core::{Delivery, Flow, Result};

use super::state::State;
use super::{Content, Intake, Item};

impl Intake {
    /// Hands out up to `max` deliveries; `taken` is room to work in, empty between two calls.
    pub(crate) fn poll_next(
        &self,
        cx: &Context<'_>,
        max: usize,
        taken: &mut Vec<Item>,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let mut expired = Vec::new();
        let (polled, waiting) = {
            let mut state = self.state.lock();
            let polled = self.poll_state(&mut state, cx, max, taken, &mut expired);
            (polled, state.waiting())
        };
        // Messages are made out of the lock, which the polling thread wants too.
        out.extend(taken.drain(..).map(Item::into_delivery));
        for item in expired {
            item.partition().pass_over(item.offset);
        }
        // Before there is room for much, the polling thread would only look and wait again.
        if self.is_full.load(Ordering::Relaxed)
            && !waiting.is_still_enough()
            && let Some(thread) = self.thread.get()
        {
            self.is_full.store(false, Ordering::Relaxed);
            thread.unpark();
        }
        polled
    }

    fn poll_state(
        &self,
        state: &mut State,
        cx: &Context<'_>,
        max: usize,
        taken: &mut Vec<Item>,
        expired: &mut Vec<Item>,
    ) -> Poll<Result<usize>> {
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.error()));
        }
        match state.flow {
            Flow::Stopped => return Poll::Ready(Ok(0)),
            Flow::Paused => {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Flow::Running => {}
        }
        let mut now = None;
        let prefetch = self.settings.options.prefetch.saturating_sub(state.held_places());
        let room = |intake: &Self| prefetch.saturating_sub(intake.unsettled());
        let mut left = max.min(room(self));
        loop {
            while taken.len() < left {
                let Some(item) = state.ready.pop() else { break };
                state.bytes = state.bytes.saturating_sub(item.size());
                if item.expires > 0 && *now.get_or_insert_with(|| to_millis(SystemTime::now())) >= item.expires {
                    expired.push(item);
                    continue;
                }
                taken.push(item);
            }
            if !taken.is_empty() {
                taken.chunk_by(|one, next| Arc::ptr_eq(one.partition(), next.partition())).for_each(hand_out);
                self.unsettled.fetch_add(taken.len(), Ordering::SeqCst);
                return Poll::Ready(Ok(taken.len()));
            }
            state.waker = Some(cx.waker().clone());
            self.starved.store(true, Ordering::SeqCst);
            // Room may have come since it was looked at.
            left = max.min(room(self));
            if state.ready.is_empty() || left == 0 {
                return Poll::Pending;
            }
        }
    }
}

/// Notes that messages of one partition go to the application.
fn hand_out(run: &[Item]) {
    let Some(first) = run.first() else { return };
    let partition = first.partition();
    let next = run.iter().map(|item| item.offset + 1).max().unwrap_or(0);
    partition.hand_out(run.len(), next);
    let mut late = run.iter().filter(|item| matches!(item.content, Content::Late(..))).peekable();
    if late.peek().is_some() {
        let mut window = partition.window.lock();
        late.for_each(|item| window.hand_out(item.offset));
    }
}
