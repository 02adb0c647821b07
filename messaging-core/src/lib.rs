//! The contract of a broker-agnostic messaging abstraction. Knows no broker.
//!
//! Applications depend on the crate `messaging`, which re-exports the names at this crate's root; adapters depend on this crate,
//! and find what only they need in [`spi`].
//!
//! * [`Broker`] opens everything from one connection; [`Publisher`], [`QueueConsumer`] and [`Subscriber`] are the three
//!   traits an application is written against; [`Topology`] plans and makes, [`Inspect`] reads, [`Repair`] redrives and purges.
//! * [`Message`] is what is published, [`Delivery`] one attempt to hand it to a consumer, ended by exactly one
//!   [`Settlement`].
//! * [`Capabilities`] say what a broker can do in a [`Place`]; [`Requirements`] are checked against them before a message moves.
//!   [`Checked`](spi::Checked) does so around every adapter.
//! * [`Driver`] is an adapter's entry, [`Registry`] chooses one by the scheme of a [`BrokerUrl`].
//! * Adapters implement [`Publisher`], [`Deliveries`](spi::Deliveries) and [`Settler`](spi::Settler) on the hot path, all without a
//!   boxed future: see [`Outcome`], [`Tickets`](spi::Tickets) and [`InFlight`](spi::InFlight).

mod access;
mod broker;
pub mod capabilities;
mod checked;
mod consume;
mod consumer;
mod delivery;
mod destinations;
mod driver;
mod error;
mod health;
mod identity;
mod in_flight;
mod inbox;
mod inspect;
mod message;
mod name;
mod names;
mod outcome;
mod parsed_text;
mod publisher;
mod repair;
mod requester;
mod scope;
mod settings;
mod settlement;
pub mod spi;
mod subject;
pub mod suggest;
mod topology;
mod undeclared;
mod url;
pub mod wire;

pub use self::access::{Access, ClientIdentity};
pub use self::broker::{Broker, Transaction};
pub use self::capabilities::{
    Attempts, Browsing, Capabilities, Expired, Feature, Filtering, Limits, Need, Place, PublishDedup, Readiness,
    Requirements, RetryPlace, SettlementTiming, StaleDetection, Support,
};
pub use self::consume::{
    ConsumeOptions, Durability, Lease, Order, QueueConsumer, RetryMode, Start, SubscribeOptions, Subscriber,
};
pub use self::consumer::{Consumer, Control, DrainReport, Event, Flow, Received};
pub use self::delivery::{Acked, Delivery, Position};
pub use self::destinations::Destinations;
pub use self::driver::{ConnectOptions, DestinationSettings, Driver, Registry};
pub use self::error::{Error, ErrorKind, ErrorOutcome, Result};
pub use self::health::{Health, HealthState};
pub use self::identity::Identity;
pub use self::inspect::{Browsed, Depth, Inspect, SourcePosition};
pub use self::message::{
    HEADER_NAME_MAX, HEADERS_MAX, HeaderName, HeaderValue, Headers, Message, MessageBuilder, MessageId,
};
pub use self::name::{
    BrokerName, Destination, JOINT, NAME_MAX, Namespace, QueueName, ReplyAddress, Source, SubscriptionName, TopicName,
    join,
};
pub use self::names::Names;
pub use self::outcome::Outcome;
pub use self::publisher::{NoSubscriber, PublishOptions, Publisher, PublisherExt, Receipt};
pub use self::repair::{Part, Redrive, Repair};
pub use self::requester::Requester;
pub use self::scope::Scope;
pub use self::settings::{Faults, Setting, Settings, flag_of, parse_duration, whole_of};
pub use self::settlement::{DeadLetter, DeadLetterReason, Settlement};
pub use self::subject::{SUBJECT_MAX, Subject, SubjectFilter};
pub use self::topology::{Declaration, Plan, PlanAction, PlanStep, Topology, TopologyMode};
pub use self::url::{BrokerUrl, Host};
