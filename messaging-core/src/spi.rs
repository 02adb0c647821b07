//! The interface for adapters: what only an implementor of [`Broker`](crate::Broker) needs.
//!
//! Applications have no use for these names, and the facade does not re-export them. An adapter implements, at least,
//! [`Broker`](crate::Broker) and [`QueueConsumer`](crate::QueueConsumer) for its handle, [`Publisher`](crate::Publisher) over a
//! [`PublisherCore`], [`Deliveries`] and its [`Control`](crate::Control) for what a consumer receives, and [`Settler`] for how a
//! delivery ends. Each optional part is a trait whose methods refuse by default: [`Topology`](crate::Topology) excepted, which is
//! a whole of two. The page `docs/writing-an-adapter.md` of the repository goes through them in order.

pub use crate::checked::Checked;
pub use crate::consumer::Deliveries;
pub use crate::delivery::{Settler, Unsettled};
pub use crate::driver::Connecting;
pub use crate::in_flight::{IN_FLIGHT_MAX, InFlight, Permit};
pub use crate::inbox::Inbox;
pub use crate::message::ReceivedMessage;
pub use crate::outcome::{Answers, Tickets, TicketsOwner};
pub use crate::publisher::PublisherCore;
pub use crate::requester::{REQUEST_PUBLISHERS_MAX, Replies};
pub use crate::undeclared::undeclared;
