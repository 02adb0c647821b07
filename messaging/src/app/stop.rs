//! The signal that ends workers, in two stages: first no new deliveries, then no more waiting for handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// There is none.
    Running,
    /// Started deliveries may finish.
    Draining,
    /// Unfinished deliveries are abandoned.
    Abandoning,
}

/// Shared by all workers of an application and the task that shuts it down.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stage: AtomicU8,
    /// Ends waits outside of workers.
    abandoned: Notify,
    seats: parking_lot::Mutex<Vec<Arc<AtomicWaker>>>,
}

impl Stop {
    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Abandoning,
        }
    }

    /// Moves on to a stage and wakes all workers; never back.
    pub(crate) fn set(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        for seat in self.seats.lock().iter() {
            seat.wake();
        }
        if stage == Stage::Abandoning {
            self.abandoned.notify_waiters();
        }
    }

    /// Waits for the last stage.
    pub(crate) async fn abandoned(&self) {
        let mut notified = std::pin::pin!(self.abandoned.notified());
        notified.as_mut().enable();
        if self.stage() < Stage::Abandoning {
            notified.await;
        }
    }
}

/// One worker's ear for the signal.
#[derive(Debug)]
pub(crate) struct StopEar {
    stop: Arc<Stop>,
    waker: Arc<AtomicWaker>,
}

impl StopEar {
    pub(crate) fn new(stop: &Arc<Stop>) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        stop.seats.lock().push(waker.clone());
        Self { stop: stop.clone(), waker }
    }

    /// The stage now; a change later wakes nobody.
    pub(crate) fn stage(&self) -> Stage {
        self.stop.stage()
    }

    /// The stage now; the next change wakes `waker`.
    pub(crate) fn listen(&self, waker: &Waker) -> Stage {
        self.waker.register(waker);
        self.stop.stage()
    }
}
