//! The contract of a broker-agnostic messaging abstraction. Knows no broker.
//!
//! Applications depend on the crate `messaging`, which re-exports all of this; adapters depend on this crate alone.
//!
//! * [`Broker`] opens everything from one connection; [`Publisher`], [`QueueConsumer`] and [`Subscriber`] are the three
//!   traits an application is written against; [`Topology`] plans and makes, [`Inspect`] reads, [`Repair`] redrives and purges.
//! * [`Message`] is what is published, [`Delivery`] one attempt to hand it to a consumer, ended by exactly one
//!   [`Settlement`].
//! * [`Capabilities`] say what a broker can do for a destination with certain options; [`Requirements`] are checked against
//!   them before a message moves. [`Checked`] does so around every adapter.
//! * [`Driver`] is an adapter's entry, [`Registry`] chooses one by the scheme of a [`BrokerUrl`].
//! * Adapters implement [`Publisher`], [`Deliveries`] and [`Settler`] on the hot path, all without a boxed future: see
//!   [`Outcome`], [`Tickets`] and [`InFlight`].

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

pub use self::broker::{Broker, Transaction};
pub use self::capabilities::{
    Attempts, Browsing, Capabilities, Expired, Feature, Filtering, Limits, Need, Place, PublishDedup, Readiness,
    Requirements, RetryPlace, SettlementTiming, StaleDetection, Support,
};
pub use self::checked::Checked;
pub use self::consume::{
    ConsumeOptions, Durability, Lease, Order, QueueConsumer, RetryMode, Start, SubscribeOptions, Subscriber,
};
pub use self::consumer::{Consumer, Control, Deliveries, DrainReport, Event, Flow, Received};
pub use self::delivery::{Acked, Delivery, Position, Settler, Unsettled};
pub use self::destinations::Destinations;
pub use self::driver::{ConnectOptions, Connecting, DestinationSettings, Driver, Registry};
pub use self::error::{Error, ErrorKind, ErrorOutcome, Result};
pub use self::health::{Health, HealthState};
pub use self::identity::Identity;
pub use self::in_flight::{IN_FLIGHT_MAX, InFlight, Permit};
pub use self::inbox::Inbox;
pub use self::inspect::{Browsed, Depth, Inspect, SourcePosition};
pub use self::message::{
    HEADER_NAME_MAX, HEADERS_MAX, HeaderName, HeaderValue, Headers, Message, MessageBuilder, MessageId, ReceivedMessage,
};
pub use self::name::{
    BrokerName, Destination, JOINT, NAME_MAX, Namespace, QueueName, ReplyAddress, Source, SubscriptionName, TopicName,
    join,
};
pub use self::names::Names;
pub use self::outcome::{Answers, Outcome, Tickets, TicketsOwner};
pub use self::publisher::{NoSubscriber, PublishOptions, Publisher, PublisherCore, PublisherExt, Receipt};
pub use self::repair::{Part, Redrive, Repair};
pub use self::requester::{REQUEST_PUBLISHERS_MAX, Replies, Requester};
pub use self::scope::Scope;
pub use self::settings::{Settings, parse_duration};
pub use self::settlement::{DeadLetter, DeadLetterReason, Settlement};
pub use self::subject::{SUBJECT_MAX, Subject, SubjectFilter};
pub use self::topology::{Declaration, Plan, PlanAction, PlanStep, Topology, TopologyMode};
pub use self::undeclared::undeclared;
pub use self::url::{BrokerUrl, Host};
