//! What an adapter brings to the suite: a way to its broker, and powers over the broker where it has them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use messaging_core::{Broker, ConnectOptions, Destination, Error, ErrorKind, Message, QueueName, Result, Source};

/// What the harness can do to the broker besides using it. A case that needs a power the harness lacks is ignored, with
/// the reason, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Power {
    /// Stop the server in order and start it again, with the data its capabilities promise to keep.
    Restart,
    /// Kill the server (`SIGKILL`) and start it again.
    Kill,
    /// Close every connection of the brokers under test from the server's side; the server stays up.
    Cut,
    /// Take the line to the server down, let it swallow everything, and bring it up again.
    Line,
    /// Make the line slow.
    SlowLine,
    /// Delete a queue under whoever uses it.
    RemoveQueue,
    /// Let publishes be stored and their answers get lost.
    LoseAnswers,
    /// Let copies to the dead letter fail.
    FailDeadLetters,
    /// Say how many consumers the broker knows.
    CountConsumers,
    /// Publish and read with the broker's own client, without the adapter.
    RawClient,
    /// Reach the same broker from another process, which the suite can start and kill.
    Processes,
    /// Give addresses at which connecting has to fail.
    WrongAddresses,
    /// Kill the node that leads a destination in a cluster.
    LeaderLoss,
}

impl Power {
    /// What is missing without it, for the reason of an ignored case.
    #[must_use]
    pub const fn lacking(self) -> &'static str {
        match self {
            Self::Restart => "the harness cannot restart the server",
            Self::Kill => "the harness has no server process to kill",
            Self::Cut => "the harness cannot cut connections",
            Self::Line => "the harness cannot take the line down",
            Self::SlowLine => "the harness has no line to slow down",
            Self::RemoveQueue => "the harness cannot delete a queue at the server",
            Self::LoseAnswers => "the harness cannot lose the server's answers",
            Self::FailDeadLetters => "the harness cannot make the dead letter fail",
            Self::CountConsumers => "the harness cannot count the server's consumers",
            Self::RawClient => "the harness has no raw client",
            Self::Processes => "the broker cannot be reached from another process",
            Self::WrongAddresses => "the harness has no addresses that must fail",
            Self::LeaderLoss => "the harness has no cluster",
        }
    }
}

/// The line between the adapter and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It works.
    Up,
    /// Connections are refused and those that were there are closed.
    Down,
    /// Connections stay; nothing passes, nothing is answered.
    BlackHole,
    /// Everything passes, late and in small pieces.
    Slow,
}

/// Whether the broker is the real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reality {
    /// The broker itself.
    Real,
    /// Something that behaves like it, by this name.
    Emulator(&'static str),
}

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The driver's name, such as `rabbitmq`.
    pub driver: &'static str,
    /// The option that changes its capabilities, such as `quorum` or `fifo`; empty where there is none. Driver and option
    /// find the floor that the contract sets.
    pub option: &'static str,
    /// The broker's version.
    pub version: String,
    /// Whether it is the real one.
    pub reality: Reality,
}

/// An address at which connecting has to fail.
#[derive(Clone, Debug)]
pub struct WrongAddress {
    /// What is wrong with it, such as `closed port`.
    pub what: &'static str,
    /// How to connect there.
    pub options: ConnectOptions,
    /// The kinds of error that say so.
    pub kinds: Vec<ErrorKind>,
    /// Text that must not appear in the error, such as the password.
    pub secret: Option<&'static str>,
}

/// What a raw client saw of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawMessage {
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// Header names and values, unpacked as the adapter's wire format says.
    pub headers: Vec<(String, String)>,
    /// The id, where the wire format has a place for it.
    pub id: Option<String>,
}

/// What an adapter implements to run the suite.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// What is tested.
    fn about(&self) -> About;

    /// What the stage can do to the broker.
    fn powers(&self) -> &[Power];

    /// The adapter's answers, as `--capabilities` prints them: committed beside the harness, so that a change is a diff.
    fn pinned(&self) -> &str;

    /// Why there is no broker to test, if there is none: every case is ignored with this reason, or fails if the
    /// environment has `MESSAGING_REQUIRE_BROKERS=1`.
    fn absent(&self) -> Option<String>;

    /// Prepares for one case that needs these powers, on the runtime of that case. It may take its time, as for starting a
    /// server or waiting until another case is done with it: the limit of the case begins when this returns.
    async fn begin(&self, needs: &[Power]) -> Result<Arc<dyn Stage>>;
}

/// The broker during one case.
#[async_trait]
pub trait Stage: Send + Sync {
    /// How to connect: address, credentials and the settings under test. The suite adds names and topology.
    fn options(&self) -> ConnectOptions;

    /// Opens a broker handle with the core's checks around it, as [`Registry::connect`](messaging_core::Registry::connect)
    /// does.
    async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>>;

    /// Removes what the case made, and whatever belongs to it at the broker; returns how much was left over. Touches
    /// nothing else.
    async fn sweep(&self, made: &[Destination]) -> Result<usize>;

    /// [`Power::Restart`] or [`Power::Kill`]; returns when the server answers again.
    async fn restart(&self, how: Power) -> Result<()> {
        Err(missing(how))
    }

    /// [`Power::Cut`].
    async fn cut(&self) -> Result<()> {
        Err(missing(Power::Cut))
    }

    /// [`Power::Line`] or [`Power::SlowLine`].
    async fn set_line(&self, line: Line) -> Result<()> {
        let _ = line;
        Err(missing(Power::Line))
    }

    /// [`Power::RemoveQueue`].
    async fn remove_queue(&self, queue: &QueueName) -> Result<()> {
        let _ = queue;
        Err(missing(Power::RemoveQueue))
    }

    /// [`Power::LoseAnswers`]: of the next so many publishes.
    async fn lose_answers(&self, count: u32) -> Result<()> {
        let _ = count;
        Err(missing(Power::LoseAnswers))
    }

    /// [`Power::FailDeadLetters`]: those of a source, from now on until told otherwise.
    async fn fail_dead_letters(&self, source: &Source, failing: bool) -> Result<()> {
        let _ = (source, failing);
        Err(missing(Power::FailDeadLetters))
    }

    /// [`Power::CountConsumers`].
    async fn consumers(&self, source: &Source) -> Result<usize> {
        let _ = source;
        Err(missing(Power::CountConsumers))
    }

    /// [`Power::RawClient`]: publishes as someone else's program would, with nothing of the wire format in it.
    async fn publish_raw(&self, to: &Destination, payload: &[u8], header: (&str, &str)) -> Result<()> {
        let _ = (to, payload, header);
        Err(missing(Power::RawClient))
    }

    /// [`Power::RawClient`]: publishes something that the adapter cannot read at all, if the broker lets that happen.
    async fn publish_unreadable(&self, to: &Destination) -> Result<bool> {
        let _ = to;
        Err(missing(Power::RawClient))
    }

    /// [`Power::RawClient`]: takes the next message of a queue.
    async fn receive_raw(&self, queue: &QueueName, published: &Message) -> Result<RawMessage> {
        let _ = (queue, published);
        Err(missing(Power::RawClient))
    }

    /// [`Power::Processes`]: variables that lead a harness in another process to the broker of this stage.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// [`Power::WrongAddresses`].
    fn wrong_addresses(&self) -> Vec<WrongAddress> {
        Vec::new()
    }

    /// [`Power::LeaderLoss`]: of the node that leads a destination; brings it back after `down_for`.
    async fn lose_leader(&self, of: &Destination, down_for: Duration) -> Result<()> {
        let _ = (of, down_for);
        Err(missing(Power::LeaderLoss))
    }
}

fn missing(power: Power) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the harness claims the power {power:?}, and its stage does not implement it"),
    )
}
