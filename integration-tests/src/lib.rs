//! Real brokers on one machine, and faults on demand.

mod broker;
pub mod child;
mod cluster;
#[cfg(feature = "containers")]
mod container;
mod doors;
mod environment;
mod error;
mod kind;
mod management;
mod native;
mod obtain;
pub mod proxy;
pub mod raw;
mod run;
pub mod tls;

pub use broker::{Account, Accounts, Broker, Door, Way};
pub use cluster::Cluster;
pub use error::{Error, ErrorKind, Result};
pub use kind::Kind;
pub use obtain::{available, brokers_are_required, engine, or_skip, own, own_by, recorded_address, shared};
pub use proxy::Proxy;
pub use run::{base, free_port, run_folder, until};
