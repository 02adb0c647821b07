//! Wakers for single confirms: each records its slot as ready and wakes the writer's task.
//!
//! Without them the writer would have to look at all that wait whenever one is answered.

use std::mem;
use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The slots whose bells rang and that were not looked at yet.
#[derive(Debug, Default)]
pub(super) struct ReadySlots(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    slots: Vec<usize>,
    task: Option<Waker>,
}

#[derive(Debug)]
struct SlotWaker {
    slot: usize,
    noted: Arc<Mutex<Noted>>,
}

impl ReadySlots {
    /// The waker of a slot; it may wake any number of times.
    pub(super) fn waker(&self, slot: usize) -> Waker {
        Waker::from(Arc::new(SlotWaker { slot, noted: self.0.clone() }))
    }

    /// Swaps `slots`, which is empty, for those that were noted, in the order in which they were woken. `task` is woken by the next.
    pub(super) fn take(&self, slots: &mut Vec<usize>, task: &Waker) {
        let mut noted = self.0.lock();
        mem::swap(slots, &mut noted.slots);
        match &mut noted.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut noted = self.noted.lock();
            noted.slots.push(self.slot);
            // The first wakes it; the others are found on the way.
            noted.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}
