//! Extractors: what a handler's arguments are made of.
//!
//! A handler is an async function of up to eight arguments, each of a type that implements [`FromDelivery`]. The listener
//! makes them from the delivery before it calls the handler, synchronously and without a boxed future.
//!
//! | argument | what it is |
//! |---|---|
//! | [`Json<T>`](crate::Json) | the payload, read as JSON |
//! | [`Payload<T>`] | the payload, read by its content type |
//! | [`Bytes`](bytes::Bytes) | the payload as it came |
//! | [`Message`](messaging_core::Message) | payload, headers and all properties |
//! | [`Headers`](messaging_core::Headers) | all headers |
//! | [`Header<H>`] | one header, parsed |
//! | [`Attempt`] | which attempt this is, from 1 |
//! | [`State<S>`] | what [`App::state`](crate::App::state) was given |
//! | [`Publishers`](crate::Publishers) | publishers by binding name |
//! | [`Settle`] | the settlement, where `ack = manual` |

mod basic;
mod context;
mod payload;
mod settle;
mod state;

pub use self::basic::{Attempt, Header, NamedHeader};
pub use self::context::{DeliveryContext, FromDelivery, Incoming, Needs, Rejection};
pub use self::payload::Payload;
pub use self::settle::{Answer, Settle};
pub use self::state::State;

pub(crate) use self::context::ListenerContext;
pub(crate) use self::settle::ManualSlot;
pub(crate) use self::state::States;
