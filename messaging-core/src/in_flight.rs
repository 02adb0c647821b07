//! The bound on what may be in flight on one publisher, by count and by bytes.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{Error, ErrorKind, Result};

/// How finely bytes are counted: one message of average size or below weighs this much.
const UNIT: usize = 1024;

/// The most messages that may be in flight on one handle.
pub const IN_FLIGHT_MAX: usize = 1_000_000;

/// How much may be in flight at once.
///
/// One semaphore does for both bounds: a message weighs as much as the larger of its share of the count and its share of
/// the bytes, so that neither sum exceeds its bound. A message larger than the byte bound weighs all there is: it goes
/// alone. Waiters are served in the order in which they asked.
#[derive(Clone)]
pub struct InFlight(Arc<Inner>);

struct Inner {
    semaphore: Semaphore,
    total: usize,
    bytes: usize,
}

impl InFlight {
    /// Bounds by `count` messages (at least 1, at most 1,000,000) and `bytes` (at least 1).
    #[must_use]
    pub fn new(count: usize, bytes: usize) -> Self {
        let total = count.clamp(1, IN_FLIGHT_MAX) * UNIT;
        Self(Arc::new(Inner { semaphore: Semaphore::new(total), total, bytes: bytes.max(1) }))
    }

    /// Waits for room for one message of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] once [`close`](Self::close) was called.
    pub async fn room(&self, bytes: usize) -> Result<Room> {
        match self.try_room(bytes) {
            Some(room) => Ok(room),
            None => self.wait(self.weight(bytes)).await,
        }
    }

    /// Takes room for one message of `bytes` if there is some and nobody waits for it.
    #[must_use]
    pub fn try_room(&self, bytes: usize) -> Option<Room> {
        let weight = self.weight(bytes);
        self.0.semaphore.try_acquire_many(weight).ok()?.forget();
        Some(Room { held: Some((self.clone(), weight)) })
    }

    /// Waits for room for as many of the messages as fit at once, at least one. Returns how many those are.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] once [`close`](Self::close) was called.
    pub async fn room_for_many(&self, sizes: impl IntoIterator<Item = usize>) -> Result<(usize, Room)> {
        let mut count = 0;
        let mut weight = 0_usize;
        for bytes in sizes {
            let more = weight + self.weight(bytes) as usize;
            if count > 0 && more > self.0.total {
                break;
            }
            weight = more;
            count += 1;
        }
        let weight = u32::try_from(weight.min(self.0.total)).unwrap_or(u32::MAX);
        Ok((count, self.wait(weight).await?))
    }

    /// Ends all waiting, now and later.
    pub fn close(&self) {
        self.0.semaphore.close();
    }

    async fn wait(&self, weight: u32) -> Result<Room> {
        match self.0.semaphore.acquire_many(weight).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Error::new(ErrorKind::Closed, "the publisher is closed")),
        }
        Ok(Room { held: Some((self.clone(), weight)) })
    }

    fn weight(&self, bytes: usize) -> u32 {
        let weight = if bytes <= self.0.bytes / (self.0.total / UNIT) {
            UNIT
        } else {
            let share = bytes as u128 * self.0.total as u128 / self.0.bytes as u128;
            usize::try_from(share).unwrap_or(usize::MAX).clamp(UNIT, self.0.total)
        };
        // At most IN_FLIGHT_MAX * UNIT, which fits.
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("count", &(self.0.total / UNIT))
            .field("bytes", &self.0.bytes)
            .field("free", &(self.0.semaphore.available_permits() / UNIT))
            .finish()
    }
}

/// A place in flight, held until the broker has answered and freed when dropped.
#[must_use = "dropping it frees the place"]
pub struct Room {
    held: Option<(InFlight, u32)>,
}

impl Room {
    /// No place at all, for a send that is bounded elsewhere.
    pub const fn none() -> Self {
        Self { held: None }
    }

    /// Splits off the place of one message of `bytes` from the room of a batch.
    pub fn split(&mut self, bytes: usize) -> Self {
        let Some((in_flight, weight)) = &mut self.held else { return Self::none() };
        let part = in_flight.weight(bytes).min(*weight);
        *weight -= part;
        Self { held: Some((in_flight.clone(), part)) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((in_flight, weight)) = self.held.take()
            && weight > 0
        {
            in_flight.0.semaphore.add_permits(weight as usize);
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("held", &self.held.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn count_and_bytes_are_both_bounded() {
        let in_flight = InFlight::new(4, 4_000);
        let small: Vec<_> = (0..4).map_while(|_| in_flight.try_room(1)).collect();
        assert_eq!(small.len(), 4);
        assert!(in_flight.try_room(1).is_none());
        drop(small);
        let large = in_flight.try_room(3_500).unwrap();
        assert!(in_flight.try_room(1_000).is_none());
        drop(large);
    }

    #[tokio::test]
    async fn what_exceeds_the_byte_bound_goes_alone() {
        let in_flight = InFlight::new(4, 1_000);
        let huge = in_flight.room(50_000).await.unwrap();
        assert!(in_flight.try_room(1).is_none());
        drop(huge);
        assert!(in_flight.try_room(1).is_some());
    }

    #[tokio::test]
    async fn a_batch_takes_what_fits_and_its_parts_free_one_by_one() {
        let in_flight = InFlight::new(3, 1_000_000);
        let (count, mut room) = in_flight.room_for_many([1; 5]).await.unwrap();
        assert_eq!(count, 3);
        let first = room.split(1);
        assert!(in_flight.try_room(1).is_none());
        drop(first);
        assert!(in_flight.try_room(1).is_some());
    }
}
