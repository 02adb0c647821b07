//! The conformance suite on the memory broker: in virtual time, and in real time with perturbed schedules on both runtimes.

#![allow(clippy::unwrap_used, reason = "a test program")]

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

    async fn begin(&self, _needs: &[Power]) -> Result<Arc<dyn Stage>> {
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

    async fn fail_dead_letters(&self, source: &Source, failing: bool) -> Result<()> {
        self.0.fail_dead_letters(source, if failing { u32::MAX } else { 0 })
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

/// What cannot be tried on a broker within the process. A change of this list is a diff.
const IGNORED: &[(&str, &str)] = &[
    ("P1_ok_means_accepted", NO_PROCESS),
    ("R1_a_killed_consumer_hands_over", NO_PROCESS),
    ("D9_a_killer_message_is_counted", NO_PROCESS),
    ("X6_consumers_killed_at_random", NO_PROCESS),
    ("X1_server_killed_and_started", "it has no process of its own, and no disk"),
    ("D6_unreadable_is_dead_lettered", NO_WIRE),
    ("H7_a_raw_client_understands", NO_WIRE),
    ("X3_slow_line", "there is no network"),
    ("E2_wrong_addresses", "there is no network"),
    ("X7_leader_lost", "there is one node"),
];

const NO_PROCESS: &str = "another process cannot reach it";
const NO_WIRE: &str = "there is no wire format, and no other client";

conformance!(Memory, runs: RUNS, ignored: IGNORED);
