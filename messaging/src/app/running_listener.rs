//! One listener of an application while it runs.

use std::sync::Arc;

use messaging_core::Control;
use tokio::task::JoinHandle;

use super::intake::Shared;
use super::ledger::ListenerCounters;
use super::settling::Policy;
use super::worker::Remains;

/// Tasks of one listener, with the handles that count, steer and drain them.
pub(crate) struct RunningListener {
    pub(crate) policy: Arc<Policy>,
    pub(crate) counters: ListenerCounters,
    pub(crate) control: Arc<dyn Control>,
    /// The consumer, if several workers share it.
    pub(crate) shared: Option<Arc<Shared>>,
    pub(crate) tasks: Vec<JoinHandle<Remains>>,
}
