//! The Kafka adapter: queues, topics and retries on a log, with committed offsets that never skip.
//!
//! * `kafka://host:9092,other:9092` connects in the clear, `kafkas://…` by TLS; a user and password in the address log in by SASL.
//! * A queue is a topic with one consumer group, a durable subscription a group of its own. Acknowledgements come in any order;
//!   what is committed is the lowest offset that is not acknowledged, so that a crash delivers again and never skips.
//! * Retries, dead letters and delayed messages are confirmed copies in topics beside the source, whose names are the source's
//!   with `--retry`, `--dead` and `--delayed`.
//!
//! The crate's README lists capabilities, mapping, options and caveats.

mod admin;
mod blocking;
mod broker;
mod capabilities;
mod config;
mod connection;
mod consumer;
mod convert;
mod copies;
mod error;
mod first_answer;
mod producer;
mod publisher;
mod queue;
mod raw;
mod records;
mod reports;
mod requester;
mod settle;
mod subscriber;
mod topology;

use messaging_core::Driver;

pub use self::convert::is_tombstone;

/// The driver: `kafka://` and, by TLS, `kafkas://`.
pub const DRIVER: Driver = Driver { name: "kafka", schemes: &["kafka", "kafkas"], connect: broker::connect };
