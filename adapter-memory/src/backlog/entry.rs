//! A waiting message, and the leases of those that are out.

use messaging_core::Message;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// A message in a backlog, 32 bytes: a million of them may wait.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    /// Its place in the order of publishing; in a topic the offset.
    pub(crate) seq: u64,
    /// When it expires, in nanoseconds of the server's clock.
    pub(crate) expires: u64,
    /// How often it was delivered since it was published or redriven.
    pub(crate) attempts: u32,
    pub(crate) redriven: u16,
    /// Whether it is its turn among those of its key.
    pub(crate) turn: Turn,
}

/// Whether an entry is the one of its key whose turn it is.
///
/// Not a `bool` and not an `enum`: `Option<Entry>` would be told apart by that byte instead of by the message's pointer, and
/// the compiler would move entries in pieces around it, which costs a third of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u8);

impl Turn {
    /// It is not, or nobody asked for order.
    pub(crate) const NONE: Self = Self(0);
    /// It is: the key's lane is its own until it is settled.
    pub(crate) const OWN: Self = Self(1);
}

/// A delivery that is out.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) entry: Entry,
    pub(crate) consumer: u32,
    /// When the lease ends, in nanoseconds of the server's clock; until it was [stamped](Leases::stamp) how long it lasts,
    /// marked [`UNSTAMPED`].
    pub(super) until: u64,
}

/// What a delivery is made of.
pub(crate) struct Lent {
    pub(crate) message: Message,
    pub(crate) tag: u64,
    pub(crate) attempt: u32,
    pub(crate) redriven: u32,
}

/// Marks how long a lease lasts from its stamp on. No moment and no duration comes near: 2^63 ns are 292 years.
const UNSTAMPED: u64 = 1 << 63;

/// At most so many deliveries are out without a stamp.
const UNSTAMPED_MAX: usize = 64;

/// The deliveries that are out: a slab whose tags carry a generation, so that a stale tag is always recognised.
///
/// Reading the clock costs more than lending a message does. A lease is therefore granted without an end and gets it at the
/// next reading of the clock: when somebody has to wait, or after a few dozen grants. So a lease ends later than promised at
/// most by the time during which nobody waited for it, and never earlier.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots that were lent since the last stamp. One may stand here twice, or be free by now.
    unstamped: Vec<u32>,
    /// No stamped lease ends before this; 0 if none has an end.
    next_end: u64,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    leased: Option<Leased>,
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Lends an entry for `lasting` nanoseconds from the next stamp on.
    #[inline]
    pub(crate) fn grant(&mut self, entry: Entry, consumer: u32, lasting: u64) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| self.add_slot());
        let slot = &mut self.slots[index as usize];
        let free = slot.leased.replace(Leased { entry, consumer, until: lasting | UNSTAMPED });
        // A slot taken from the free ones is empty; said this way, no destructor is compiled in.
        std::mem::forget(free);
        self.unstamped.push(index);
        tag(slot.generation, index)
    }

    /// Lends the next entry, as [`grant`](Self::grant) does; all that may unwind happens before it is moved.
    #[inline(always)]
    pub(crate) fn lend(&mut self, consumer: u32, lasting: u64, next: impl FnOnce() -> Entry) -> Lent {
        let index = self.free.pop().unwrap_or_else(|| self.add_slot());
        self.unstamped.push(index);
        let slot = &mut self.slots[index as usize];
        let mut entry = next();
        entry.attempts += 1;
        let lent = Lent {
            message: entry.message.clone(),
            tag: tag(slot.generation, index),
            attempt: entry.attempts,
            redriven: u32::from(entry.redriven),
        };
        let free = slot.leased.replace(Leased { entry, consumer, until: lasting | UNSTAMPED });
        std::mem::forget(free);
        lent
    }

    #[cold]
    fn add_slot(&mut self) -> u32 {
        // Prefetch limits keep the number of slots far below 2^32.
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, leased: None });
        index
    }

    pub(crate) fn wants_stamp(&self) -> bool {
        self.unstamped.len() >= UNSTAMPED_MAX
    }

    /// Gives every lease that has no end yet its end.
    pub(crate) fn stamp(&mut self, now: u64) {
        for index in self.unstamped.drain(..) {
            if let Some(leased) = &mut self.slots[index as usize].leased
                && leased.until & UNSTAMPED != 0
            {
                leased.until = now.saturating_add(leased.until & !UNSTAMPED).min(UNSTAMPED - 1);
                self.next_end = earlier(self.next_end, leased.until);
            }
        }
    }

    /// Lets a lease that has its stamp end no earlier than `until`; false if it is not held any more.
    pub(crate) fn keep_until(&mut self, wanted: u64, until: u64) -> bool {
        let Some(leased) = self.get_mut(wanted) else { return false };
        leased.until = leased.until.max(until.min(UNSTAMPED - 1));
        let end = leased.until;
        self.next_end = earlier(self.next_end, end);
        true
    }

    /// When the next lease may end; [`NEVER`] if none does.
    pub(crate) fn next_end(&self) -> u64 {
        if self.next_end == 0 || self.len() == 0 { NEVER } else { self.next_end }
    }

    /// Takes out those that have ended.
    pub(crate) fn take_ended(&mut self, now: u64) -> Vec<Leased> {
        if self.next_end() > now {
            return Vec::new();
        }
        let ended = self.take_where(|leased| leased.until <= now);
        self.next_end =
            self.iter().map(|leased| leased.until).filter(|until| until & UNSTAMPED == 0).min().unwrap_or(0);
        ended
    }

    #[inline]
    pub(crate) fn take(&mut self, wanted: u64) -> Option<Leased> {
        let index = wanted as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != (wanted >> 32) as u32 {
            return None;
        }
        let leased = slot.leased.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(leased)
    }

    fn get_mut(&mut self, wanted: u64) -> Option<&mut Leased> {
        let slot = self.slots.get_mut(wanted as u32 as usize)?;
        if slot.generation == (wanted >> 32) as u32 { slot.leased.as_mut() } else { None }
    }

    pub(crate) fn holds(&self, wanted: u64) -> bool {
        let slot = self.slots.get(wanted as u32 as usize);
        slot.is_some_and(|slot| slot.generation == (wanted >> 32) as u32 && slot.leased.is_some())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Leased> {
        self.slots.iter_mut().filter_map(|slot| slot.leased.as_mut())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Leased> {
        self.slots.iter().filter_map(|slot| slot.leased.as_ref())
    }

    /// Takes out all that match, in the order in which they were published.
    pub(crate) fn take_where(&mut self, matches: impl Fn(&Leased) -> bool) -> Vec<Leased> {
        let tags: Vec<u64> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.leased.as_ref().is_some_and(&matches))
            .map(|(index, slot)| tag(slot.generation, index as u32))
            .collect();
        let mut taken: Vec<Leased> = tags.into_iter().filter_map(|tag| self.take(tag)).collect();
        taken.sort_by_key(|leased| leased.entry.seq);
        taken
    }
}

/// The earlier of two ends, of which the first may be 0 for none.
fn earlier(known: u64, end: u64) -> u64 {
    if known == 0 { end } else { known.min(end) }
}

#[inline]
fn tag(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn a_tag_is_good_for_one_take() {
        let entry =
            || Entry { message: Message::new("x"), seq: 1, expires: NEVER, attempts: 0, redriven: 0, turn: Turn::NONE };
        let mut leases = Leases::default();
        let first = leases.grant(entry(), 0, 5);
        assert!(leases.take(first).is_some());
        assert!(leases.take(first).is_none());
        let second = leases.grant(entry(), 0, 5);
        assert_ne!(first, second);
        assert!(leases.take(first).is_none());
        assert_eq!(leases.len(), 1);
        assert_eq!(leases.next_end(), NEVER);
        leases.stamp(10);
        assert_eq!(leases.next_end(), 15);
        assert!(leases.take_ended(14).is_empty());
        assert_eq!(leases.take_ended(15).len(), 1);
    }
}
