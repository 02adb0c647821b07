//! The memory broker with something in between, and its harness.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use adapter_memory::{Data, Link, MemoryServer, PublishFault};
use async_trait::async_trait;
use messaging_conformance::intercept::{Intercept, around};
use messaging_conformance::{About, Harness, Line, Power, Reality, Stage};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Destination, DestinationSettings, QueueName, Result,
    Settings, Source,
};
use parking_lot::Mutex;

/// What a mutant does besides stepping in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twist {
    None,
    /// The server forgets everything when it restarts.
    ForgetfulServer,
    /// After a cut a second consumer is registered beside the first.
    TwoAfterACut,
    /// Unknown settings are passed over.
    AnySetting,
    /// Destinations are not laid out for key order.
    NoLayout,
    /// The server takes no more than 1,000 bytes a message.
    SmallServer,
}

/// What the stage and the mutant's broker both know.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) server: MemoryServer,
    /// So many dead letters are to fail next.
    pub(crate) failing: AtomicU32,
    /// Consumers of queues that were opened.
    pub(crate) opened: Mutex<Vec<(Arc<dyn Broker>, QueueName)>>,
    extra: Mutex<Vec<Consumer>>,
}

/// Passes everything on.
#[derive(Debug)]
pub(crate) struct Faithful;

impl Intercept for Faithful {}

type Make = fn(&Arc<Shared>) -> Arc<dyn Intercept>;

pub(crate) struct Mutated {
    make: Make,
    twist: Twist,
}

impl Mutated {
    pub(crate) fn new(make: Make, twist: Twist) -> Self {
        Self { make, twist }
    }
}

struct MutatedStage {
    shared: Arc<Shared>,
    how: Arc<dyn Intercept>,
    twist: Twist,
}

impl fmt::Debug for MutatedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutatedStage").field("how", &self.how).finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for Mutated {
    fn about(&self) -> About {
        About { driver: "memory", option: "", version: String::new(), reality: Reality::Real }
    }

    fn powers(&self) -> &[Power] {
        &[
            Power::Restart,
            Power::Cut,
            Power::Line,
            Power::RemoveQueue,
            Power::LoseAnswers,
            Power::FailDeadLetters,
            Power::CountConsumers,
        ]
    }

    fn pinned(&self) -> &str {
        include_str!("../../../adapter-memory/tests/conformance/capabilities.txt")
    }

    fn absent(&self) -> Option<String> {
        None
    }

    async fn begin(&self, _needs: &[Power]) -> Result<Arc<dyn Stage>> {
        let shared = Arc::new(Shared {
            server: MemoryServer::private(),
            failing: AtomicU32::new(0),
            opened: Mutex::default(),
            extra: Mutex::default(),
        });
        Ok(Arc::new(MutatedStage { how: (self.make)(&shared), shared, twist: self.twist }))
    }
}

#[async_trait]
impl Stage for MutatedStage {
    fn options(&self) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse("memory://").unwrap())
    }

    async fn connect(&self, mut options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        match self.twist {
            Twist::AnySetting => options.settings = Settings::default(),
            Twist::NoLayout => {
                options.destinations.values_mut().for_each(|settings| *settings = DestinationSettings::default());
            }
            Twist::SmallServer => options.settings = Settings::new("here", [("message_bytes", "1000")]),
            _ => {}
        }
        let inner = self.shared.server.open(options)?;
        Ok(around(inner, Arc::clone(&self.how)))
    }

    async fn sweep(&self, _made: &[Destination]) -> Result<usize> {
        Ok(0)
    }

    async fn restart(&self, _how: Power) -> Result<()> {
        let data = if self.twist == Twist::ForgetfulServer { Data::Lose } else { Data::Keep };
        self.shared.server.restart(data);
        Ok(())
    }

    async fn cut(&self) -> Result<()> {
        self.shared.server.cut_consumers();
        if self.twist == Twist::TwoAfterACut {
            let opened = self.shared.opened.lock().clone();
            for (broker, queue) in opened {
                let second = broker.consume(&queue, ConsumeOptions::default()).await?;
                self.shared.extra.lock().push(second);
            }
        }
        Ok(())
    }

    async fn set_line(&self, line: Line) -> Result<()> {
        self.shared.server.set_link(match line {
            Line::Up | Line::Slow => Link::Up,
            Line::Down => Link::Down,
            Line::BlackHole => Link::BlackHole,
        });
        Ok(())
    }

    async fn remove_queue(&self, queue: &QueueName) -> Result<()> {
        self.shared.server.remove_queue(queue)
    }

    async fn lose_answers(&self, count: u32) -> Result<()> {
        self.shared.server.fail_publishes(count, PublishFault::AnswerLost);
        Ok(())
    }

    async fn fail_dead_letters(&self, source: &Source, failing: bool) -> Result<()> {
        let count = if failing { u32::MAX } else { 0 };
        self.shared.failing.store(count, Ordering::Release);
        self.shared.server.fail_dead_letters(source, count)
    }

    async fn consumers(&self, source: &Source) -> Result<usize> {
        self.shared.server.consumers(source)
    }
}
