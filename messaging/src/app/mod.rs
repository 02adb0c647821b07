//! The runtime for listeners.
//!
//! [`App`] is declared, checked and started; [`RunningApp`] runs, reports its [`Ledger`] and its [`AppHealth`], and shuts
//! down with a [`ShutdownReport`].

mod builder;
mod caught;
mod failure;
mod handler;
mod health;
mod intake;
mod ledger;
mod listen;
mod listener;
mod plan;
mod publishing;
mod retry;
mod running;
mod running_listener;
mod settling;
mod shutdown;
mod signals;
mod start;
mod stop;
mod worker;

pub use self::builder::App;
pub use self::failure::{BoxError, Failure, FailureKind, HandlerError};
pub use self::handler::{Handler, HandlerFuture, HandlerService, IntoHandled};
pub use self::health::AppHealth;
pub use self::ledger::{Ledger, Tally};
pub use self::listen::Listen;
pub use self::listener::{BoxListenerService, Listener};
pub use self::publishing::{BindingPublisher, Publishers};
pub use self::retry::{AckMode, DeadLetterPolicy, Retry};
pub use self::running::{Hurry, RunningApp};
pub use self::shutdown::{Drain, ShutdownReport};

pub(crate) use self::failure::Course;
pub(crate) use self::ledger::{Counters, count};
pub(crate) use self::settling::{Intent, Policy, answered};
