//! Planning, inspecting and repairing what is on a broker.

use std::fmt;

use async_trait::async_trait;

use crate::{
    Attempts, DeadLetter, Destination, Message, MessageId, Result, Source, Start, SubjectFilter, SubscriptionName,
    TopicName,
};

/// What to do about destinations that are missing or differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TopologyMode {
    /// Make what is missing; an existing one that differs is an error.
    #[default]
    Create,
    /// Make nothing; a missing or differing one is an error.
    Verify,
    /// Ask nothing; a missing one is found out by the first use.
    Assume,
}

/// Something that should be on the broker.
#[derive(Clone, Debug, PartialEq)]
pub enum Declaration {
    /// A queue or topic, with the settings the broker was opened with.
    Destination(Destination),
    /// A durable subscription.
    Subscription {
        /// Its topic.
        topic: TopicName,
        /// Its name.
        name: SubscriptionName,
        /// Where it begins if it is made now.
        start: Start,
        /// Which subjects it sees.
        filter: Option<SubjectFilter>,
    },
}

/// What applying a plan does about one declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// It is there as declared.
    Keep,
    /// It will be made.
    Create,
    /// It is there and differs: each difference with both values. Applying refuses and changes nothing.
    Differs(Vec<String>),
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// What is declared, in words.
    pub what: String,
    /// Its name at the broker.
    pub physical_name: String,
    /// What applying does about it.
    pub action: PlanAction,
}

/// What would be done to a broker. It reads as a list, one step a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in the order in which they are applied.
    pub steps: Vec<PlanStep>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PlanStep { what, physical_name, action } in &self.steps {
            match action {
                PlanAction::Keep => writeln!(f, "  keep    {what} as {physical_name}")?,
                PlanAction::Create => writeln!(f, "+ create  {what} as {physical_name}")?,
                PlanAction::Differs(differences) => {
                    writeln!(f, "! differs {what} as {physical_name}: {}", differences.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

/// How much is where. What a broker does not tell is `None`, never a made-up 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be delivered.
    pub ready: u64,
    /// Delivered and not settled.
    pub unsettled: Option<u64>,
    /// Waiting for a delay to pass, delayed retries included.
    pub delayed: Option<u64>,
    /// In the dead letter.
    pub dead: Option<u64>,
    /// The numbers are the broker's estimate.
    pub approximate: bool,
}

impl Depth {
    /// Everything that is known to be still to be settled: ready, unsettled and delayed.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.ready + self.unsettled.unwrap_or(0) + self.delayed.unwrap_or(0)
    }
}

/// Where a source stands in one partition of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// The partition; 0 where there is one.
    pub partition: u32,
    /// The offset delivered next.
    pub current: u64,
    /// The lowest offset not acknowledged: after a crash, delivery goes on from here.
    pub committed: u64,
    /// The offset the next published message gets.
    pub end: u64,
}

impl SourcePosition {
    /// How many messages are not acknowledged yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.end.saturating_sub(self.committed)
    }
}

/// A message that waits, as seen without consuming it.
#[derive(Clone, Debug)]
pub struct Browsed {
    /// The message.
    pub message: Message,
    /// How often it was delivered so far.
    pub attempts: u32,
}

/// Which dead letters to redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redrive {
    /// All there are now.
    All,
    /// The first so many.
    First(usize),
    /// Those of these ids.
    Ids(Vec<MessageId>),
}

/// Which part of a source is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What waits to be delivered.
    Live,
    /// The dead letter.
    Dead,
}

/// Planning, inspecting and repairing. Every call is cold.
#[async_trait]
pub trait Admin: Send + Sync {
    /// Says what would have to be done to have all declarations on the broker. Changes nothing.
    ///
    /// # Errors
    /// What kept the broker from answering.
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan>;

    /// Does what the plan says. Deletes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) if a step differs: nothing was changed then.
    async fn apply(&self, declarations: &[Declaration]) -> Result<Plan>;

    /// How much waits, is unsettled, delayed and dead.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Depth`](crate::Feature::Depth);
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn depth(&self, source: &Source) -> Result<Depth>;

    /// How many messages a source is behind: published and not acknowledged.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Lag`](crate::Feature::Lag);
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn lag(&self, source: &Source) -> Result<u64>;

    /// Current and committed positions, one for each partition.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Positions`](crate::Feature::Positions);
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>>;

    /// The first messages that wait, at most `max`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Browse`](crate::Feature::Browse);
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>>;

    /// The first dead letters of a source, at most `max`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::DeadLetter`](crate::Feature::DeadLetter);
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>>;

    /// Sends dead letters back to where they failed, and there alone; their attempts begin afresh. Returns how many.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Redrive`](crate::Feature::Redrive);
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64>;

    /// Deletes what waits, or the dead letters. What is unsettled stays. Returns how many, where the broker tells.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>>;

    /// Ends a durable subscription; what waited for it, its dead letters too, is deleted.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()>;
}

/// How attempts are counted, in words for reports.
impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FlagOnly => "flag only",
            Self::AtLeast => "at least",
            Self::Exact => "exact",
        })
    }
}
