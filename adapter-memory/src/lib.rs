//! The in-memory reference broker: every capability of the messaging contract, in one process.
//!
//! * `memory://` opens a broker with a server of its own, for tests and for applications that need no other.
//! * `memory://name` opens a broker on the server of that name, shared within the process, so that two applications can meet.
//!
//! Parameters of the URL, options of the broker and options of single destinations are the same; see the crate's README.
//! Everything follows tokio's clock, so that tests with [`tokio::time::pause`] take no time. [`MemoryServer`] injects faults.
//!
//! Nothing is written to a disk: what waits is gone with the process. Nothing runs in the background either, but for a timer
//! while a publish waits for its answer.

mod admin;
mod backlog;
mod broker;
mod capabilities;
mod clock;
mod config;
mod consumer;
mod dedup;
mod publisher;
mod request;
mod server;
mod topic;
mod transaction;

use messaging_core::Driver;

pub use self::server::{Data, Link, MemoryServer, PublishFault};

/// The driver: `memory://` and `memory://name`.
pub const DRIVER: Driver = Driver { name: "memory", schemes: &["memory"], connect: broker::connect };
