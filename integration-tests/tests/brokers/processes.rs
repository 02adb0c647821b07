//! Publishers and consumers as processes of their own, killed and stopped at chosen and random points.

use std::time::Duration;

use integration_tests::cases;
use integration_tests::child::{Child, Entry, Event, Outcome, Role, Tally};
use integration_tests::raw::{self, fresh_name};
use integration_tests::runner::{Case, Verdict};
use integration_tests::{Error, Kind, Result, shared};
use serde::{Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const PUBLISHER: &str = "publisher";
pub(crate) const CONSUMER: &str = "consumer";

pub(crate) fn cases() -> Vec<Case> {
    cases![
        a_publisher_killed_at_random_leaves_a_true_history,
        a_paused_publisher_stands_still_and_goes_on,
        a_child_is_killed_at_a_chosen_point,
        a_child_that_fails_is_noticed,
    ]
}

#[derive(Serialize, Deserialize)]
struct Scenario {
    url: String,
    queue: String,
    messages: usize,
}

/// Roles of the children.
pub(crate) async fn play(role: Role) -> Verdict {
    let Scenario { url, queue, messages } = role.scenario()?;
    let mut client = raw::connect(Kind::Redis, &url, None).await?;
    let history = role.history();
    match role.name() {
        PUBLISHER => {
            for n in 0..messages {
                let id = format!("{}-{n}", std::process::id());
                history.intent(&id)?;
                let outcome = match client.put(&queue, &id).await {
                    Ok(()) => Outcome::Confirmed,
                    Err(_) => Outcome::Unknown,
                };
                history.outcome(&id, outcome)?;
            }
        }
        CONSUMER => {
            for _ in 0..messages {
                let id = client.take(&queue).await?;
                history.receipt(id)?;
            }
        }
        other => return Err(format!("nobody plays {other}").into()),
    }
    Ok(())
}

/// More messages than any case waits for, in a queue of their own.
async fn scenario() -> Result<Scenario> {
    let broker = shared(Kind::Redis).await?;
    let queue = fresh_name("processes");
    raw::connect(Kind::Redis, &broker.url(), None).await?.create(&queue).await?;
    Ok(Scenario { url: broker.url(), queue, messages: 1_000_000 })
}

/// Whatever it did before it was killed is in its history, and the broker has all that was confirmed.
async fn a_publisher_killed_at_random_leaves_a_true_history() -> Verdict {
    let scenario = scenario().await?;
    let publisher = Child::start(PUBLISHER, &scenario)?;

    let chosen = publisher.kill_somewhere(20..200, LIMIT).await?;

    let mut entries = publisher.history()?;
    assert!(entries.len() >= chosen, "{} entries after a kill at {chosen}", entries.len());
    let sent = Tally::of(&entries);
    assert!(sent.unknown.len() <= 1, "one message at most was under way: {:?}", sent.unknown);
    let consumer = Child::start(CONSUMER, &Scenario { messages: sent.confirmed, ..scenario })?;
    assert!(consumer.ended(LIMIT).await?.success());
    entries.extend(consumer.history()?);
    let tally = Tally::of(&entries);
    assert!(tally.lost.is_empty() && tally.unexpected.is_empty() && tally.duplicated.is_empty(), "{tally:?}");
    assert_eq!(tally.received, sent.confirmed);
    Ok(())
}

/// Stopped, it writes nothing; let go, it goes on.
async fn a_paused_publisher_stands_still_and_goes_on() -> Verdict {
    let scenario = scenario().await?;
    let publisher = Child::start(PUBLISHER, &scenario)?;
    publisher.reached("ten entries", LIMIT, |entries| entries.len() >= 10).await?;

    publisher.pause()?;
    let still = still(&publisher).await?;
    publisher.resume()?;

    publisher.reached("more entries", LIMIT, |entries| entries.len() > still + 10).await?;
    publisher.kill()?;
    Ok(())
}

/// The number of entries, once it has not changed for a while in which hundreds are usual.
async fn still(child: &Child) -> Result<usize> {
    let mut before = child.history()?.len();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = child.history()?.len();
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(Error::failed("a paused process goes on writing"))
}

/// A chosen point is one in the history: here the third outcome.
async fn a_child_is_killed_at_a_chosen_point() -> Verdict {
    let scenario = scenario().await?;
    let publisher = Child::start(PUBLISHER, &scenario)?;
    let outcomes = |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry.event, Event::Outcome(..))).count();

    publisher.reached("three outcomes", LIMIT, |entries| outcomes(entries) >= 3).await?;
    publisher.kill()?;

    assert!(outcomes(&publisher.history()?) >= 3);
    Ok(())
}

/// A child that ends too early is an error at once, with what it said, and not a wait.
async fn a_child_that_fails_is_noticed() -> Verdict {
    let scenario = Scenario { url: "redis://127.0.0.1:1/".to_owned(), queue: "none".to_owned(), messages: 1 };
    let consumer = Child::start(CONSUMER, &scenario)?;

    let error = consumer.reached("a receipt", LIMIT, |entries| !entries.is_empty()).await.unwrap_err();

    assert!(error.to_string().contains("could not connect"), "{error}");
    Ok(())
}
