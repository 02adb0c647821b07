//! The conformance suite on the memory broker: in virtual time, and in real time with perturbed schedules on both runtimes.

use std::sync::Arc;
use std::time::Duration;

use adapter_memory::{Data, Link, MemoryServer, PublishFault};
use async_trait::async_trait;
use messaging_conformance::{About, Flavour, Harness, Line, Power, Reality, Running, Stage, conformance};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, Destination, QueueName, Result, Source};

struct Memory;

/// One server for each case, within the process.
struct MemoryStage(MemoryServer);

#[async_trait]
impl Harness for Memory {
    fn about(&self) -> About {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        About { driver: "memory", option: "", version, reality: Reality::Real }
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
        include_str!("conformance/capabilities.txt")
    }

    fn absent(&self) -> Option<String> {
        None
    }

    async fn begin(&self) -> Result<Arc<dyn Stage>> {
        Ok(Arc::new(MemoryStage(MemoryServer::private())))
    }
}

#[async_trait]
impl Stage for MemoryStage {
    fn options(&self) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse("memory://").unwrap())
    }

    async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        self.0.open(options)
    }

    async fn sweep(&self, _made: &[Destination]) -> Result<usize> {
        // The server goes with the case.
        Ok(0)
    }

    async fn restart(&self, _how: Power) -> Result<()> {
        self.0.restart(Data::Keep);
        Ok(())
    }

    async fn cut(&self) -> Result<()> {
        self.0.cut_consumers();
        Ok(())
    }

    async fn set_line(&self, line: Line) -> Result<()> {
        self.0.set_link(match line {
            Line::Up | Line::Slow => Link::Up,
            Line::Down => Link::Down,
            Line::BlackHole => Link::BlackHole,
        });
        Ok(())
    }

    async fn remove_queue(&self, queue: &QueueName) -> Result<()> {
        self.0.remove_queue(queue)
    }

    async fn lose_answers(&self, count: u32) -> Result<()> {
        self.0.fail_publishes(count, PublishFault::AnswerLost);
        Ok(())
    }

    async fn fail_dead_letters(&self, source: &Source, count: u32) -> Result<()> {
        self.0.fail_dead_letters(source, count)
    }

    async fn consumers(&self, source: &Source) -> Result<usize> {
        self.0.consumers(source)
    }
}

/// Virtual time first: it is done in seconds, and what it finds the others find too.
const RUNS: [Running; 3] = [
    Running { flavour: Flavour::VirtualTime, seed: None, limit: LIMIT },
    Running { flavour: Flavour::CurrentThread, seed: Some(0), limit: LIMIT },
    Running { flavour: Flavour::MultiThread, seed: Some(0), limit: LIMIT },
];

const LIMIT: Duration = Duration::from_secs(180);

conformance!(Memory, runs: RUNS);
