//! The slab behind tickets.

use std::collections::VecDeque;
use std::task::Waker;

use crate::error::{Error, ErrorKind, Result};
use crate::in_flight::Permit;

pub(super) struct Slots<T> {
    pub(super) entries: Vec<Slot<T>>,
    pub(super) free: Vec<u32>,
    pub(super) open: usize,
    pub(super) era: u32,
    /// How many tickets of each era are open, the oldest first; the last is that of the current era.
    pub(super) eras: VecDeque<usize>,
    /// How many wait in `flushed`.
    pub(super) flushing: usize,
    /// Nobody will answer any more.
    pub(super) abandoned: bool,
}

pub(super) struct Slot<T> {
    pub(super) generation: u32,
    pub(super) era: u32,
    pub(super) stage: Stage<T>,
}

impl<T> Slot<T> {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Forgotten { .. })
    }
}

pub(super) enum Stage<T> {
    Free,
    Waiting { waker: Option<Waker>, permit: Permit },
    Forgotten { permit: Permit },
    Answered(Result<T>),
}

/// The waker, permit and unwanted result that an answer lets go of; it acts outside the lock, because it may run foreign code.
pub(super) struct Answered<T> {
    pub(super) waker: Option<Waker>,
    pub(super) permit: Permit,
    /// The result of a ticket that nobody waits for.
    pub(super) unwanted: Option<Result<T>>,
}

impl<T> Answered<T> {
    #[inline]
    pub(super) fn act(self) {
        drop((self.permit, self.unwanted));
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        let eras = VecDeque::from([0]);
        Self { entries: Vec::new(), free: Vec::new(), open: 0, era: 0, eras, flushing: 0, abandoned: false }
    }

    #[inline]
    pub(super) fn open(&mut self, permit: Permit) -> u64 {
        if self.abandoned {
            return self.open_abandoned(permit);
        }
        self.open += 1;
        if let Some(count) = self.eras.back_mut() {
            *count += 1;
        }
        self.place(Stage::Waiting { waker: None, permit })
    }

    #[cold]
    pub(super) fn open_abandoned(&mut self, permit: Permit) -> u64 {
        // Foreign code may run when the permit is dropped; nothing of it can reach these slots, which only the owner's end
        // and its publishers know.
        drop(permit);
        self.place(Stage::Answered(Err(abandoned())))
    }

    #[inline]
    pub(super) fn place(&mut self, stage: Stage<T>) -> u64 {
        let era = self.era;
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.entries[index as usize];
                (slot.stage, slot.era) = (stage, era);
                join(slot.generation, index)
            }
            None => {
                let index = self.entries.len();
                self.entries.push(Slot { generation: 0, era, stage });
                // In-flight bounds keep the slab far below this.
                join(0, u32::try_from(index).unwrap_or(u32::MAX))
            }
        }
    }

    /// Answers a ticket, or gives the result back that nobody wants.
    pub(super) fn complete(&mut self, ticket: u64, result: Result<T>) -> std::result::Result<Answered<T>, Result<T>> {
        let (generation, index) = part(ticket);
        let Some(slot) = self.entries.get_mut(index as usize).filter(|slot| slot.generation == generation) else {
            return Err(result);
        };
        let era = slot.era;
        let answered = match std::mem::replace(&mut slot.stage, Stage::Free) {
            Stage::Waiting { waker, permit } => {
                slot.stage = Stage::Answered(result);
                Answered { waker, permit, unwanted: None }
            }
            Stage::Forgotten { permit } => {
                self.release(index);
                Answered { waker: None, permit, unwanted: Some(result) }
            }
            other => {
                slot.stage = other;
                return Err(result);
            }
        };
        self.open -= 1;
        self.count_answered(era);
        Ok(answered)
    }

    #[inline]
    pub(super) fn count_answered(&mut self, era: u32) {
        let from_back = self.era.wrapping_sub(era) as usize;
        let at = (self.eras.len() - 1).checked_sub(from_back);
        if let Some(count) = at.and_then(|at| self.eras.get_mut(at)) {
            *count -= 1;
            if *count == 0 {
                self.forget_old_eras();
            }
        }
    }

    pub(super) fn forget_old_eras(&mut self) {
        while self.eras.len() > 1 && self.eras.front() == Some(&0) {
            self.eras.pop_front();
        }
    }

    pub(super) fn oldest_age(&self) -> Option<u32> {
        // The first era has open tickets, or there is but one era.
        (self.open > 0).then(|| self.eras.len() as u32 - 1)
    }

    pub(super) fn open_where(&self, matches: impl Fn(u32) -> bool) -> Vec<u64> {
        let slots = self.entries.iter().enumerate();
        let open = slots.filter(|(_, slot)| slot.is_open() && matches(self.era.wrapping_sub(slot.era)));
        open.map(|(index, slot)| join(slot.generation, index as u32)).collect()
    }

    pub(super) fn is_open(&self, ticket: u64) -> bool {
        let (generation, index) = part(ticket);
        self.entries.get(index as usize).is_some_and(|slot| slot.generation == generation && slot.is_open())
    }

    pub(super) fn release(&mut self, index: u32) {
        let slot = &mut self.entries[index as usize];
        slot.stage = Stage::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
    }
}

pub(super) fn join(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

pub(super) fn part(ticket: u64) -> (u32, u32) {
    ((ticket >> 32) as u32, ticket as u32)
}

#[cold]
pub(super) fn abandoned() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "the connection ended before the broker answered: it may or may not have arrived",
    )
}
