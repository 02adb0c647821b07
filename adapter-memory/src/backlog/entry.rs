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
    /// When the lease ends, in nanoseconds of the server's clock.
    pub(crate) until: u64,
}

/// The deliveries that are out: a slab whose tags carry a generation, so that a stale tag is always recognised.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: Vec<Slot>,
    free: Vec<u32>,
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

    pub(crate) fn grant(&mut self, leased: Leased) -> u64 {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.leased = Some(leased);
                tag(slot.generation, index)
            }
            None => {
                // Prefetch limits keep the number of slots far below 2^32.
                let index = self.slots.len() as u32;
                self.slots.push(Slot { generation: 0, leased: Some(leased) });
                tag(0, index)
            }
        }
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

    pub(crate) fn get_mut(&mut self, wanted: u64) -> Option<&mut Leased> {
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
        let first = leases.grant(Leased { entry: entry(), consumer: 0, until: NEVER });
        assert!(leases.take(first).is_some());
        assert!(leases.take(first).is_none());
        let second = leases.grant(Leased { entry: entry(), consumer: 0, until: NEVER });
        assert_ne!(first, second);
        assert!(leases.take(first).is_none());
        assert_eq!(leases.len(), 1);
    }
}
