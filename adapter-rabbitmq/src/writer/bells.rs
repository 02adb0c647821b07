//! Who tells the writer that something was answered: each place has a bell, which notes the place and wakes the task.
//!
//! Without them the writer would have to look at all that wait whenever one is answered.

use std::mem;
use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// The places whose bells rang and that were not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Rung(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    places: Vec<usize>,
    task: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    place: usize,
    noted: Arc<Mutex<Noted>>,
}

impl Rung {
    /// A bell for a place; it may ring any number of times.
    pub(super) fn bell(&self, place: usize) -> Waker {
        Waker::from(Arc::new(Bell { place, noted: self.0.clone() }))
    }

    /// Swaps `places`, which is empty, for those that were noted, in the order in which they rang. `task` is woken by the next.
    pub(super) fn take(&self, places: &mut Vec<usize>, task: &Waker) {
        let mut noted = self.0.lock();
        mem::swap(places, &mut noted.places);
        match &mut noted.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut noted = self.noted.lock();
            noted.places.push(self.place);
            // The first wakes it; the others are found on the way.
            noted.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}
