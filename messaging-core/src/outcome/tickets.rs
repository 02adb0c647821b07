//! Tickets: the pending outcomes of one publisher or consumer.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Answers;
use super::slots::{Slots, Stage, abandoned, part};
use crate::error::{Error, Result};
use crate::in_flight::Permit;

/// The pending outcomes of one publisher or consumer: a slab, so that waiting for an answer allocates nothing.
///
/// The place of a message in flight ([`Permit`]) lives here too, and is freed when the broker answers, not when the caller
/// stops waiting: a dropped future neither unsends nor frees.
///
/// Time limits need no timer for each message: every ticket is stamped with the current era, a ticker of the adapter's calls
/// [`advance`](Self::advance) and [`expire`](Self::expire). An era of a tenth of the time limit makes an answer late by a
/// tenth at most.
///
/// The task that answers tickets holds the [`TicketsOwner`]: when it ends in any way, nobody is left waiting.
pub struct Tickets<T> {
    slots: Mutex<Slots<T>>,
    /// Notified of every answer while somebody waits in `flushed`.
    flushed: Notify,
}

impl<T> Tickets<T> {
    /// No tickets yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { slots: Mutex::new(Slots::new()), flushed: Notify::new() })
    }

    /// No tickets yet, with their owner: once it is dropped, every ticket that is open or opened later fails.
    #[must_use]
    pub fn owned() -> TicketsOwner<T> {
        TicketsOwner { tickets: Self::new() }
    }

    /// Opens a ticket that holds `permit` until it is completed.
    #[inline]
    pub fn open(&self, permit: Permit) -> u64 {
        self.slots.lock().open(permit)
    }

    /// Completes a ticket and frees its permit. A ticket completed before is left alone.
    pub fn complete(&self, ticket: u64, result: Result<T>) {
        let mut slots = self.slots.lock();
        let answered = slots.complete(ticket, result);
        let flushing = slots.flushing > 0;
        drop(slots);
        // The waker, the permit and a result that nobody wants act outside the lock: all may run foreign code.
        if let Ok(answered) = answered {
            answered.act();
            if flushing {
                self.flushed.notify_waiters();
            }
        }
    }

    /// As [`complete`](Self::complete) for many: waiting tasks are woken once all are completed.
    ///
    /// With one call for each, the first that is woken competes with the others for the same lock.
    pub fn complete_many(&self, answers: Vec<(u64, Result<T>)>) {
        if answers.is_empty() {
            return;
        }
        let mut completed = Vec::with_capacity(answers.len());
        let mut slots = self.slots.lock();
        completed.extend(answers.into_iter().map(|(ticket, result)| slots.complete(ticket, result)));
        let flushing = slots.flushing > 0;
        drop(slots);
        for answered in completed.into_iter().flatten() {
            answered.act();
        }
        if flushing {
            self.flushed.notify_waiters();
        }
    }

    /// Completes every open ticket with an error, as when the connection is lost.
    pub fn fail_all(&self, error: impl FnMut() -> Error) {
        self.fail_where(|_| true, error);
    }

    /// Begins a new era: tickets opened from now on are younger than all before.
    pub fn advance(&self) {
        let mut slots = self.slots.lock();
        slots.era = slots.era.wrapping_add(1);
        slots.eras.push_back(0);
        slots.forget_old_eras();
    }

    /// Completes with an error every open ticket that is older than so many eras: with 0 those of all eras but the current.
    /// Returns how many there were.
    pub fn expire(&self, older_than_eras: u32, error: impl FnMut() -> Error) -> usize {
        if self.oldest_age_in_eras().is_none_or(|age| age <= older_than_eras) {
            return 0;
        }
        self.fail_where(|age| age > older_than_eras, error)
    }

    /// Age of the oldest open ticket in eras: 0 is the current era, none that no ticket is open.
    #[must_use]
    pub fn oldest_age_in_eras(&self) -> Option<u32> {
        self.slots.lock().oldest_age()
    }

    /// Waits until all tickets that were opened before the call are answered; later ones are not waited for.
    ///
    /// The order of answers does not matter. Cancelling the future changes nothing.
    pub async fn flushed(&self) {
        let (mut before, _flushing) = {
            let mut slots = self.slots.lock();
            slots.flushing += 1;
            (slots.open_where(|_| true), Flushing(self))
        };
        loop {
            let mut answered = std::pin::pin!(self.flushed.notified());
            answered.as_mut().enable();
            {
                // One open ticket is reason enough to wait on: each is looked at once when it is answered, not all each time.
                let slots = self.slots.lock();
                while before.pop_if(|ticket| !slots.is_open(*ticket)).is_some() {}
            }
            if before.is_empty() {
                return;
            }
            answered.await;
        }
    }

    /// Number of tickets that the broker has not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.slots.lock().open
    }

    fn fail_where(&self, matches: impl Fn(u32) -> bool, mut error: impl FnMut() -> Error) -> usize {
        let doomed = self.slots.lock().open_where(matches);
        let mut failed = 0;
        for ticket in doomed {
            // The error is made outside the lock: it may be anybody's code. One answered meanwhile is left alone.
            let result = Err(error());
            let answered = self.slots.lock().complete(ticket, result);
            if let Ok(answered) = answered {
                answered.act();
                failed += 1;
            }
        }
        self.flushed.notify_waiters();
        failed
    }
}

/// Counted among those that wait for a flush, until dropped.
struct Flushing<'a, T>(&'a Tickets<T>);

impl<T> Drop for Flushing<'_, T> {
    fn drop(&mut self) {
        self.0.slots.lock().flushing -= 1;
    }
}

/// The owner of [`Tickets`]: held by the task that owns the connection. When that ends in any way, every open ticket fails
/// with [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) and an unknown outcome, and so does each that is opened later.
pub struct TicketsOwner<T> {
    tickets: Arc<Tickets<T>>,
}

impl<T> TicketsOwner<T> {
    /// The tickets, to be shared with publishers.
    #[must_use]
    pub fn tickets(&self) -> &Arc<Tickets<T>> {
        &self.tickets
    }
}

impl<T> Deref for TicketsOwner<T> {
    type Target = Tickets<T>;

    fn deref(&self) -> &Tickets<T> {
        &self.tickets
    }
}

impl<T> Drop for TicketsOwner<T> {
    fn drop(&mut self) {
        self.tickets.slots.lock().abandoned = true;
        self.tickets.fail_all(abandoned);
    }
}

impl<T> fmt::Debug for TicketsOwner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TicketsOwner").field(&self.tickets).finish()
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
            Stage::Waiting { permit, .. } => slot.stage = Stage::Forgotten { permit },
            Stage::Answered(result) => {
                slots.release(index);
                drop(slots);
                drop(result);
            }
            other => slot.stage = other,
        }
    }
}

impl<T> fmt::Debug for Tickets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("unanswered", &self.unanswered()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, ErrorOutcome};
    use crate::in_flight::InFlight;
    use crate::outcome::Outcome;

    #[tokio::test]
    async fn a_ticket_is_answered_once_and_its_slot_is_used_again() {
        let tickets = Tickets::<u32>::new();
        let first = tickets.open(Permit::none());
        let outcome = Outcome::pending(tickets.clone(), first);
        tickets.complete(first, Ok(7));
        tickets.complete(first, Ok(8));
        assert_eq!(outcome.await.unwrap(), 7);
        let second = tickets.open(Permit::none());
        assert_ne!(first, second, "the generation differs though the slot is the same");
        tickets.complete(first, Ok(9));
        assert_eq!(tickets.unanswered(), 1);
    }

    #[tokio::test]
    async fn a_dropped_outcome_keeps_its_permit_until_the_answer() {
        let in_flight = InFlight::new(1, 1_000);
        let tickets = Tickets::<()>::new();
        let ticket = tickets.open(in_flight.acquire(10).await.unwrap());
        drop(Outcome::pending(tickets.clone(), ticket));
        assert!(in_flight.try_acquire(10).is_none());
        tickets.complete(ticket, Ok(()));
        assert!(in_flight.try_acquire(10).is_some());
    }

    #[tokio::test]
    async fn losing_the_connection_fails_all_that_wait() {
        let tickets = Tickets::<()>::new();
        let outcomes: Vec<_> = (0..3)
            .map(|_| Outcome::pending(tickets.clone() as Arc<dyn Answers<()>>, tickets.open(Permit::none())))
            .collect();
        tickets.fail_all(|| Error::new(ErrorKind::Disconnected, "lost"));
        for outcome in outcomes {
            assert_eq!(outcome.await.unwrap_err().kind(), ErrorKind::Disconnected);
        }
        assert_eq!(tickets.unanswered(), 0);
    }

    fn open_one(tickets: &Arc<Tickets<u32>>) -> (u64, Outcome<u32>) {
        let ticket = tickets.open(Permit::none());
        (ticket, Outcome::pending(tickets.clone() as Arc<dyn Answers<u32>>, ticket))
    }

    #[tokio::test]
    async fn tickets_expire_by_their_era_and_no_sooner() {
        let tickets = Tickets::new();
        let late = || Error::new(ErrorKind::Timeout, "no answer");
        assert_eq!((tickets.oldest_age_in_eras(), tickets.expire(0, late)), (None, 0));
        let (_, old) = open_one(&tickets);
        tickets.advance();
        let (between, answered) = open_one(&tickets);
        tickets.advance();
        let (_, young) = open_one(&tickets);
        assert_eq!(tickets.oldest_age_in_eras(), Some(2));
        assert_eq!(tickets.expire(2, late), 0);
        assert_eq!(tickets.expire(1, late), 1);
        assert_eq!(old.await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(tickets.oldest_age_in_eras(), Some(1));
        tickets.complete(between, Ok(1));
        assert_eq!(answered.await.unwrap(), 1);
        assert_eq!(tickets.oldest_age_in_eras(), Some(0));
        assert_eq!(tickets.expire(0, late), 0, "those of the current era are never expired");
        tickets.advance();
        assert_eq!(tickets.expire(0, late), 1);
        assert_eq!(young.await.unwrap_err().kind(), ErrorKind::Timeout);
        // Many eras in which nothing happens leave nothing behind.
        (0..10_000).for_each(|_| tickets.advance());
        assert!(tickets.slots.lock().eras.len() <= 1);
    }

    #[tokio::test]
    async fn a_forgotten_ticket_expires_too_and_frees_its_permit() {
        let in_flight = InFlight::new(1, 1_000);
        let tickets = Tickets::<()>::new();
        let ticket = tickets.open(in_flight.acquire(1).await.unwrap());
        drop(Outcome::pending(tickets.clone(), ticket));
        tickets.advance();
        assert_eq!(tickets.expire(0, || Error::new(ErrorKind::Timeout, "no answer")), 1);
        assert!(in_flight.try_acquire(1).is_some());
        assert_eq!(tickets.unanswered(), 0);
    }

    #[tokio::test]
    async fn a_flush_waits_for_what_was_sent_before_it_and_not_for_later() {
        let tickets = Tickets::new();
        tickets.flushed().await;
        let (first, _first_outcome) = open_one(&tickets);
        let (second, second_outcome) = open_one(&tickets);
        let flush = tokio::spawn({
            let tickets = Arc::clone(&tickets);
            async move { tickets.flushed().await }
        });
        tokio::task::yield_now().await;
        let (_later, _later_outcome) = open_one(&tickets);
        tickets.complete(second, Ok(2));
        drop(second_outcome);
        tokio::task::yield_now().await;
        assert!(!flush.is_finished());
        tickets.complete(first, Ok(1));
        tokio::time::timeout(std::time::Duration::from_secs(10), flush).await.unwrap().unwrap();
        assert_eq!(tickets.unanswered(), 1);
    }

    #[tokio::test]
    async fn when_the_owner_is_gone_nobody_waits() {
        let owner = Tickets::<u32>::owned();
        let tickets = Arc::clone(owner.tickets());
        let (_, outcome) = open_one(&tickets);
        let ended = tokio::spawn(async move {
            let _owner = owner;
            panic!("the connection's task dies");
        });
        assert!(ended.await.is_err());
        for outcome in [outcome, open_one(&tickets).1] {
            let error = outcome.await.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, ErrorOutcome::Unknown));
        }
        assert_eq!(tickets.unanswered(), 0);
        tickets.flushed().await;
    }

    #[tokio::test]
    async fn many_are_completed_at_once_and_those_completed_before_are_left_alone() {
        let in_flight = InFlight::new(4, 1_000);
        let tickets = Tickets::<u32>::new();
        let open = || {
            let ticket = tickets.open(in_flight.try_acquire(1).unwrap());
            (ticket, Outcome::pending(tickets.clone() as Arc<dyn Answers<u32>>, ticket))
        };
        let ((first, one), (second, two), (third, three)) = (open(), open(), open());
        tickets.complete(second, Ok(2));
        drop(three);
        tickets.complete_many(vec![(first, Ok(1)), (second, Ok(7)), (third, Ok(3)), (second, Ok(8))]);
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (1, 2));
        assert_eq!(tickets.unanswered(), 0);
        // Every permit came free again.
        let all: Vec<_> = (0..4).map_while(|_| in_flight.try_acquire(1)).collect();
        assert_eq!(all.len(), 4);
        tickets.complete_many(Vec::new());
    }

    #[test]
    fn errors_are_made_and_results_dropped_outside_the_lock() {
        struct Looks(Arc<Tickets<Looks>>);
        impl Drop for Looks {
            fn drop(&mut self) {
                assert!(self.0.unanswered() < 100, "this would not return under the lock");
            }
        }
        let tickets = Tickets::<Looks>::new();
        let open = || tickets.open(Permit::none());
        let (forgotten, answered, waiting) = (open(), open(), open());
        tickets.forget(forgotten);
        tickets.complete(forgotten, Ok(Looks(tickets.clone())));
        tickets.complete(forgotten, Ok(Looks(tickets.clone())));
        tickets.complete(answered, Ok(Looks(tickets.clone())));
        tickets.forget(answered);
        tickets.fail_all(|| Error::new(ErrorKind::Internal, format!("{} are open", tickets.unanswered())));
        tickets.forget(waiting);
        assert_eq!(tickets.slots.lock().free.len(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_threads_answer_forget_expire_and_flush_and_each_ticket_ends_once() {
        const EACH: u32 = 2_000;
        let in_flight = InFlight::new(64, 1_000_000);
        let owner = Tickets::<u32>::owned();
        let tickets = Arc::clone(owner.tickets());
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel::<(u64, u32)>();
        let answering = tokio::spawn(async move {
            let mut held = Vec::new();
            let mut turn = 0_u32;
            loop {
                let next = tokio::time::timeout(std::time::Duration::from_millis(1), sent.recv()).await;
                match next {
                    Ok(None) => return,
                    Ok(Some(next)) => held.push(next),
                    Err(_) => {}
                }
                turn += 1;
                // Out of order, some twice, some never.
                if held.len() >= 5 || next.is_err() {
                    for (ticket, number) in held.drain(..).rev().filter(|(_, number)| number % 17 != 0) {
                        owner.complete(ticket, Ok(number));
                        owner.complete(ticket, Ok(u32::MAX));
                    }
                }
                if turn.is_multiple_of(50) || next.is_err() {
                    owner.advance();
                    owner.expire(1, || Error::new(ErrorKind::Timeout, "no answer"));
                }
            }
        });
        let publishing: Vec<_> = (0..4)
            .map(|_| {
                let (tickets, in_flight, sender) = (Arc::clone(&tickets), in_flight.clone(), sender.clone());
                tokio::spawn(async move {
                    for number in 0..EACH {
                        let ticket = tickets.open(in_flight.acquire(1).await.unwrap());
                        let outcome = Outcome::pending(tickets.clone() as Arc<dyn Answers<u32>>, ticket);
                        sender.send((ticket, number)).unwrap();
                        match number % 5 {
                            0 => drop(outcome),
                            1 => tickets.flushed().await,
                            _ => match outcome.await {
                                Ok(answer) => assert!(answer == number && number % 17 != 0),
                                // One that waits to be answered may run out of time as well.
                                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
                            },
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        let all = async {
            for task in publishing {
                task.await.unwrap();
            }
            tickets.flushed().await;
            answering.await.unwrap();
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("somebody waits for ever");
        assert_eq!(tickets.unanswered(), 0);
        assert_eq!(tickets.oldest_age_in_eras(), None);
        // Every permit came free again.
        let all: Vec<_> = (0..64).map_while(|_| in_flight.try_acquire(1)).collect();
        assert_eq!(all.len(), 64);
    }
}
