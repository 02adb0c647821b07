//! The shared conformance suite of the messaging contract: the proof that the meaning does not change with the broker.
//!
//! An adapter implements [`Harness`] and [`Stage`] and calls [`conformance!`]; every case then runs by its name, on each
//! kind of place the broker has. What the broker declares must hold; what it does not declare must be refused.
//!
//! * [`Case`] is one promise; [`all_cases`] lists them. They work with a [`Bench`], its [`Place`]s and [`Tap`]s.
//! * [`history`] is the total-queue checker: intents, outcomes and receipts in; lost, duplicated, unexpected and reordered
//!   messages out.
//! * [`intercept`] puts places to step in around a broker; the mutants that prove the suite are built on it.
//! * [`Report`] is what a run leaves behind; [`matrix`] makes the capability matrix of the reports of all brokers.

mod bench;
mod case;
mod cases;
mod child;
mod floor;
mod harness;
pub mod history;
pub mod intercept;
pub mod matrix;
mod perturb;
mod pins;
mod place;
mod refuse;
mod report;
mod run;
mod suite;
mod tally;
mod tap;
mod verdict;

pub use self::bench::{Bench, Places};
pub use self::case::{Case, Kind, Trying};
pub use self::cases::all_cases;
pub use self::floor::{FLOORS, Floor};
pub use self::harness::{About, Harness, Line, Power, RawMessage, Reality, Stage, WrongAddress};
pub use self::pins::{Answers, Level, render};
pub use self::place::Place;
pub use self::report::Report;
pub use self::run::{Ending, Flavour, Record, Running, run_case};
pub use self::suite::Suite;
pub use self::tally::Tally;
pub use self::tap::{Tap, text};
pub use self::verdict::{Stop, Verdict};
