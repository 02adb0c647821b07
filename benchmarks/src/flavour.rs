//! The two runtimes people use.

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flavour {
    /// Everything on one thread.
    CurrentThread,
    /// Two worker threads.
    TwoThreads,
}

impl Flavour {
    pub(crate) const ALL_FLAVOURS: [Self; 2] = [Self::CurrentThread, Self::TwoThreads];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CurrentThread => "1 thread",
            Self::TwoThreads => "2 threads",
        }
    }

    pub(crate) fn runtime(self) -> Runtime {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build().unwrap(),
            Self::TwoThreads => Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
        }
    }
}
