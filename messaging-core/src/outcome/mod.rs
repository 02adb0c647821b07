//! Outcomes: the result of a send or a settlement, at once or later, without a boxed future.
//!
//! The hot path hands a message over in a plain call. A broker that answers at once (memory) returns a ready outcome; one
//! that answers over the network returns a ticket, a number in a slab that the adapter completes when the answer comes.

mod slots;
mod tickets;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use self::tickets::{Tickets, TicketsOwner};
use crate::error::{Error, Result};

/// A store in which pending outcomes wait for their answers. [`Tickets`] is the implementation for adapters.
pub trait Answers<T>: Send + Sync {
    /// Takes the answer of a ticket, or registers the waker.
    fn poll_answer(&self, ticket: u64, cx: &mut Context<'_>) -> Poll<Result<T>>;

    /// Gives a ticket up: nobody waits for it any more. A message that was sent stays sent.
    fn forget(&self, ticket: u64);
}

/// The result of a call, at once or later. Awaiting it gives the result; dropping it changes nothing about what was sent.
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

    /// True if the result is there without waiting.
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
