//! An outcome: what a send or a settlement came to, at once or later, without a boxed future.
//!
//! The hot path hands a message over in a plain call. A broker that answers at once (memory) returns a ready outcome; one
//! that answers over the network returns a ticket, a number in a slab that the adapter completes when the answer comes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::{Error, Result, Room};

/// Where pending outcomes wait for their answers. [`Tickets`] is the implementation for adapters.
pub trait Answers<T>: Send + Sync {
    /// Takes the answer of a ticket, or registers who to wake.
    fn poll_answer(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<T>>;

    /// Says that nobody waits any more. What was sent stays sent.
    fn forget(&self, ticket: u64);
}

/// What a call came to. Awaiting it gives the result; dropping it changes nothing about what was sent.
pub struct Outcome<T = ()>(State<T>);

enum State<T> {
    Ready(Result<T>),
    Pending { answers: Arc<dyn Answers<T>>, ticket: u64 },
    Taken,
}

impl<T> Outcome<T> {
    /// An outcome that is known already.
    #[inline]
    #[must_use]
    pub fn ready(result: Result<T>) -> Self {
        Self(State::Ready(result))
    }

    /// An outcome that comes later under a ticket.
    #[must_use]
    pub fn pending(answers: Arc<dyn Answers<T>>, ticket: u64) -> Self {
        Self(State::Pending { answers, ticket })
    }

    /// Whether the result is there without waiting.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.0, State::Ready(_))
    }

    /// The result, if it is there without waiting.
    ///
    /// # Errors
    /// Gives the outcome back if it is still pending.
    #[inline]
    pub fn try_take(mut self) -> std::result::Result<Result<T>, Self> {
        match std::mem::replace(&mut self.0, State::Taken) {
            State::Ready(result) => Ok(result),
            other => {
                self.0 = other;
                Err(self)
            }
        }
    }

    /// Changes an error that is known already, to add where it happened.
    #[must_use]
    pub fn map_ready_err(mut self, change: impl FnOnce(Error) -> Error) -> Self {
        if matches!(self.0, State::Ready(Err(_)))
            && let State::Ready(Err(error)) = std::mem::replace(&mut self.0, State::Taken)
        {
            self.0 = State::Ready(Err(change(error)));
        }
        self
    }
}

impl<T: Unpin> Future for Outcome<T> {
    type Output = Result<T>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match &self.0 {
            State::Ready(_) => {}
            State::Pending { answers, ticket } => {
                let Poll::Ready(result) = answers.poll_answer(*ticket, cx) else { return Poll::Pending };
                self.0 = State::Taken;
                return Poll::Ready(result);
            }
            State::Taken => return Poll::Pending,
        }
        match std::mem::replace(&mut self.0, State::Taken) {
            State::Ready(result) => Poll::Ready(result),
            _ => Poll::Pending,
        }
    }
}

impl<T> Drop for Outcome<T> {
    #[inline]
    fn drop(&mut self) {
        if let State::Pending { answers, ticket } = &self.0 {
            answers.forget(*ticket);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Outcome<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Ready(result) => f.debug_tuple("Ready").field(result).finish(),
            State::Pending { ticket, .. } => f.debug_tuple("Pending").field(ticket).finish(),
            State::Taken => f.write_str("Taken"),
        }
    }
}

/// The pending outcomes of one publisher or consumer: a slab, so that waiting for an answer allocates nothing.
///
/// The place of a message in flight ([`Room`]) lives here too, and is freed when the broker answers, not when the caller
/// stops waiting: a dropped future neither unsends nor frees.
pub struct Tickets<T> {
    slots: Mutex<Slots<T>>,
}

struct Slots<T> {
    entries: Vec<Slot<T>>,
    free: Vec<u32>,
    open: usize,
}

struct Slot<T> {
    generation: u32,
    stage: Stage<T>,
}

enum Stage<T> {
    Free,
    Waiting { waker: Option<Waker>, _room: Room },
    Forgotten { _room: Room },
    Answered(Result<T>),
}

impl<T> Tickets<T> {
    /// No tickets yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { slots: Mutex::new(Slots { entries: Vec::new(), free: Vec::new(), open: 0 }) })
    }

    /// Opens a ticket that holds `room` until it is completed.
    pub fn open(&self, room: Room) -> u64 {
        let mut slots = self.slots.lock();
        slots.open += 1;
        let stage = Stage::Waiting { waker: None, _room: room };
        match slots.free.pop() {
            Some(index) => {
                let slot = &mut slots.entries[index as usize];
                slot.stage = stage;
                join(slot.generation, index)
            }
            None => {
                let index = slots.entries.len();
                slots.entries.push(Slot { generation: 0, stage });
                // In-flight bounds keep the slab far below this.
                join(0, u32::try_from(index).unwrap_or(u32::MAX))
            }
        }
    }

    /// Completes a ticket and frees its room. A ticket completed before is left alone.
    pub fn complete(&self, ticket: u64, result: Result<T>) {
        let mut slots = self.slots.lock();
        let answered = slots.complete(ticket, result);
        drop(slots);
        // The waker and the room act outside the lock: both may run foreign code.
        if let Some((waker, room)) = answered {
            drop(room);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Completes every open ticket with an error, as when the connection is lost.
    pub fn fail_all(&self, mut error: impl FnMut() -> Error) {
        let mut slots = self.slots.lock();
        let open: Vec<u64> = slots
            .entries
            .iter()
            .enumerate()
            .filter(|(_, slot)| matches!(slot.stage, Stage::Waiting { .. } | Stage::Forgotten { .. }))
            .map(|(index, slot)| join(slot.generation, index as u32))
            .collect();
        let woken: Vec<_> = open.into_iter().filter_map(|ticket| slots.complete(ticket, Err(error()))).collect();
        drop(slots);
        for (waker, room) in woken {
            drop(room);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// How many tickets the broker has not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.slots.lock().open
    }
}

impl<T> Slots<T> {
    fn complete(&mut self, ticket: u64, result: Result<T>) -> Option<(Option<Waker>, Room)> {
        let (generation, index) = part(ticket);
        let slot = self.entries.get_mut(index as usize).filter(|slot| slot.generation == generation)?;
        match std::mem::replace(&mut slot.stage, Stage::Free) {
            Stage::Waiting { waker, _room } => {
                slot.stage = Stage::Answered(result);
                self.open -= 1;
                Some((waker, _room))
            }
            Stage::Forgotten { _room } => {
                self.open -= 1;
                self.release(index);
                Some((None, _room))
            }
            other => {
                slot.stage = other;
                None
            }
        }
    }

    fn release(&mut self, index: u32) {
        let slot = &mut self.entries[index as usize];
        slot.stage = Stage::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
    }
}

impl<T: Send> Answers<T> for Tickets<T> {
    fn poll_answer(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let (generation, index) = part(ticket);
        let mut slots = self.slots.lock();
        let Some(slot) = slots.entries.get_mut(index as usize).filter(|slot| slot.generation == generation) else {
            return Poll::Pending;
        };
        match &mut slot.stage {
            Stage::Waiting { waker, .. } => {
                match waker {
                    Some(known) => known.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Stage::Answered(_) => {
                let Stage::Answered(result) = std::mem::replace(&mut slot.stage, Stage::Free) else {
                    return Poll::Pending;
                };
                slots.release(index);
                Poll::Ready(result)
            }
            Stage::Free | Stage::Forgotten { .. } => Poll::Pending,
        }
    }

    fn forget(&self, ticket: u64) {
        let (generation, index) = part(ticket);
        let mut slots = self.slots.lock();
        let Some(slot) = slots.entries.get_mut(index as usize).filter(|slot| slot.generation == generation) else {
            return;
        };
        match std::mem::replace(&mut slot.stage, Stage::Free) {
            Stage::Waiting { _room, .. } => slot.stage = Stage::Forgotten { _room },
            Stage::Answered(_) => slots.release(index),
            other => slot.stage = other,
        }
    }
}

impl<T> fmt::Debug for Tickets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("unanswered", &self.unanswered()).finish_non_exhaustive()
    }
}

fn join(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

fn part(ticket: u64) -> (u32, u32) {
    ((ticket >> 32) as u32, ticket as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, InFlight};

    #[tokio::test]
    async fn a_ticket_is_answered_once_and_its_slot_is_used_again() {
        let tickets = Tickets::<u32>::new();
        let first = tickets.open(Room::none());
        let outcome = Outcome::pending(tickets.clone(), first);
        tickets.complete(first, Ok(7));
        tickets.complete(first, Ok(8));
        assert_eq!(outcome.await.unwrap(), 7);
        let second = tickets.open(Room::none());
        assert_ne!(first, second, "the generation differs though the slot is the same");
        tickets.complete(first, Ok(9));
        assert_eq!(tickets.unanswered(), 1);
    }

    #[tokio::test]
    async fn a_dropped_outcome_keeps_its_room_until_the_answer() {
        let in_flight = InFlight::new(1, 1_000);
        let tickets = Tickets::<()>::new();
        let ticket = tickets.open(in_flight.room(10).await.unwrap());
        drop(Outcome::pending(tickets.clone(), ticket));
        assert!(in_flight.try_room(10).is_none());
        tickets.complete(ticket, Ok(()));
        assert!(in_flight.try_room(10).is_some());
    }

    #[tokio::test]
    async fn losing_the_connection_fails_all_that_wait() {
        let tickets = Tickets::<()>::new();
        let outcomes: Vec<_> = (0..3)
            .map(|_| Outcome::pending(tickets.clone() as Arc<dyn Answers<()>>, tickets.open(Room::none())))
            .collect();
        tickets.fail_all(|| Error::new(ErrorKind::Disconnected, "lost"));
        for outcome in outcomes {
            assert_eq!(outcome.await.unwrap_err().kind(), ErrorKind::Disconnected);
        }
        assert_eq!(tickets.unanswered(), 0);
    }
}
