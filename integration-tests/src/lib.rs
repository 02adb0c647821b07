//! Real brokers on one machine, and faults on demand.
//!
//! # A broker
//!
//! [`shared`] gives the one server of a kind that all cases of a process use with fresh names; [`own`] gives one to be
//! stopped, killed, paused and restarted, gone with its data when dropped. Both take the first way that works: an address in
//! [`Kind::variable`] (shared only), a container, a native process. Every [`Broker`] has a [`Proxy`] in front
//! that cuts, holds, delays, throttles and refuses; a native one has an encrypted [`Door`] and accounts too. A [`Cluster`] has
//! three nodes.
//!
//! ```no_run
//! use integration_tests::{Broker, Kind, own, raw};
//!
//! # async fn example() -> integration_tests::Result<()> {
//! let broker = own(Kind::Kafka).await?;
//! let mut client = raw::connect(broker.kind(), &broker.proxied_url(), None).await?;
//! client.create("orders").await?;
//! broker.proxy().black_hole();
//! // … what does the code under test do now?
//! broker.proxy().heal().await?;
//! broker.kill().await?;
//! broker.start().await?;
//! assert_eq!(client.take("orders").await?, "kept");
//! # Ok(()) }
//! ```
//!
//! # A missing broker
//!
//! is an error of kind [`ErrorKind::Missing`]. A case that fails with it may end as ignored, with the error as its reason, if
//! [`Error::may_be_ignored`]: with `MESSAGING_REQUIRE_BROKERS=1` it may not. libtest cannot ignore a case at run time and would
//! count it as passed; `libtest-mimic` can (`Trial::ignorable_test`). [`report`] says at the end which way each broker came.
//!
//! # A process to kill
//!
//! [`child`] runs a publisher or consumer as a process of its own, kills it at a chosen or random point, and adds up its
//! history afterwards.
//!
//! # An adapter's conformance test
//!
//! With the feature `conformance`, `suite::RealBroker` is the harness that runs the conformance suite on a server of this crate.
//!
//! # What is left
//!
//! Nothing: see [`base`]. Every process carries a mark in its environment, and a shell that waits for this process's end, however it
//! comes, kills what carries it and removes the run's folder. Linux only.

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
pub mod page;
pub mod proxy;
pub mod raw;
mod report;
mod run;
pub mod runner;
#[cfg(feature = "conformance")]
pub mod suite;
pub mod tls;

pub use broker::{Account, Accounts, Broker, Door, Way};
pub use cluster::Cluster;
pub use error::{Error, ErrorKind, Result};
pub use kind::Kind;
pub use management::{client_certificates, close_connections};
pub use native::kafka_tool;
pub use obtain::{available, brokers_are_required, engine, own, own_by, recorded_address, shared};
pub use proxy::{Proxy, Route};
pub use report::report;
pub use run::{base, free_port, run_folder, until};
