//! Errors: typed, quick, and without secrets.

use std::time::Duration;

use messaging_core::{
    ConsumeOptions, Destination, ErrorKind, Lease, NAME_MAX, Order, PublishOptions, QueueName, RetryMode, Settings,
    Start, SubscribeOptions, SubscriptionName, TopicName,
};
use tokio::time::Instant;

use crate::bench::within;
use crate::case::cases;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Kind, Place};

cases! {
    /// Invalid and over-long names do not parse; the longest valid one works on the broker.
    E1_names on Queue Durable => names;
    /// Wrong password, closed port, wrong protocol, wrong certificate: each its own kind, quickly, without the secret.
    E2_wrong_addresses on Broker, with WrongAddresses => wrong_addresses;
    /// Zero prefetch, zero room, contradictory options and unknown keys are refused by name, before anything is opened.
    E3_options_that_cannot_be_followed on Queue Durable => options;
}

async fn names(at: &Bench) -> Verdict {
    let long = "x".repeat(NAME_MAX + 1);
    for bad in ["", "Upper", "ümlaut", "a b", "a--b", ".a", "a.", "-a", "a_b", "a/b", "a:b", &long] {
        let kinds = [
            QueueName::parse(bad).err().map(|error| error.kind()),
            TopicName::parse(bad).err().map(|error| error.kind()),
            SubscriptionName::parse(bad).err().map(|error| error.kind()),
        ];
        ensure!(kinds.iter().all(|kind| *kind == Some(ErrorKind::InvalidName)), "the name {bad:?} came to {kinds:?}");
    }
    // The longest, with every separator, on each kind of place that there is.
    let stem = at.name();
    let longest = format!("{stem}-a.b{}", "z".repeat(NAME_MAX - stem.len() - 4));
    for place in at.places().await? {
        let place = place.renamed(&longest)?;
        let mut tap = place.consumer(1).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn wrong_addresses(at: &Bench) -> Verdict {
    at.note_proved();
    for wrong in at.stage().wrong_addresses() {
        let begun = Instant::now();
        let connecting = at.stage().connect(wrong.options.clone());
        let connected = within(wrong.what, Duration::from_secs(60), connecting).await?;
        at.did(1);
        let what = wrong.what;
        let Err(error) = connected else {
            return Err(crate::Stop::failed(format_args!("{what}: connected all the same")));
        };
        ensure!(wrong.kinds.contains(&error.kind()), "{what}: expected one of {:?}, got {error}", wrong.kinds);
        ensure!(begun.elapsed() < Duration::from_secs(30), "{what}: it took {:?}", begun.elapsed());
        let shown = format!("{error} {error:?} {}", error.chain().join(" "));
        ensure!(wrong.secret.is_none_or(|secret| !shown.contains(secret)), "{what}: the error shows the secret");
    }
    Ok(())
}

async fn options(at: &Bench) -> Verdict {
    let zero = Duration::ZERO;
    let second = Duration::from_secs(1);
    let consume = ConsumeOptions::default;
    let bad_consumers = [
        ("prefetch", consume().with_prefetch(0)),
        ("lease", consume().with_lease(Lease { duration: zero, max: second })),
        ("lease", consume().with_lease(Lease { duration: second * 2, max: second })),
        ("order_by", consume().with_order(Order::ByKey).with_retry_mode(RetryMode::Requeue)),
        ("retry_mode", consume().with_order(Order::None).with_retry_mode(RetryMode::Hold)),
    ];
    let publish = PublishOptions::default;
    let bad_publishers = [
        ("in_flight", publish().with_in_flight(0)),
        ("in_flight", publish().with_in_flight(usize::MAX)),
        ("in_flight_bytes", publish().with_in_flight_bytes(0)),
        ("timeout", publish().with_timeout(zero)),
    ];
    for place in at.places().await? {
        for (word, options) in &bad_consumers {
            let error = at.refused(&format!("a bad {word}"), open(&place, options.clone())).await?;
            named(&error, word)?;
        }
        for (word, options) in &bad_publishers {
            let opening = place.broker().publisher(place.destination(), options.clone());
            let error = at.refused(&format!("a bad {word}"), opening).await?;
            named(&error, word)?;
        }
    }
    if at.capabilities(Kind::Ephemeral, false).supports(messaging_core::Feature::EphemeralSubscription) {
        let contradiction = SubscribeOptions::ephemeral().with_start(Start::Earliest);
        let subscribing = at.broker().subscribe(&at.topic(), contradiction).await;
        ensure_eq!(
            subscribing.err().map(|error| error.kind()),
            Some(ErrorKind::Config),
            "an ephemeral one from the past"
        );
    }
    let unknown = Settings::new("[brokers.main]", [("no_such_key", "1")]);
    let connecting = at.stage().connect(at.stage().options().with_settings(unknown));
    let error = at.refused("an unknown key", connecting).await?;
    named(&error, "no_such_key")
}

fn named(error: &messaging_core::Error, word: &str) -> Verdict {
    ensure_eq!(error.kind(), ErrorKind::Config, "the kind of {error}");
    ensure!(error.text().contains(word), "the error must name {word:?}: {error}");
    Ok(())
}

async fn open(place: &Place, options: ConsumeOptions) -> messaging_core::Result<()> {
    match (place.destination(), place.subscription()) {
        (Destination::Topic(topic), Some(name)) => {
            let options = SubscribeOptions::durable(name.clone()).with_consume(options);
            place.broker().subscribe(topic, options).await.map(drop)
        }
        (Destination::Queue(queue), _) => place.broker().consume(queue, options).await.map(drop),
        _ => Ok(()),
    }
}
