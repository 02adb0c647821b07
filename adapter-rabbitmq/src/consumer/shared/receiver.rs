//! What whoever receives asks for: the deliveries that are ready, and what happened.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use messaging_core::{Delivery, Error, ErrorKind, Event, Flow, Result};
use tokio::time::Instant;

use super::{Core, Shared};
use crate::error::closed;
use crate::settle::Command;

impl Shared {
    pub(in crate::consumer) fn poll_next_many(
        &self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let mut core = self.core.lock();
        if core.is_closed {
            return Poll::Ready(Err(closed()));
        }
        if core.is_ended {
            return Poll::Ready(Err(Error::new(
                ErrorKind::NotFound,
                "the subscription was ended: subscribe again to have a new one",
            )));
        }
        match core.flow {
            Flow::Stopped => return Poll::Ready(Ok(0)),
            Flow::Paused => {
                core.wait(cx);
                return Poll::Pending;
            }
            Flow::Running => {}
        }
        let Some(epoch) = core.epoch.clone() else {
            core.wait(cx);
            return Poll::Pending;
        };
        // The broker bounds what it sends; several lanes on one channel have one bound each, and together this one.
        let room = self.prefetch.saturating_sub(epoch.handed());
        let max = max.min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut count = 0;
        while count < max {
            let Some(item) = core.ready.pop_front() else { break };
            if item.expires.is_some_and(|expires| expires <= Instant::now()) {
                epoch.tell(Command::Expired(item.delivery));
                continue;
            }
            out.push(Delivery::new(item.delivery, epoch.clone()));
            count += 1;
        }
        if count == 0 {
            core.wait(cx);
            if room == 0 && !core.ready.is_empty() {
                self.wants_room.store(true, Ordering::SeqCst);
                // A settlement between the look at the room and the note that someone wants it would wake nobody.
                if epoch.handed() < self.prefetch {
                    cx.waker().wake_by_ref();
                }
            }
            return Poll::Pending;
        }
        epoch.hand_out(count as u64);
        Poll::Ready(Ok(count))
    }

    pub(in crate::consumer) fn stop_waiting(&self) {
        self.core.lock().waker = None;
    }

    pub(in crate::consumer) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut core = self.core.lock();
        match core.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                core.event_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Core {
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(known) => known.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}
