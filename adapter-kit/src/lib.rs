//! Parts of a broker adapter that are the same for every broker.
//!
//! An adapter translates between the contract of [`messaging_core`] and one client library. Everything between the two that does
//! not depend on the broker is here, once, with tests of its own:
//!
//! | part | purpose |
//! |---|---|
//! | [`Outlet`] | buffer between a client and the application: prefetch, key order, delays, flow, events, drain |
//! | [`KeyGate`] | one message of a key at a time |
//! | [`DueQueue`] | items held until a point in time |
//! | [`Epoch`] | one registration at the broker: recognises stale settlements and frees each place once |
//! | [`Opened`] | handles that were opened and are still alive, and whether their broker is closed |
//! | [`Closing`] | one order of closing, and one report for all who close |
//! | [`Backoff`] | pauses between attempts to come back, with jitter |
//! | [`Outbox`] | what has not left, kept until its time limit |
//! | [`copied`] | a confirmed copy first, and the settlement of the original afterwards |
//! | [`Trouble`] | a lost connection: since when and why, as health and in the log |
//!
//! The crate depends on the core alone. Nothing in it starts a task or a thread: the adapter's own task or thread drives it.

mod backoff;
mod closing;
mod copied;
mod due_queue;
mod epoch;
mod key_gate;
mod opened;
mod outbox;
mod outlet;
mod trouble;

pub use self::backoff::{Backoff, RECONNECT_PAUSE_MAX, RECONNECT_PAUSE_MIN};
pub use self::closing::{Close, Closing};
pub use self::copied::{AfterCopy, COPY_TIMEOUT, copied};
pub use self::due_queue::{DueQueue, instant_after, instant_of};
pub use self::epoch::{DeliveryId, Epoch};
pub use self::key_gate::KeyGate;
pub use self::opened::Opened;
pub use self::outbox::{Leaving, Outbox};
pub use self::outlet::{Bound, Buffered, EndReason, Feeder, Finished, Held, Outlet, OutletOptions};
pub use self::trouble::Trouble;
