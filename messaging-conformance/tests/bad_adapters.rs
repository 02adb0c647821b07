//! Bad adapters get good messages: what they do is told as what it is, by the case's name, and the other cases go on.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::sync::Arc;
use std::time::Duration;

use adapter_memory::MemoryServer;
use async_trait::async_trait;
use messaging_conformance::intercept::{Intercept, around};
use messaging_conformance::{
    About, Ending, Flavour, Harness, Power, Reality, Record, Running, Stage, all_cases, run_case,
};
use messaging_core::spi::Permit;
use messaging_core::{
    Broker, BrokerUrl, Capabilities, ConnectOptions, Destination, Message, Outcome, Place, Publisher, Receipt, Result,
};

/// What is bad about an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Nothing,
    HangsInConnect,
    BlocksItsThread,
    PanicsInPublish,
    PanicsInATask,
    DeclaresNonsense,
    IsNotThere,
}

#[async_trait]
impl Harness for Bad {
    fn about(&self) -> About {
        About { driver: "memory", option: "", version: String::new(), reality: Reality::Real }
    }

    fn powers(&self) -> &[Power] {
        &[]
    }

    fn pinned(&self) -> &str {
        include_str!("../../adapter-memory/tests/conformance/capabilities.txt")
    }

    fn absent(&self) -> Option<String> {
        (*self == Self::IsNotThere).then(|| "nobody answers at port 1".to_owned())
    }

    async fn begin(&self, _needs: &[Power]) -> Result<Arc<dyn Stage>> {
        Ok(Arc::new(BadStage(*self, MemoryServer::private())))
    }
}

struct BadStage(Bad, MemoryServer);

#[async_trait]
impl Stage for BadStage {
    fn options(&self) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse("memory://").unwrap())
    }

    async fn connect(&self, options: ConnectOptions) -> Result<Arc<dyn Broker>> {
        match self.0 {
            Bad::HangsInConnect => std::future::pending().await,
            Bad::BlocksItsThread => std::thread::sleep(Duration::from_secs(600)),
            _ => {}
        }
        Ok(around(self.1.open(options)?, Arc::new(self.0)))
    }

    async fn sweep(&self, _made: &[Destination]) -> Result<usize> {
        Ok(0)
    }
}

impl Intercept for Bad {
    fn send(&self, to: &Arc<dyn Publisher>, message: Message, permit: Permit) -> Outcome<Receipt> {
        self.send_many(to, vec![message], permit).remove(0)
    }

    fn send_many(&self, to: &Arc<dyn Publisher>, messages: Vec<Message>, permit: Permit) -> Vec<Outcome<Receipt>> {
        match self {
            Self::PanicsInPublish => panic!("index out of bounds, somewhere deep"),
            Self::PanicsInATask => drop(tokio::spawn(async { panic!("the reader's task fell over") })),
            _ => {}
        }
        to.send_many(messages, permit)
    }

    fn capabilities(&self, mut truth: Capabilities, _of: Place<'_>) -> Capabilities {
        if *self == Self::DeclaresNonsense {
            truth.limits.message_bytes = 0;
        }
        truth
    }
}

fn run(bad: Bad, name: &str, limit: Duration) -> Record {
    let case = all_cases().find(|case| case.name == name).unwrap();
    let harness: Arc<dyn Harness> = Arc::new(bad);
    run_case(&harness, case, Running { flavour: Flavour::VirtualTime, seed: None, limit })
}

fn failure(bad: Bad, name: &str) -> String {
    match run(bad, name, Duration::from_secs(3)).ending {
        Ending::Failed(text) => text,
        other => panic!("{bad:?} came to {other:?}"),
    }
}

const CASE: &str = "Q3_backlog_waits_for_the_first_consumer";

#[test]
fn hanging_in_connect_is_told() {
    let told = failure(Bad::HangsInConnect, CASE);
    assert!(told.contains("hung in `connect`"), "{told}");
}

#[test]
fn a_blocked_thread_is_told_and_the_others_go_on() {
    let told = failure(Bad::BlocksItsThread, CASE);
    assert!(told.contains("hangs") && told.contains("blocks its thread"), "{told}");
    assert_eq!(run(Bad::Nothing, CASE, Duration::from_secs(30)).ending, Ending::Proved);
}

#[test]
fn a_panic_in_publish_is_told() {
    let told = failure(Bad::PanicsInPublish, CASE);
    assert!(told.contains("panicked: index out of bounds, somewhere deep"), "{told}");
}

#[test]
fn a_panic_in_a_task_that_nobody_awaits_is_told() {
    let told = failure(Bad::PanicsInATask, CASE);
    assert!(told.contains("the reader's task fell over"), "{told}");
}

#[test]
fn nonsense_in_the_capabilities_is_told() {
    let told = failure(Bad::DeclaresNonsense, "K4_answers_are_pinned");
    assert!(told.contains("nonsense") && told.contains("0 bytes"), "{told}");
}

#[test]
fn a_missing_broker_is_ignored_with_the_reason() {
    // Whether it has to be a failure is the environment's to say.
    let required = std::env::var("MESSAGING_REQUIRE_BROKERS").is_ok_and(|value| value == "1");
    match run(Bad::IsNotThere, CASE, Duration::from_secs(3)).ending {
        Ending::Ignored(reason) if !required => assert!(reason.contains("nobody answers at port 1"), "{reason}"),
        Ending::Failed(text) if required => assert!(text.contains("nobody answers at port 1"), "{text}"),
        other => panic!("{other:?}"),
    }
}
