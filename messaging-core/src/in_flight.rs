//! The bound on what may be in flight on one publisher, by count and by bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify};

use crate::error::{Error, Result};

/// Weight of a message of average size or below: the resolution in which bytes are counted.
const UNIT: usize = 1024;

/// The most messages that may be in flight on one handle.
pub const IN_FLIGHT_MAX: usize = 1_000_000;

/// The bound on what may be in flight at once.
///
/// One count of units does for both bounds: a message weighs as much as the larger of its share of the count and its share
/// of the bytes, so that neither sum exceeds its bound. A message larger than the byte bound weighs all there is: it goes
/// alone. Waiters are served in the order in which they asked. Where nobody waits, taking room and giving it back are one
/// atomic operation each.
#[derive(Clone)]
pub struct InFlight(Arc<Inner>);

struct Inner {
    free: AtomicUsize,
    /// Number of tasks that wait for a permit; nobody takes one past them.
    waiting: AtomicUsize,
    /// The first in line holds this while it waits for `freed`.
    turn: Mutex<()>,
    freed: Notify,
    closed: AtomicBool,
    total: usize,
    bytes: usize,
    /// Messages of up to so many bytes weigh one unit.
    light: usize,
}

impl InFlight {
    /// Bounds by `count` messages (at least 1, at most 1,000,000) and `bytes` (at least 1).
    #[must_use]
    pub fn new(count: usize, bytes: usize) -> Self {
        let count = count.clamp(1, IN_FLIGHT_MAX);
        let bytes = bytes.max(1);
        Self(Arc::new(Inner {
            free: AtomicUsize::new(count * UNIT),
            waiting: AtomicUsize::new(0),
            turn: Mutex::new(()),
            freed: Notify::new(),
            closed: AtomicBool::new(false),
            total: count * UNIT,
            bytes,
            light: bytes / count,
        }))
    }

    /// Waits for a permit for one message of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once [`close`](Self::close) was called.
    pub async fn acquire(&self, bytes: usize) -> Result<Permit> {
        match self.try_acquire(bytes) {
            Some(permit) => Ok(permit),
            None => self.wait(self.weight(bytes)).await,
        }
    }

    /// Takes a permit for one message of `bytes` if there is room and nobody waits for it.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let weight = self.weight(bytes);
        if self.0.waiting.load(Ordering::SeqCst) > 0 || !self.0.take(weight) {
            return None;
        }
        Some(self.taken(weight))
    }

    /// True while someone waits for a permit.
    #[inline]
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) > 0
    }

    /// Waits for one permit for as many of the messages as fit at once, at least one. Returns their number too.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once [`close`](Self::close) was called.
    pub async fn acquire_many(&self, sizes: impl IntoIterator<Item = usize>) -> Result<(usize, Permit)> {
        let mut count = 0;
        let mut weight = 0;
        for bytes in sizes {
            let more = weight + self.weight(bytes);
            if count > 0 && more > self.0.total {
                break;
            }
            weight = more.min(self.0.total);
            count += 1;
        }
        if self.0.waiting.load(Ordering::SeqCst) == 0 && self.0.take(weight) {
            return Ok((count, self.taken(weight)));
        }
        Ok((count, self.wait(weight).await?))
    }

    /// Ends all waiting, now and later.
    pub fn close(&self) {
        if !self.0.closed.swap(true, Ordering::SeqCst) {
            // Somebody waits for ever: nobody takes room past it, and each who asks learns that this is closed.
            self.0.waiting.fetch_add(1, Ordering::SeqCst);
        }
        self.0.freed.notify_waiters();
    }

    #[cold]
    async fn wait(&self, weight: usize) -> Result<Permit> {
        let _waiting = Waiting::register(&self.0.waiting);
        // Served in the order in which they came: the lock is fair.
        let _turn = self.0.turn.lock().await;
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            freed.as_mut().enable();
            if self.0.closed.load(Ordering::SeqCst) {
                return Err(Error::closed("the publisher"));
            }
            if self.0.take(weight) {
                return Ok(self.taken(weight));
            }
            freed.await;
        }
    }

    #[inline]
    fn taken(&self, weight: usize) -> Permit {
        Permit { held: Some((self.clone(), weight)) }
    }

    #[inline]
    fn weight(&self, bytes: usize) -> usize {
        if bytes <= self.0.light {
            return UNIT;
        }
        let share = bytes as u128 * self.0.total as u128 / self.0.bytes as u128;
        usize::try_from(share).unwrap_or(usize::MAX).clamp(UNIT, self.0.total)
    }
}

impl Inner {
    #[inline]
    fn take(&self, weight: usize) -> bool {
        self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(weight)).is_ok()
    }

    #[inline]
    fn give_back(&self, weight: usize) {
        self.free.fetch_add(weight, Ordering::SeqCst);
        // Ordered against `wait`, which counts itself in before it looks at what is free: one of the two sees the other.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }
}

/// Counted among those that wait, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn register(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("count", &(self.0.total / UNIT))
            .field("bytes", &self.0.bytes)
            .field("free", &(self.0.free.load(Ordering::SeqCst) / UNIT))
            .finish()
    }
}

/// A place in flight, held until the broker has answered and freed when dropped.
#[must_use = "dropping it frees the place"]
pub struct Permit {
    held: Option<(InFlight, usize)>,
}

impl Permit {
    /// A permit for nothing, for a send that is bounded elsewhere.
    pub const fn none() -> Self {
        Self { held: None }
    }

    /// Splits off the permit of one message of `bytes` from that of a batch.
    pub fn split(&mut self, bytes: usize) -> Self {
        let Some((in_flight, weight)) = &mut self.held else { return Self::none() };
        let part = in_flight.weight(bytes).min(*weight);
        *weight -= part;
        Self { held: Some((in_flight.clone(), part)) }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        if let Some((in_flight, weight)) = &self.held
            && *weight > 0
        {
            in_flight.0.give_back(*weight);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("held", &self.held.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn count_and_bytes_are_both_bounded() {
        let in_flight = InFlight::new(4, 4_000);
        let small: Vec<_> = (0..4).map_while(|_| in_flight.try_acquire(1)).collect();
        assert_eq!(small.len(), 4);
        assert!(in_flight.try_acquire(1).is_none());
        drop(small);
        let large = in_flight.try_acquire(3_500).unwrap();
        assert!(in_flight.try_acquire(1_000).is_none());
        drop(large);
    }

    #[tokio::test]
    async fn what_exceeds_the_byte_bound_goes_alone() {
        let in_flight = InFlight::new(4, 1_000);
        let huge = in_flight.acquire(50_000).await.unwrap();
        assert!(in_flight.try_acquire(1).is_none());
        drop(huge);
        assert!(in_flight.try_acquire(1).is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn waiters_are_served_in_order_and_none_is_forgotten() {
        let in_flight = InFlight::new(2, 1_000_000);
        let count = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (in_flight, count) = (in_flight.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    for _ in 0..2_000 {
                        let permit = in_flight.acquire(1).await.unwrap();
                        assert!(count.fetch_add(1, Ordering::SeqCst) < 2);
                        tokio::task::yield_now().await;
                        count.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(in_flight.try_acquire(0).is_some());
    }

    #[tokio::test]
    async fn closing_ends_the_wait() {
        let in_flight = InFlight::new(1, 1_000);
        let held = in_flight.acquire(1).await.unwrap();
        let waiting = in_flight.clone();
        let waiter = tokio::spawn(async move { waiting.acquire(1).await.map(drop) });
        tokio::task::yield_now().await;
        in_flight.close();
        drop(held);
        assert!(in_flight.try_acquire(1).is_none());
        assert_eq!(in_flight.acquire(1).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(in_flight.acquire_many([1]).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(waiter.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[tokio::test]
    async fn a_batch_takes_what_fits_and_its_parts_free_one_by_one() {
        let in_flight = InFlight::new(3, 1_000_000);
        let (count, mut permit) = in_flight.acquire_many([1; 5]).await.unwrap();
        assert_eq!(count, 3);
        let first = permit.split(1);
        assert!(in_flight.try_acquire(1).is_none());
        drop(first);
        assert!(in_flight.try_acquire(1).is_some());
    }
}
