//! RabbitMQ behind the messaging contract, over AMQP 0-9-1.
//!
//! * `amqp://user:password@host:5672/virtual-host` opens a broker; `amqps://` an encrypted one. Several hosts make a cluster.
//! * A queue is a durable quorum queue, or a classic one by option; a topic is a durable topic exchange; a durable subscription
//!   is a queue bound to it; an ephemeral one an exclusive queue that goes with its consumer.
//! * Publishing is confirmed always, by one task for each channel; consuming acknowledges in coalesced frames.
//! * Connections, channels and consumers are brought back by supervisors of this crate, one for each.
//!
//! The crate's README has the options, the layout at the broker and what to know.

mod acks;
mod admin;
mod broker;
mod capabilities;
mod config;
mod connection;
mod consumer;
mod convert;
mod delay;
mod error;
mod gate;
mod layout;
mod publisher;
mod queue;
mod requester;
mod settle;
mod subscriber;
mod topology;
mod writer;

use messaging_core::Driver;

/// The driver: `amqp://` and `amqps://`.
pub const DRIVER: Driver = Driver { name: "rabbitmq", schemes: &["amqp", "amqps"], connect: broker::connect };
