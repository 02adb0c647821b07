//! Inspecting what is on a broker.

use async_trait::async_trait;

use crate::capabilities::Feature;
use crate::error::Result;
use crate::message::Message;
use crate::name::Source;
use crate::settlement::DeadLetter;
use crate::undeclared::undeclared;

/// Numbers of messages at a source. A number that the broker does not report is `None`, never a made-up 0.
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

/// Position of a source in one partition of a log.
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
    /// Number of messages that are not acknowledged yet.
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
    /// Number of its deliveries so far.
    pub attempts: u32,
}

/// Reads what a broker holds, without consuming it. Every call is cold.
///
/// Each method is optional: an adapter implements those whose feature it declares, and inherits a refusal for the others.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// Number of messages that wait, are unsettled, delayed and dead.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Depth`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn depth(&self, source: &Source) -> Result<Depth> {
        let _ = source;
        Err(undeclared(Feature::Depth))
    }

    /// Number of messages that a source is behind: published and not acknowledged. Unless an adapter knows better, all that
    /// is [open](Depth::open).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Lag`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn lag(&self, source: &Source) -> Result<u64> {
        Ok(self.depth(source).await?.open())
    }

    /// Current and committed positions, one for each partition.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Positions`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        let _ = source;
        Err(undeclared(Feature::Positions))
    }

    /// The first messages that wait, at most `max`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::Browse`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        let _ = (source, max);
        Err(undeclared(Feature::Browse))
    }

    /// The first dead letters of a source, at most `max`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without [`Feature::DeadLetter`];
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        let _ = (source, max);
        Err(undeclared(Feature::DeadLetter))
    }
}
