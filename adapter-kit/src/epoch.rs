//! One registration at the broker, to which deliveries belong: a channel, an assigned partition, a lease.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bit of [`Epoch::out`] that says that settlements are stale.
const STALE_BIT: usize = 1 << (usize::BITS - 1);

/// A delivery of one consumer: the number of the epoch it came in, and the adapter's number for it within that epoch.
///
/// A message that comes again in a later epoch has another identity, also where its tag is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// Number of the epoch, from [`Outlet::begin_epoch`](crate::Outlet::begin_epoch).
    pub epoch: u64,
    /// Number of the delivery within the epoch, as in [`Unsettled::tag`](messaging_core::spi::Unsettled::tag).
    pub tag: u64,
}

/// One registration at the broker. It counts the deliveries that are with the application, and makes their settlements stale once
/// the registration is lost.
///
/// An epoch goes through three states. While it is *current*, its messages are handed out and settled. While it is *leaving*,
/// nothing more of it is handed out, and what is out can still be settled: a partition that is about to be revoked. Once it is
/// *stale*, settlements change nothing.
///
/// [`end`](Self::end) and [`take_back`](Self::take_back) race on one atomic number: each delivery's place is freed by exactly one
/// of the two.
#[derive(Debug)]
pub struct Epoch {
    number: u64,
    is_leaving: AtomicBool,
    /// Deliveries that are with the application, and the bit [`STALE_BIT`].
    out: AtomicUsize,
}

impl Epoch {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, is_leaving: AtomicBool::new(false), out: AtomicUsize::new(0) }
    }

    /// Number of this epoch within its consumer.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Identity of the delivery with this tag.
    #[must_use]
    pub fn id(&self, tag: u64) -> DeliveryId {
        DeliveryId { epoch: self.number, tag }
    }

    /// True while its messages may be handed out: it is current. [`Held::is_wanted`](crate::Held::is_wanted) asks this.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.is_leaving.load(Ordering::SeqCst) && self.is_live()
    }

    /// True while its deliveries can be settled: it is current or leaving.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.out.load(Ordering::SeqCst) & STALE_BIT == 0
    }

    /// Number of its deliveries that are with the application; 0 after [`end`](Self::end).
    #[must_use]
    pub fn out(&self) -> usize {
        self.out.load(Ordering::SeqCst) & !STALE_BIT
    }

    /// Counts deliveries that go to the application. Only called from [`Held::handed_out`](crate::Held::handed_out), under the
    /// lock of the outlet: an epoch that is leaving has nothing there that could be handed out.
    pub fn hand_out(&self, count: usize) {
        self.out.fetch_add(count, Ordering::SeqCst);
    }

    /// Counts deliveries that are settled or given back. False if they are stale; then nothing is counted, and their places are
    /// freed by whoever ended the epoch.
    #[must_use]
    pub fn take_back(&self, count: usize) -> bool {
        let less = |out: usize| (out & STALE_BIT == 0).then(|| out.saturating_sub(count));
        self.out.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    /// Nothing more of it is handed out or put back. Call [`Outlet::take_unstarted`](crate::Outlet::take_unstarted) afterwards.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::SeqCst);
    }

    /// Settlements are stale from now on. Their places stay taken until [`end`](Self::end).
    pub fn disown(&self) {
        self.out.fetch_or(STALE_BIT, Ordering::SeqCst);
    }

    /// Ends the epoch. Returns the number of deliveries that are still out: the caller frees their places, once. See
    /// [`Outlet::end_epoch`](crate::Outlet::end_epoch), which does all steps.
    #[must_use]
    pub fn end(&self) -> usize {
        self.leave();
        self.out.swap(STALE_BIT, Ordering::SeqCst) & !STALE_BIT
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn each_place_is_freed_by_a_settlement_or_by_the_end() {
        for round in 0..200 {
            let epoch = Epoch::new(0);
            epoch.hand_out(64);
            let all = Barrier::new(3);
            let (epoch, all) = (&epoch, &all);
            let freed: usize = thread::scope(|scope| {
                let settle = move || {
                    all.wait();
                    (0..32).filter(|_| epoch.take_back(1)).count()
                };
                let settlers = [scope.spawn(settle), scope.spawn(settle)];
                all.wait();
                (0..round).for_each(|_| thread::yield_now());
                let ended = epoch.end();
                ended + settlers.into_iter().map(|settler| settler.join().unwrap()).sum::<usize>()
            });
            assert_eq!(freed, 64, "round {round}");
            assert_eq!((epoch.out(), epoch.end()), (0, 0));
        }
    }

    #[test]
    fn a_disowned_epoch_keeps_its_places_until_its_end() {
        let epoch = Epoch::new(3);
        epoch.hand_out(2);
        assert!(epoch.take_back(1));
        epoch.leave();
        assert!(epoch.is_live() && !epoch.is_wanted());
        epoch.disown();
        assert!(!epoch.take_back(1) && !epoch.is_live());
        assert_eq!((epoch.out(), epoch.end(), epoch.end()), (1, 1, 0));
        assert_eq!(epoch.id(7), DeliveryId { epoch: 3, tag: 7 });
    }
}
