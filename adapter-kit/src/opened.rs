//! Handles that were opened and are still alive.

use std::fmt;
use std::sync::{Arc, Weak};

use messaging_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// Handles of one kind that were opened through a broker and are still alive, and whether the broker was closed.
///
/// The list and the closed flag are behind one lock: a handle is either returned by [`close`](Self::close) or refused by
/// [`add`](Self::add), never neither. It keeps no handle alive; those that are gone are forgotten when the list would grow.
pub struct Opened<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    handles: Vec<Weak<T>>,
    is_closed: bool,
}

impl<T> Opened<T> {
    /// Nothing opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Mutex::new(State { handles: Vec::new(), is_closed: false }) }
    }

    /// Remembers a handle.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the broker was closed while the handle was being opened: the caller ends the handle and returns
    /// this error.
    pub fn add(&self, handle: &Arc<T>) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(closed());
        }
        if state.handles.len() == state.handles.capacity() {
            state.handles.retain(|known| known.strong_count() > 0);
        }
        state.handles.push(Arc::downgrade(handle));
        Ok(())
    }

    /// Checks before something is opened.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] once [`close`](Self::close) was called.
    pub fn check(&self) -> Result<()> {
        if self.state.lock().is_closed { Err(closed()) } else { Ok(()) }
    }

    /// The handles that are alive, oldest first.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<T>> {
        self.state.lock().handles.iter().filter_map(Weak::upgrade).collect()
    }

    /// Refuses new handles from now on. Returns the handles that are alive, oldest first; they stay in [`live`](Self::live), so
    /// that health can be read while they close. A second call returns them again.
    #[must_use]
    pub fn close(&self) -> Vec<Arc<T>> {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.handles.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Error of every call on a broker that was closed.
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker was closed: open it again")
}

impl<T> Default for Opened<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Opened<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Opened").field("known", &state.handles.len()).field("is_closed", &state.is_closed).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn dropped_handles_are_forgotten() {
        let opened = Opened::new();
        let kept = Arc::new(0);
        opened.add(&kept).unwrap();
        for handle in 1..10_000 {
            opened.add(&Arc::new(handle)).unwrap();
        }
        assert_eq!(opened.live(), [kept]);
        assert!(opened.state.lock().handles.capacity() < 64, "the list does not grow with handles that are gone");
    }

    #[test]
    fn a_handle_opened_during_a_close_is_returned_or_refused() {
        for _ in 0..200 {
            let opened = Opened::new();
            let handle = Arc::new(());
            let start = Barrier::new(2);
            let (added, closed) = thread::scope(|scope| {
                let adding = scope.spawn(|| {
                    start.wait();
                    opened.add(&handle)
                });
                start.wait();
                let closed = opened.close();
                (adding.join().unwrap(), closed)
            });
            assert_eq!(added.is_ok(), closed.len() == 1);
            assert_eq!(opened.add(&handle).unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(opened.check().unwrap_err().kind(), ErrorKind::Closed);
        }
    }
}
