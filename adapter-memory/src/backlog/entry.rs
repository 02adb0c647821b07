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
    /// It is the one of its key whose turn it is: the key's lane is its own until it is settled.
    pub(crate) owns_lane: bool,
}

/// A delivery that is out.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) entry: Entry,
    pub(crate) consumer: u32,
    /// When the lease ends, in nanoseconds of the server's clock; [`NEVER`] until it was [stamped](Leases::stamp).
    pub(crate) until: u64,
}

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
    /// Tags without a stamp, and how long their leases last.
    unstamped: Vec<(u64, u64)>,
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
    pub(crate) fn grant(&mut self, entry: Entry, consumer: u32, lasting: u64) -> u64 {
        let leased = Some(Leased { entry, consumer, until: NEVER });
        let tag = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.leased = leased;
                tag(slot.generation, index)
            }
            None => {
                // Prefetch limits keep the number of slots far below 2^32.
                let index = self.slots.len() as u32;
                self.slots.push(Slot { generation: 0, leased });
                tag(0, index)
            }
        };
        self.unstamped.push((tag, lasting));
        tag
    }

    pub(crate) fn wants_stamp(&self) -> bool {
        self.unstamped.len() >= UNSTAMPED_MAX
    }

    /// Gives every lease that has no end yet its end.
    pub(crate) fn stamp(&mut self, now: u64) {
        let mut unstamped = std::mem::take(&mut self.unstamped);
        for (tag, lasting) in unstamped.drain(..) {
            self.keep_until(tag, now.saturating_add(lasting));
        }
        self.unstamped = unstamped;
    }

    /// Lets a lease end no earlier than `until`; false if it is not held any more.
    pub(crate) fn keep_until(&mut self, wanted: u64, until: u64) -> bool {
        let Some(leased) = self.get_mut(wanted) else { return false };
        let end = if leased.until == NEVER { until } else { leased.until.max(until) };
        leased.until = end;
        self.next_end = if self.next_end == 0 { end } else { self.next_end.min(end) };
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
        self.next_end = self.iter().map(|leased| leased.until).min().filter(|end| *end != NEVER).unwrap_or(0);
        ended
    }

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
            || Entry { message: Message::new("x"), seq: 1, expires: NEVER, attempts: 0, redriven: 0, owns_lane: false };
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
