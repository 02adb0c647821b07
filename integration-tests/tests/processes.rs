//! Publishers and consumers as processes of their own, killed and stopped at chosen and random points.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use integration_tests::{
    Kind,
    child::{Child, Event, Outcome, Role, Tally},
    or_skip,
    raw::{self, fresh_name},
    shared,
};
use serde::{Deserialize, Serialize};

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Scenario {
    url: String,
    queue: String,
    messages: usize,
}

/// Not a test: what this program does when it is started as a child.
#[tokio::test]
async fn as_a_child() {
    let Some(role) = Role::current().unwrap() else { return };
    let Scenario { url, queue, messages } = role.scenario().unwrap();
    let mut client = raw::connect(Kind::Redis, &url, None).await.unwrap();
    let history = role.history();
    match role.name() {
        "publisher" => {
            for n in 0..messages {
                let id = format!("{}-{n}", std::process::id());
                history.intent(&id).unwrap();
                let outcome = match client.put(&queue, &id).await {
                    Ok(()) => Outcome::Confirmed,
                    Err(_) => Outcome::Unknown,
                };
                history.outcome(&id, outcome).unwrap();
            }
        }
        "consumer" => {
            for _ in 0..messages {
                let id = client.take(&queue).await.unwrap();
                history.receipt(id).unwrap();
            }
        }
        other => panic!("nobody plays {other}"),
    }
}

async fn scenario(messages: usize) -> Option<Scenario> {
    let broker = or_skip(shared(Kind::Redis).await).unwrap()?;
    let queue = fresh_name("processes");
    raw::connect(Kind::Redis, &broker.url(), None).await.unwrap().create(&queue).await.unwrap();
    Some(Scenario { url: broker.url(), queue, messages })
}

fn child(role: &str, scenario: &Scenario) -> Child {
    Child::start_test("as_a_child", role, scenario).unwrap()
}

/// Whatever it did before it was killed is in its history, and the broker has all that was confirmed.
#[tokio::test]
async fn a_publisher_killed_at_random_leaves_a_true_history() {
    let Some(scenario) = scenario(1_000_000).await else { return };
    let publisher = child("publisher", &scenario);

    let chosen = publisher.kill_somewhere(20..200, LIMIT).await.unwrap();

    let mut entries = publisher.history().unwrap();
    assert!(entries.len() >= chosen, "{} entries after a kill at {chosen}", entries.len());
    let sent = Tally::of(&entries);
    assert!(sent.unknown.len() <= 1, "one message at most was under way: {:?}", sent.unknown);
    let consumer = child("consumer", &Scenario { messages: sent.confirmed, ..scenario });
    assert!(consumer.ended(LIMIT).await.unwrap().success());
    entries.extend(consumer.history().unwrap());
    let tally = Tally::of(&entries);
    assert!(tally.lost.is_empty() && tally.unexpected.is_empty() && tally.duplicated.is_empty(), "{tally:?}");
    assert_eq!(tally.received, sent.confirmed);
}

/// Stopped, it writes nothing; let go, it goes on.
#[tokio::test]
async fn a_paused_publisher_stands_still_and_goes_on() {
    let Some(scenario) = scenario(1_000_000).await else { return };
    let publisher = child("publisher", &scenario);
    publisher.reached("ten entries", LIMIT, |entries| entries.len() >= 10).await.unwrap();

    publisher.pause().unwrap();
    let still = still(&publisher).await;
    publisher.resume().unwrap();

    publisher.reached("more entries", LIMIT, |entries| entries.len() > still + 10).await.unwrap();
    publisher.kill().unwrap();
}

/// The number of entries, once it has not changed for a while in which hundreds are usual.
async fn still(child: &Child) -> usize {
    let mut before = child.history().unwrap().len();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = child.history().unwrap().len();
        if now == before {
            return now;
        }
        before = now;
    }
    panic!("a paused process goes on writing");
}

/// A chosen point is one in the history: here the third outcome.
#[tokio::test]
async fn a_child_is_killed_at_a_chosen_point() {
    let Some(scenario) = scenario(1_000_000).await else { return };
    let publisher = child("publisher", &scenario);
    let outcomes = |entries: &[integration_tests::child::Entry]| {
        entries.iter().filter(|entry| matches!(entry.event, Event::Outcome(..))).count()
    };

    publisher.reached("three outcomes", LIMIT, |entries| outcomes(entries) >= 3).await.unwrap();
    publisher.kill().unwrap();

    assert!(outcomes(&publisher.history().unwrap()) >= 3);
}

/// A child that ends too early is an error at once, with what it said, and not a wait.
#[tokio::test]
async fn a_child_that_fails_is_noticed() {
    let scenario = Scenario { url: "redis://127.0.0.1:1/".to_owned(), queue: "none".to_owned(), messages: 1 };
    let consumer = child("consumer", &scenario);

    let error = consumer.reached("a receipt", LIMIT, |entries| !entries.is_empty()).await.unwrap_err();

    assert!(error.to_string().contains("could not connect"), "{error}");
}
