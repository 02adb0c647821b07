//! The App runtime over the memory broker, most of it with paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![cfg(feature = "memory")]

mod attempts;
mod bindings;
mod failures;
mod layers;
mod manual;
mod order;
mod payloads;
mod publishing;
mod shutdown;
mod start_errors;
mod support;
mod support_poor;
mod user_code;
