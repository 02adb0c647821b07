//! Messaging over any broker: queues, topics, and listeners that lose nothing by saying nothing.
//!
//! An application says what it means in words that hold on every broker, and a configuration says which broker that is.
//! Where a broker cannot keep a promise, the application does not start; nothing is degraded silently.
//!
//! # A first listener
//!
//! ```
//! use messaging::{App, HandlerError, Json, Listen};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order {
//!     id: u32,
//! }
//!
//! async fn handle_order(Json(order): Json<Order>) -> Result<(), HandlerError> {
//!     println!("order {}", order.id);
//!     Ok(())
//! }
//!
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> messaging::Result<()> {
//! // A broker in this process; `App::with_config` takes any other.
//! let mut app = App::new().listen(Listen::queue("orders").concurrency(4), handle_order);
//! let orders = app.publisher("orders");
//! let running = app.start().await?;
//!
//! orders.publish(Json(Order { id: 7 }).into_message()?.build()?).await?;
//! # while running.ledger().total().acked < 1 {
//! #     tokio::task::yield_now().await;
//! # }
//!
//! let report = running.shutdown().await?;
//! assert_eq!(report.ledger.total().acked, 1);
//! # Ok(())
//! # }
//! ```
//!
//! With the attribute [`listener`] the declaration stands above the function, as `#[listener(queue = "orders",
//! concurrency = 4)]`, and [`App::mount`] takes `listeners![handle_order]`. It is sugar: everything can be written by hand.
//!
//! # Queue, topic, subscription
//!
//! A **queue** is point-to-point: each message is settled by exactly one of the consumers that compete for it. It waits
//! there until someone consumes it.
//!
//! A **topic** is publish-subscribe: each message reaches every *subscription*. A **durable** subscription has a name;
//! messages wait for it while it is away, and several members share it like a queue. An **ephemeral** one has no name and
//! sees only what is published while it is attached.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! use messaging::{App, DeadLetterPolicy, Listen, State};
//!
//! /// How many messages a listener saw, by its position below.
//! type Seen = Arc<[AtomicU32; 3]>;
//!
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> messaging::Result<()> {
//! let seen = Seen::default();
//! let count = |index: usize| {
//!     move |State(seen): State<Seen>| async move {
//!         seen[index].fetch_add(1, Ordering::Relaxed);
//!     }
//! };
//! let ticker = Listen::topic("weather").ephemeral().dead_letter(DeadLetterPolicy::Discard);
//! let mut app = App::new()
//!     .state(seen.clone())
//!     // Two groups, each of which gets everything; within a group the work is shared.
//!     .listen(Listen::topic("weather").subscription("archive").concurrency(2), count(0))
//!     .listen(Listen::topic("weather").subscription("alarms"), count(1))
//!     .listen(ticker, count(2));
//! let weather = app.publisher("weather");
//! let running = app.start().await?;
//! for report in ["sun", "rain", "snow"] {
//!     weather.publish(report).await?;
//! }
//! # while running.ledger().total().acked < 9 {
//! #     tokio::task::yield_now().await;
//! # }
//! for listener in &*seen {
//!     assert_eq!(listener.load(Ordering::Relaxed), 3);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Delivery and settlement
//!
//! A **delivery** is one attempt to hand a message to a consumer, and ends in exactly one **settlement**:
//!
//! | settlement | what becomes of the message | a listener does so |
//! |---|---|---|
//! | ack | done | when the handler returns `Ok` or `()` |
//! | retry | delivered again after a wait; counts as an attempt | when it returns an error, panics or runs out of time |
//! | dead letter | moved to the dead letter of its queue or subscription, with the reason | after the last attempt; at once when it cannot be decoded, or the handler [rejects](HandlerError::reject) it |
//! | release | given back unstarted; does not count, where the broker allows | when the application stops |
//!
//! Queues and durable subscriptions deliver *at least once*: after a crash a message may come again, and a handler should
//! bear that. Nothing claims more. A failing message is tried five times, 200 ms doubling to 30 s apart, unless [`Retry`]
//! says otherwise; [`HandlerError`] can choose the wait or reject for good; with [`AckMode::Manual`] the handler settles
//! by itself, with [`Settle`].
//!
//! ```
//! use messaging::{App, Attempt, HandlerError, Listen, Redrive, Retry, Source, QueueName};
//! # use std::time::Duration;
//!
//! /// Pays only when the bank is open, which it is from the third attempt on.
//! async fn pay(Attempt(attempt): Attempt) -> Result<(), HandlerError> {
//!     if attempt < 3 { Err(HandlerError::new("the bank is closed")) } else { Ok(()) }
//! }
//!
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> messaging::Result<()> {
//! let impatient = Listen::queue("payments").retry(Retry::default().attempts(2));
//! let mut app = App::new().listen(impatient, pay);
//! let payments = app.publisher("payments");
//! let running = app.start().await?;
//! payments.publish("50 EUR").await?;
//! # while running.ledger().total().dead_lettered < 1 {
//! #     tokio::time::sleep(Duration::from_millis(1)).await;
//! # }
//!
//! // After two attempts it lies in the queue's own dead letter, as it was, with the reason.
//! let broker = running.broker("main")?;
//! let queue = Source::Queue(QueueName::parse("payments")?);
//! let dead = broker.inspect().dead_letters(&queue, 10).await?;
//! assert_eq!(dead[0].reason.errors, ["the bank is closed"]);
//!
//! // Redrive sends it back to where it failed; its attempts begin afresh.
//! assert_eq!(broker.repair().redrive(&queue, Redrive::All).await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//!
//! Competing consumers keep no order. Messages that have a **key** can be handled in the order of that key:
//! [`Listen::order_by`] with [`Order::ByKey`]. Then a key's next message is handed out after the one before is settled,
//! whatever the concurrency; while one waits for its retry, those of its key behind it wait too
//! ([`RetryMode::Hold`]), and other keys go on.
//!
//! # Handlers and what they take
//!
//! A handler is an async function of up to eight [extractors](extract): [`Json`], [`Payload`], [`Bytes`],
//! [`Message`], [`Headers`], [`Header`], [`Attempt`], [`State`], [`Publishers`], [`Settle`], or a type of one's own that
//! implements [`FromDelivery`]. It returns `()` or `Result<(), E>` for any error. Middleware is [`tower::Layer`]:
//! [`App::layer`] around every listener, [`Listener::layered`] around one, without a boxed future.
//!
//! # Configuration
//!
//! The name in [`Listen::queue`] is a *binding*. Without `[bindings]` it is the destination of that name; with them the
//! configuration maps it to a queue or topic on one of several brokers, and may make a queue's listener a member of a topic's
//! subscription without touching the code. `[listeners.<id>]` overrides everything that [`Listen`] says. See [`config`].
//!
//! ```
//! use messaging::{App, Config, Listen};
//!
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> messaging::Result<()> {
//! let config = Config::from_toml(
//!     r#"
//!     [brokers.main]
//!     url = "memory://shop"
//!
//!     [bindings.orders]
//!     topic = "orders"
//!     subscription = "billing"
//!
//!     [listeners.bill]
//!     concurrency = 8
//!     retry = { attempts = 10 }
//!     "#,
//! )?;
//! async fn bill() {}
//!
//! let running = App::with_config(config).listen(Listen::queue("orders").id("bill"), bill).start().await?;
//! # running.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is known at any time
//!
//! [`RunningApp::ledger`] says where every received delivery ended: `received = acked + retried + released +
//! dead-lettered + discarded + expired + stale + in flight`. [`RunningApp::health`] says how brokers and listeners are.
//! [`RunningApp::shutdown`], and [`App::run`] at Ctrl-C or SIGTERM, stop taking deliveries, let the started ones finish for
//! 30 s, give back the rest, and report the counts. Retries and dead letters are told through `tracing`.
//!
//! # Without the runtime
//!
//! [`connect`] opens a broker, [`Broker`] opens publishers and consumers, and everything above can be done by hand.
//!
//! ```
//! use messaging::{ConsumeOptions, Destination, PublishOptions, PublisherExt, QueueName};
//!
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> messaging::Result<()> {
//! let broker = messaging::connect("memory://").await?;
//! let publisher = broker.publisher(&Destination::queue("orders")?, PublishOptions::default()).await?;
//! publisher.publish("an order").await?;
//!
//! let mut consumer = broker.consume(&QueueName::parse("orders")?, ConsumeOptions::default()).await?;
//! if let Some(delivery) = consumer.next().await? {
//!     assert_eq!(delivery.message().payload(), "an order");
//!     delivery.ack().await?;
//! }
//! # Ok(())
//! # }
//! ```

mod app;
pub mod codec;
pub mod config;
mod drivers;
pub mod extract;

pub use bytes::Bytes;
pub use messaging_core::{
    Acked, Attempts, Broker, BrokerName, BrokerUrl, Browsed, Browsing, Capabilities, ConnectOptions, ConsumeOptions,
    Consumer, Control, DeadLetter, DeadLetterReason, Declaration, Delivery, Depth, Destination, DestinationSettings,
    DrainReport, Driver, Durability, Error, ErrorKind, ErrorOutcome, Event, Expired, Feature, Filtering, Flow,
    HeaderName, HeaderValue, Headers, Health, HealthState, Host, Identity, Inspect, Lease, Limits, Message,
    MessageBuilder, MessageId, Namespace, Need, NoSubscriber, Order, Outcome, Part, Place, Plan, PlanAction, PlanStep,
    Position, PublishDedup, PublishOptions, Publisher, PublisherExt, QueueConsumer, QueueName, Readiness, Receipt,
    Received, Redrive, Registry, Repair, ReplyAddress, Requester, Requirements, Result, RetryMode, RetryPlace, Scope,
    Settings, Settlement, SettlementTiming, Source, SourcePosition, StaleDetection, Start, Subject, SubjectFilter,
    SubscribeOptions, Subscriber, SubscriptionName, Support, TopicName, Topology, TopologyMode, Transaction,
    capabilities, parse_duration,
};
#[cfg(feature = "macros")]
pub use messaging_macros::{listener, listeners};

pub use self::app::*;
pub use self::codec::{Codec, Codecs, Json, Named};
pub use self::config::{Binding, Config, ConfigBuilder, ListenerConfig, RetryConfig, UsedAs};
pub use self::drivers::{connect, drivers};
pub use self::extract::{Attempt, FromDelivery, Header, Incoming, NamedHeader, Payload, Settle, State};

/// The repository's README: its example compiles.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../README.md")]
mod readme {}
