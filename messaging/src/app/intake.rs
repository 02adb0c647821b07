//! Where workers get their deliveries from: a consumer of their own, or one that several share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use messaging_core::{Consumer, Delivery, Event, Result};
use parking_lot::Mutex;

/// How many deliveries go by between two looks at the events of a consumer that always has deliveries.
const LOOK_EVERY: u32 = 64;

/// A worker's way to its deliveries.
pub(crate) enum Intake {
    /// The only worker owns the consumer: no lock at all.
    Own(Counted),
    /// One of several.
    Shared(Seat),
}

impl Intake {
    /// The next delivery; `None` once stopped.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        on_event: &mut impl FnMut(Event),
    ) -> Poll<Result<Option<Delivery>>> {
        match self {
            Self::Own(counted) => counted.poll(cx, on_event),
            Self::Shared(seat) => seat.poll(cx, on_event),
        }
    }

    /// Passes on a wake-up that was meant for this worker, which does not wait any more.
    pub(crate) fn step_aside(&mut self) {
        if let Self::Shared(seat) = self {
            seat.step_aside();
        }
    }

    /// The consumer, from a worker that has it to itself.
    pub(crate) fn into_own(self) -> Option<Consumer> {
        match self {
            Self::Own(counted) => Some(counted.consumer),
            Self::Shared(_) => None,
        }
    }
}

/// A consumer, and how long ago its events were looked at.
pub(crate) struct Counted {
    consumer: Consumer,
    since_events: u32,
}

impl Counted {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self { consumer, since_events: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>, on_event: &mut impl FnMut(Event)) -> Poll<Result<Option<Delivery>>> {
        self.since_events += 1;
        if self.since_events < LOOK_EVERY
            && let ready @ Poll::Ready(_) = self.consumer.poll_next_delivery(cx)
        {
            return ready;
        }
        self.since_events = 0;
        while let Poll::Ready(event) = self.consumer.poll_event(cx) {
            on_event(event);
        }
        self.consumer.poll_next_delivery(cx)
    }
}

/// A consumer that several workers share.
///
/// The adapter knows one waker. It is the queue's: it wakes one idle worker, which wakes the next if it got a delivery.
/// While there is always something to do nobody is idle, and a worker pays for a short lock and nothing else.
pub(crate) struct Shared {
    counted: Mutex<Option<Counted>>,
    idle: Arc<Idle>,
    waker: Waker,
}

impl Shared {
    pub(crate) fn new(consumer: Consumer, workers: usize) -> Arc<Self> {
        let idle = Arc::new(Idle {
            count: AtomicUsize::new(0),
            queue: Mutex::new(Queue {
                wakers: vec![None; workers],
                last_in: Vec::with_capacity(workers),
                missed: false,
            }),
        });
        let waker = Waker::from(idle.clone());
        Arc::new(Self { counted: Mutex::new(Some(Counted::new(consumer))), idle, waker })
    }

    pub(crate) fn seat(self: &Arc<Self>, index: usize) -> Seat {
        Seat { shared: self.clone(), index, waiting: false }
    }

    /// The consumer; workers that still ask for deliveries are told that there are none.
    pub(crate) fn take(&self) -> Option<Consumer> {
        self.counted.lock().take().map(|counted| counted.consumer)
    }
}

/// A worker's place at a shared consumer.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    index: usize,
    waiting: bool,
}

impl Seat {
    fn poll(&mut self, cx: &mut Context<'_>, on_event: &mut impl FnMut(Event)) -> Poll<Result<Option<Delivery>>> {
        let idle = &self.shared.idle;
        // Held until this worker is known to wait: whoever polls next and finds more than it needs must see it. Waking
        // never takes this lock.
        let mut counted = self.shared.counted.lock();
        loop {
            let polled = match counted.as_mut() {
                Some(counted) => counted.poll(&mut Context::from_waker(&self.shared.waker), on_event),
                None => Poll::Ready(Ok(None)),
            };
            match polled {
                Poll::Ready(ready) => {
                    drop(counted);
                    if std::mem::take(&mut self.waiting) {
                        idle.leave(self.index);
                    }
                    if idle.count.load(Ordering::Relaxed) > 0 {
                        idle.wake_one();
                    }
                    return Poll::Ready(ready);
                }
                Poll::Pending => {
                    self.waiting = true;
                    if idle.wait(self.index, cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Seat {
    fn step_aside(&mut self) {
        // A wake-up that was meant for this worker goes to another.
        if std::mem::take(&mut self.waiting) && !self.shared.idle.leave(self.index) {
            self.shared.idle.wake_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.step_aside();
    }
}

/// The workers that wait for a delivery.
struct Idle {
    /// How many there are, for a look without the lock.
    count: AtomicUsize,
    queue: Mutex<Queue>,
}

struct Queue {
    wakers: Vec<Option<Waker>>,
    /// Who waits, the last to come last: it is woken first, its memory being warm. An index may be here whose waker has gone.
    last_in: Vec<usize>,
    /// The consumer woke while nobody waited.
    missed: bool,
}

impl Idle {
    /// Begins to wait; false if a wake-up came in between and the consumer has to be polled again.
    fn wait(&self, index: usize, waker: &Waker) -> bool {
        let mut queue = self.queue.lock();
        if std::mem::take(&mut queue.missed) {
            return false;
        }
        match &mut queue.wakers[index] {
            Some(known) => known.clone_from(waker),
            empty => {
                *empty = Some(waker.clone());
                queue.last_in.retain(|waiting| *waiting != index);
                queue.last_in.push(index);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// Ends to wait; false if it had been woken.
    fn leave(&self, index: usize) -> bool {
        let waited = self.queue.lock().wakers[index].take().is_some();
        if waited {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        waited
    }

    fn wake_one(&self) {
        let mut queue = self.queue.lock();
        while let Some(index) = queue.last_in.pop() {
            if let Some(waker) = queue.wakers[index].take() {
                self.count.fetch_sub(1, Ordering::Relaxed);
                drop(queue);
                waker.wake();
                return;
            }
        }
        queue.missed = true;
    }
}

impl Wake for Idle {
    fn wake(self: Arc<Self>) {
        self.wake_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_one();
    }
}
