//! The kinds of broker, and what can be done to each.

use async_trait::async_trait;
use integration_tests::Result;
use messaging_conformance::history::Mark;

use crate::address::Address;

/// What happens to a broker or to the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server gets SIGKILL, and is started again on its data.
    Killed,
    /// The server stands still (SIGSTOP) and goes on.
    Paused,
    /// Every connection is reset; new ones are welcome.
    Cut,
    /// Connections stay, nothing passes.
    BlackHole,
    /// What is sent arrives, no answer does.
    AnswersLost,
    /// Each byte arrives 100 ms later, at 2 MB a second.
    Slow,
    /// The server closes every connection, as an administrator asked it to.
    Closed,
    /// The node that leads the queue or topic gets SIGKILL; it is started again once another leads.
    LeaderKilled,
    /// The node that leads the queue or topic stands still.
    LeaderPaused,
    /// The node that coordinates the consumers' group gets SIGKILL; it is started again once another does.
    CoordinatorKilled,
}

/// A kind of broker for the scenarios that all kinds share.
#[async_trait]
pub(crate) trait Stage: Send + Sync {
    /// The name in the lines.
    fn name(&self) -> String;

    /// A fresh queue, by the way that faults stand in.
    fn queue(&self) -> Address;

    /// The same place by a way that no fault of the network stands in.
    fn beside(&self, at: &Address) -> Address;

    /// Lets the fault come; returns when it is on.
    async fn begin(&self, fault: Fault, at: &Address) -> Result<()>;

    /// Ends it; returns when the broker answers.
    async fn end(&self, fault: Fault, at: &Address) -> Result<()>;

    /// Makes whole what the fault left broken though the broker answers.
    async fn repair(&self) -> Result<()> {
        Ok(())
    }

    /// How many consumers the broker knows at a queue; none where it does not tell.
    async fn consumers(&self, at: &Address) -> Result<Option<usize>>;

    /// The messages that a log broker will not deliver again, by its own committed offsets: none may be unsettled. None where
    /// the broker keeps no log.
    async fn committed(&self, _at: &Address) -> Result<Option<Vec<Mark>>> {
        Ok(None)
    }

    /// Deletes the queue or topic under whoever uses it.
    async fn delete(&self, at: &Address) -> Result<()>;
}
