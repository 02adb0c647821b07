//! A message that kills every process that handles it.

use std::{sync::Arc, time::Duration};

use integration_tests::child::{Child, Event, Role};
use messaging::{App, Attempt, Config, Listen, Message, PublishOptions, PublisherExt, Retry, State};

use crate::{address::Address, harness::Verdict, members::Part, shared::close, stage::Stage};

/// A process with a listener whose handler kills it.
pub(crate) const VICTIM: &str = "victim";

/// What the listener gives a message.
const ATTEMPTS: u32 = 3;

/// A process may die unseen, before its first word to the broker: one death more than there are attempts.
const DEATHS: usize = ATTEMPTS as usize + 1;

/// Each death is counted but the first: after three of them the attempt is the third at least, and the process that comes after a
/// listener's last attempt does not call the handler, but dead-letters the message and lives.
pub(crate) async fn ends(stage: &dyn Stage) -> Verdict {
    let at = stage.queue();
    let broker = at.open().await?;
    let publisher = broker.publisher(&at.destination()?, PublishOptions::default()).await?;
    publisher.publish(Message::new("killer")).await?;

    let mut attempts = Vec::new();
    loop {
        let victim = Child::start(VICTIM, &Part::of(&at))?;
        // A dead member keeps its partitions until its session ends.
        let status = victim.ended(Duration::from_secs(40)).await?;
        let notes = victim.history()?.into_iter().filter_map(|entry| match entry.event {
            Event::Note(attempt) => attempt.parse::<u32>().ok(),
            _ => None,
        });
        let seen: Vec<_> = notes.collect();
        if status.success() && seen.is_empty() {
            break;
        }
        attempts.extend(seen);
        if status.success() || attempts.len() > DEATHS {
            let said = std::fs::read_to_string(victim.output_file()).unwrap_or_default();
            return Err(format!("attempts {attempts:?}, and the last ended with {status}: {said}").into());
        }
    }
    let dead = broker.inspect().depth(&at.source()?).await?.dead;
    close(&*broker).await?;
    tell(&format!("fault {} a killer message: attempts {attempts:?}, then {dead:?} in the dead letter", stage.name()));

    let is_counted = attempts.get(ATTEMPTS as usize).is_none_or(|attempt| *attempt >= ATTEMPTS);
    if attempts.len() < ATTEMPTS as usize || !is_counted || dead != Some(1) {
        return Err(format!("attempts {attempts:?} of {ATTEMPTS}, then {dead:?} in the dead letter").into());
    }
    Ok(())
}

/// Listens until the message kills this process, or was dead-lettered without the handler.
pub(crate) async fn play(role: Role, at: &Address) -> Verdict {
    let config = Config::builder().set("brokers.main.url", &at.url).set("bindings.deadly.queue", &at.name).build()?;
    let listen = Listen::queue("deadly").retry(Retry::default().attempts(ATTEMPTS));
    let running = App::with_config(config).state(Arc::new(role)).listen(listen, die).start().await?;
    while running.ledger().total().dead_lettered == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.shutdown().await?;
    Ok(())
}

async fn die(Attempt(attempt): Attempt, State(role): State<Arc<Role>>) {
    // If it cannot be written down, the run fails for want of it.
    let _ = role.history().note(attempt.to_string());
    // No destructor runs: as a crash in a C library would end it.
    std::process::abort();
}

#[allow(clippy::print_stderr, reason = "what a test program has to say")]
fn tell(line: &str) {
    eprintln!("\n{line}");
}
