//! A child process that publishes or consumes until it is killed: the test program runs itself again with a role.
//!
//! The harness in the child finds the broker by the variables that the parent's stage gave; parent and child talk through
//! the child's standard output, a line for each message.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use messaging_core::{ConsumeOptions, Destination, PublishOptions, PublisherExt, QueueName};
use parking_lot::Mutex;

use crate::verdict::{Stop, Verdict};
use crate::{Bench, Harness};

const ROLE: &str = "MESSAGING_CONFORMANCE_CHILD";

/// What a child does until it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Publishes numbers, one at a time, and prints each once it is confirmed.
    Publish,
    /// Holds what it receives, and prints each.
    Hold,
    /// Dies by its own hand over each delivery, after printing it.
    Die,
}

impl Role {
    const ALL: [(&'static str, Self); 3] = [("publish", Self::Publish), ("hold", Self::Hold), ("die", Self::Die)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, role)| *role == self).map_or("", |(name, _)| name)
    }
}

/// A child process; killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Child {
    /// Starts a child of a case.
    pub(crate) fn start(at: &Bench, role: Role, queue: &QueueName) -> Verdict<Self> {
        let program = std::env::current_exe().map_err(|error| Stop::failed(format_args!("no child: {error}")))?;
        let variables: BTreeMap<String, String> = at.stage().environment().into_iter().collect();
        let mut process = Command::new(program)
            .env(ROLE, format!("{} {}", role.name(), queue.as_str()))
            .envs(variables)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| Stop::failed(format_args!("no child: {error}")))?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        if let Some(output) = process.stdout.take() {
            let lines = Arc::clone(&lines);
            // Ends with the child, whose end of the pipe closes.
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.lock().push(line);
                }
            });
        }
        Ok(Self { process, lines })
    }

    /// What it printed so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }

    /// Kills it at once, without a chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        // It may be dead already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Acts as a child if the environment says so.
pub(crate) fn run_if_asked(harness: &Arc<dyn Harness>) -> Option<ExitCode> {
    let task = std::env::var(ROLE).ok()?;
    let (word, queue) = task.split_once(' ')?;
    let (_, role) = Role::ALL.iter().find(|(name, _)| *name == word)?;
    let queue = QueueName::parse(queue).ok()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().ok()?;
    Some(match runtime.block_on(act(harness, *role, queue)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error {error}"));
            ExitCode::FAILURE
        }
    })
}

async fn act(harness: &Arc<dyn Harness>, role: Role, queue: QueueName) -> messaging_core::Result<()> {
    let stage = harness.begin().await?;
    let broker = stage.connect(stage.options()).await?;
    if role == Role::Publish {
        let publisher = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
        for number in 0_u64.. {
            publisher.publish(number.to_string()).await?;
            tell(&number.to_string());
        }
        return Ok(());
    }
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let mut held = Vec::new();
    while let Some(delivery) = consumer.next().await? {
        tell(&crate::text(&delivery));
        if role == Role::Die {
            // No destructor runs: as a crash in a C library would end it.
            std::process::abort();
        }
        held.push(delivery);
    }
    Ok(())
}

fn tell(line: &str) {
    let mut output = std::io::stdout().lock();
    // If the parent is gone, there is nobody to tell.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}
