//! The broker: one connection that opens publishers and consumers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::capabilities::{Capabilities, Feature, Place};
use crate::consume::{QueueConsumer, Subscriber};
use crate::consumer::DrainReport;
use crate::delivery::Delivery;
use crate::error::Result;
use crate::health::Health;
use crate::identity::Identity;
use crate::inbox::Inbox;
use crate::inspect::Inspect;
use crate::message::Message;
use crate::name::Destination;
use crate::publisher::{PublishOptions, Publisher};
use crate::repair::Repair;
use crate::requester::{Replies, Requester};
use crate::topology::{Declaration, Plan, PlanAction, Topology, TopologyMode};
use crate::undeclared::{Undeclared, undeclared};

/// An opened broker. Applications hold `Arc<dyn Broker>`, because configuration chooses which broker it is.
///
/// It is also a [`QueueConsumer`] and a [`Subscriber`], and can be passed on as either. Requests and applying a plan are methods
/// of `dyn Broker`, written once over what an adapter implements: [`requester`](#method.requester), [`apply`](#method.apply).
///
/// # Requirements on implementors
/// * Everything opened here recovers by itself when the connection is lost; `health` reports the truth meanwhile.
/// * `capabilities` does no I/O.
/// * Calls after `close` fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed); a receive that waits wakes.
/// * Capability checks, limits and the context of errors are added by the core: see [`Checked`](crate::spi::Checked). Refusals need no
///   code: the provided methods refuse what an adapter does not implement.
#[async_trait]
pub trait Broker: QueueConsumer + Subscriber + fmt::Debug {
    /// Name, driver and topology mode.
    fn identity(&self) -> &Identity;

    /// Capabilities of a place: of the broker itself, or of a destination with certain options.
    fn capabilities(&self, of: Place<'_>) -> Capabilities;

    /// Opens a publisher to a destination, creating or verifying it by the topology mode.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with every unmet need, before any I/O;
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) or [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) by the
    /// topology mode.
    async fn publisher(&self, destination: &Destination, options: PublishOptions) -> Result<Arc<dyn Publisher>>;

    /// State of the connection and of all that was opened on it.
    fn health(&self) -> Health;

    /// Stops all consumers, waits for the started deliveries until `by`, flushes and ends the connection. Closing twice is
    /// fine. Never takes longer than `by` allows, also when the broker is dead.
    async fn close(&self, by: Instant) -> DrainReport;

    /// Plans and makes destinations and subscriptions. By default every call is refused.
    fn topology(&self) -> &dyn Topology {
        &Undeclared
    }

    /// Reads depths, positions, waiting messages and dead letters. By default every call is refused.
    fn inspect(&self) -> &dyn Inspect {
        &Undeclared
    }

    /// Redrives, purges and ends subscriptions. By default every call is refused.
    fn repair(&self) -> &dyn Repair {
        &Undeclared
    }

    /// Opens an address at which replies arrive, and hands them to `inbox` until the returned handle is dropped or the broker
    /// is closed, which closes the inbox. Applications call [`requester`](#method.requester).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::RequestReply`].
    async fn replies(&self, inbox: Arc<Inbox>) -> Result<Arc<dyn Replies>> {
        let _ = inbox;
        Err(undeclared(Feature::RequestReply))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Transactions`].
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Err(undeclared(Feature::Transactions))
    }
}

impl dyn Broker {
    /// Opens a handle that sends requests and awaits their replies.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::RequestReply`].
    pub async fn requester(&self) -> Result<Requester> {
        let inbox = Arc::<Inbox>::default();
        Ok(Requester::new(self.replies(Arc::clone(&inbox)).await?, inbox))
    }

    /// Brings declarations onto the broker as far as its topology mode allows, and returns what was found. Nothing is ever
    /// deleted or changed.
    ///
    /// * [`TopologyMode::Create`]: plans, refuses if anything differs, and makes what is missing. The plan that is returned says
    ///   what was made.
    /// * [`TopologyMode::Verify`]: plans, and refuses if anything differs or is missing. Nothing is made.
    /// * [`TopologyMode::Assume`]: asks the broker nothing and makes nothing. The plan that is returned is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) or [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) as in
    /// [`Plan::check`], naming every fault: nothing was made then. Otherwise as for [`Topology::plan`] and
    /// [`Topology::create`].
    pub async fn apply(&self, declarations: &[Declaration]) -> Result<Plan> {
        let identity = self.identity();
        let mode = identity.topology_mode();
        if mode == TopologyMode::Assume {
            return Ok(Plan::default());
        }
        let plan = self.topology().plan(declarations).await?;
        plan.check(mode).map_err(|error| identity.scope("plan").explain(error))?;
        if mode == TopologyMode::Create && plan.steps.iter().any(|step| step.action == PlanAction::Create) {
            self.topology().create(declarations).await?;
        }
        Ok(plan)
    }
}

/// Sends and acknowledgements that happen together or not at all.
///
/// Dropping it, or a commit that fails, rolls back: the deliveries are retried. After a commit that was cancelled it is not
/// known which of the two happened.
#[async_trait]
pub trait Transaction: Send + fmt::Debug {
    /// Adds a message.
    ///
    /// # Errors
    /// As for a publish before anything is sent.
    fn send(&mut self, to: &Destination, message: Message) -> Result<()>;

    /// Adds an acknowledgement.
    fn ack(&mut self, delivery: Delivery);

    /// Makes all of it happen.
    ///
    /// # Errors
    /// [`ErrorKind::StaleDelivery`](crate::ErrorKind::StaleDelivery) if any delivery has moved on, and
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if a log broker would have to commit past a delivery that is not
    /// settled: nothing has happened then.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Makes none of it happen; the deliveries are retried.
    ///
    /// # Errors
    /// The reason for which the broker may not know of it.
    async fn rollback(self: Box<Self>) -> Result<()>;
}
