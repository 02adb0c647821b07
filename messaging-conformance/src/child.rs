//! A child process that publishes or consumes until it is killed: the test program runs itself again with a role.
//!
//! The harness in the child finds the broker by the variables that the parent's stage gave; parent and child talk through
//! the child's standard output, a line for each message.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use messaging_core::{ConsumeOptions, Destination, PublishOptions, PublisherExt, QueueName};
use parking_lot::Mutex;

use crate::verdict::{Stop, Verdict};
use crate::{Bench, Harness};

const ROLE: &str = "MESSAGING_CONFORMANCE_CHILD";
/// Begins a line with the text of a message. An adapter or a library may print lines of its own.
const TEXT: &str = "conformance-text ";
/// Begins a line with the error that ended the child.
const ERROR: &str = "conformance-error ";

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
    told: Arc<Mutex<Told>>,
    /// Ends with the child, whose end of the pipe closes.
    reader: Option<JoinHandle<()>>,
}

/// What a child said so far.
#[derive(Default)]
struct Told {
    texts: Vec<String>,
    error: Option<String>,
}

impl Child {
    /// Starts a child of a case.
    pub(crate) fn start(at: &Bench, role: Role, queue: &QueueName) -> Verdict<Self> {
        let program = std::env::current_exe().map_err(|error| Stop::failed(format_args!("no child: {error}")))?;
        let mut process = Command::new(program)
            .env(ROLE, format!("{} {}", role.name(), queue.as_str()))
            .envs(at.stage().environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| Stop::failed(format_args!("no child: {error}")))?;
        let told = Arc::<Mutex<Told>>::default();
        let reader = process.stdout.take().map(|output| {
            let told = Arc::clone(&told);
            std::thread::spawn(move || listen(output, &told))
        });
        Ok(Self { process, told, reader })
    }

    /// What it published or received so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.told.lock().texts.clone()
    }

    /// Waits until it has published or received so many. Fails at once if it ends before.
    pub(crate) async fn has_told(&mut self, at: &Bench, count: usize) -> Verdict {
        let enough = || self.told.lock().texts.len() >= count;
        let process = Mutex::new(&mut self.process);
        at.eventually(&format!("a child has published or received {count}"), || {
            let over = process.lock().try_wait();
            let reached = enough();
            async move {
                match over {
                    Ok(Some(status)) if !reached => Err(Stop::failed(format_args!("a child ended too soon: {status}"))),
                    _ => Ok(reached),
                }
            }
        })
        .await
        .map_err(|stop| self.with_its_error(stop))
    }

    /// Waits until it has died of a message that it received.
    pub(crate) async fn has_died(&mut self, at: &Bench) -> Verdict {
        let process = Mutex::new(&mut self.process);
        at.eventually("a child dies of the message", || {
            let over = matches!(process.lock().try_wait(), Ok(Some(_)));
            async move { Ok(over) }
        })
        .await
        .map_err(|stop| self.with_its_error(stop))?;
        self.kill();
        if self.texts().is_empty() {
            return Err(self.with_its_error(Stop::failed("a child ended and had received nothing to die of")));
        }
        Ok(())
    }

    /// Kills it at once, without a chance to say goodbye; what it had said by then is known when this returns.
    pub(crate) fn kill(&mut self) {
        // It may be dead already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            // A panic there would be a defect of this file; what it noted is kept all the same.
            let _ = reader.join();
        }
    }

    fn with_its_error(&self, stop: Stop) -> Stop {
        match (&self.told.lock().error, stop) {
            (Some(error), Stop::Failed(text)) => Stop::Failed(format!("{text}; the child said: {error}")),
            (_, stop) => stop,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Notes what a child says, line by line.
fn listen(output: ChildStdout, told: &Mutex<Told>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some(text) = line.strip_prefix(TEXT) {
            told.lock().texts.push(text.to_owned());
        } else if let Some(error) = line.strip_prefix(ERROR) {
            told.lock().error = Some(error.to_owned());
        }
    }
}

/// Acts as a child if the environment says so.
pub(crate) fn run_if_asked(harness: &Arc<dyn Harness>) -> Option<ExitCode> {
    let task = std::env::var(ROLE).ok()?;
    Some(match play(harness, &task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(ERROR, &error);
            ExitCode::FAILURE
        }
    })
}

fn play(harness: &Arc<dyn Harness>, task: &str) -> Result<(), String> {
    let unknown = || format!("{ROLE} is {task:?}: it has to be a role and a queue");
    let (word, queue) = task.split_once(' ').ok_or_else(unknown)?;
    let (_, role) = Role::ALL.iter().find(|(name, _)| *name == word).ok_or_else(unknown)?;
    let queue = QueueName::parse(queue).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime for a child: {error}"))?;
    runtime.block_on(act(harness, *role, queue)).map_err(|error| error.chain().join(": "))
}

async fn act(harness: &Arc<dyn Harness>, role: Role, queue: QueueName) -> messaging_core::Result<()> {
    let stage = harness.begin(&[]).await?;
    let broker = stage.connect(stage.options()).await?;
    if role == Role::Publish {
        let publisher = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
        for number in 0_u64.. {
            publisher.publish(number.to_string()).await?;
            tell(TEXT, &number.to_string());
        }
        return Ok(());
    }
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let mut held = Vec::new();
    while let Some(delivery) = consumer.next().await? {
        tell(TEXT, &crate::text(&delivery));
        if role == Role::Die {
            // No destructor runs: as a crash in a C library would end it.
            std::process::abort();
        }
        held.push(delivery);
    }
    Ok(())
}

fn tell(what: &str, text: &str) {
    let mut output = std::io::stdout().lock();
    // One write of a whole line, so that a kill leaves no half of one. If the parent is gone, there is nobody to tell.
    let _ = output.write_all(format!("{what}{}\n", text.replace('\n', " ")).as_bytes()).and_then(|()| output.flush());
}
