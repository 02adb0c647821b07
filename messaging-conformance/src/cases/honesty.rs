//! Honesty: what is declared is there, what is not is refused, and the answers do not change unnoticed.

use std::time::Duration;

use messaging_core::{
    ConsumeOptions, Destination, ErrorKind, Feature, Lease, Message, MessageBuilder, NoSubscriber, Part,
    PublishOptions, PublisherExt, Redrive, Start, SubjectFilter, SubscribeOptions,
};

use crate::case::cases;
use crate::pins::{answers, render};
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Floor, Kind, Line, Place, refuse};

cases! {
    /// Every feature that is not declared is refused, on each kind of place, with the reason.
    K1_undeclared_is_refused on Queue Durable => undeclared_is_refused;
    /// One past each declared limit is refused, and the limit itself is not.
    K1_one_past_each_limit_is_refused on Queue Durable => one_past_each_limit;
    /// What is refused is refused before anything is asked of the broker: also while the line is down.
    K1_refused_without_the_broker on Queue Durable, with Line => refused_without_the_broker;
    /// Every feature that is declared does at least one real operation.
    K2_declared_does_something on Queue Durable => declared_does_something;
    /// The adapter's answers are those that are pinned beside its harness.
    K4_answers_are_pinned on Broker => answers_are_pinned;
    /// The adapter offers at least what the contract asks of its broker.
    K4_at_least_the_floor on Broker => at_least_the_floor;
}

async fn undeclared_is_refused(at: &Bench) -> Verdict {
    at.note_proved();
    for kind in Kind::ALL {
        let capabilities = at.capabilities(kind, false);
        let ordered = at.capabilities(kind, true);
        for feature in Feature::ALL {
            let is_broker_wide = matches!(feature, Feature::RequestReply | Feature::Transactions);
            if (kind == Kind::Broker) != is_broker_wide {
                continue;
            }
            let declared = if matches!(feature, Feature::KeyOrder | Feature::Hold) { &ordered } else { &capabilities };
            if !declared.supports(feature) {
                refuse::refused(at, kind, feature).await?;
            }
            at.did(1);
        }
    }
    Ok(())
}

async fn one_past_each_limit(at: &Bench) -> Verdict {
    let second = Duration::from_secs(1);
    for place in at.places().await? {
        let limits = place.capabilities().limits.clone();
        let base = place.options();
        let mut past = vec![("prefetch", base.clone().with_prefetch(limits.prefetch + 1))];
        let mut good = vec![("prefetch", base.clone().with_prefetch(limits.prefetch))];
        if place.capabilities().supports(Feature::Lease) {
            let lease = |max| Lease { duration: place.moment(), max };
            past.push(("lease", base.clone().with_lease(lease(limits.lease + second))));
            good.push(("lease", base.clone().with_lease(lease(limits.lease))));
        }
        for (what, options) in past {
            let error = at.refused(&format!("one past the limit of {what}"), open(&place, options)).await?;
            ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of {error}");
        }
        for (what, options) in good {
            at.wait(&format!("a consumer at the limit of {what}"), open(&place, options)).await?;
        }
        if place.capabilities().supports(Feature::DelayedRetry) {
            let mut tap = place.consumer(1).await?;
            place.publish(["again"]).await?;
            let late = tap.next().await?.retry_after(limits.retry_delay + second);
            let error = at.refused("one past the limit of retry delays", late).await?;
            ensure_eq!(error.kind(), ErrorKind::Unsupported, "the kind of {error}");
            tap.expect_next("again").await?;
        }
    }
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

async fn refused_without_the_broker(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let publisher = place.publisher().await?;
        let limits = place.publish_capabilities().limits;
        at.stage().set_line(Line::Down).await?;
        let large =
            at.refused("a message over the limit", publisher.publish(vec![0; limits.message_bytes + 1])).await?;
        let greedy = place.options().with_prefetch(place.capabilities().limits.prefetch.saturating_add(1));
        let wide = at.refused("a prefetch over the limit", open(&place, greedy)).await?;
        at.stage().set_line(Line::Up).await?;
        ensure_eq!(large.kind(), ErrorKind::TooLarge, "the kind, with the line down, of {large}");
        ensure_eq!(wide.kind(), ErrorKind::Unsupported, "the kind, with the line down, of {wide}");
    }
    Ok(())
}

async fn declared_does_something(at: &Bench) -> Verdict {
    for place in at.places().await? {
        for feature in Feature::ALL {
            let done = if place.capabilities().supports(feature) { tries(at, &place, feature).await } else { Ok(()) };
            done.map_err(|stop| Stop::Failed(format!("{feature} is declared, and did not do anything: {stop}")))?;
        }
    }
    Ok(())
}

/// One real operation of a feature that is declared. Whether it does all it should is for the other cases.
async fn tries(at: &Bench, place: &Place, feature: Feature) -> Verdict {
    let (broker, source) = (place.broker(), place.source());
    let (inspect, repair) = (broker.inspect(), broker.repair());
    let property = |change: fn(MessageBuilder) -> MessageBuilder| async move {
        let place = Place::fresh(at, place.kind()).await?;
        let mut tap = place.consumer(1).await?;
        place.publish([change(Message::builder("x")).build()?]).await?;
        tap.expect_next("x").await
    };
    match feature {
        Feature::DelayedPublish => property(|message| message.delay(Duration::from_millis(1))).await,
        Feature::Ttl => property(|message| message.ttl(Duration::from_secs(60))).await,
        Feature::Priority => property(|message| message.priority(9)).await,
        Feature::DelayedRetry | Feature::DeadLetter | Feature::Release | Feature::Lease => {
            let place = Place::fresh(at, place.kind()).await?;
            let mut tap = place.consumer(1).await?;
            place.publish(["x"]).await?;
            let delivery = tap.next().await?;
            match feature {
                Feature::DelayedRetry => at.settled(delivery.retry_after(Duration::from_millis(1))).await?,
                Feature::Release => at.settled(delivery.release()).await?,
                Feature::DeadLetter => return at.settled(delivery.dead_letter("rejected")).await,
                _ => {
                    at.settled(delivery.extend(Duration::from_secs(1))).await?;
                    return at.settled(delivery.ack()).await;
                }
            }
            tap.expect_next("x").await
        }
        Feature::Replay | Feature::SubjectFilter | Feature::EphemeralSubscription if place.topic().is_some() => {
            let durable = SubscribeOptions::durable(at.subscription());
            let options = match feature {
                Feature::Replay => durable.with_start(Start::Earliest),
                Feature::SubjectFilter => durable.with_filter(SubjectFilter::parse("a.#")?),
                _ => SubscribeOptions::ephemeral(),
            };
            at.wait("subscribing", broker.subscribe(&at.topic(), options)).await.map(drop)
        }
        Feature::RequireSubscriber if place.topic().is_some() => {
            let options = PublishOptions::default().with_no_subscriber(NoSubscriber::Refuse);
            at.wait("opening a strict publisher", broker.publisher(place.destination(), options)).await.map(drop)
        }
        Feature::RequestReply => at.wait("opening a requester", broker.requester()).await.map(drop),
        Feature::Transactions => at.wait("beginning a transaction", broker.begin()).await.map(drop),
        Feature::Depth => at.wait("asking for the depth", inspect.depth(&source)).await.map(drop),
        Feature::Lag => at.wait("asking for the lag", inspect.lag(&source)).await.map(drop),
        Feature::Positions => at.wait("asking for positions", inspect.positions(&source)).await.map(drop),
        Feature::Browse => at.wait("browsing", inspect.browse(&source, 1)).await.map(drop),
        Feature::Redrive => at.wait("redriving", repair.redrive(&source, Redrive::All)).await.map(drop),
        Feature::Purge => at.wait("purging", repair.purge(&source, Part::Live)).await.map(drop),
        _ => Ok(()),
    }
}

async fn answers_are_pinned(at: &Bench) -> Verdict {
    at.note_proved();
    let is = render(&answers(at));
    at.did(is.lines().count());
    sane(at)?;
    let pinned = at.harness().pinned();
    let first = is.lines().zip(pinned.lines()).find(|(is, pinned)| is != pinned);
    ensure!(
        is == pinned,
        "the answers differ from those that are pinned; first: {}; if that is meant, run with --capabilities and commit what it prints",
        first.map_or_else(|| "one text is longer".to_owned(), |(is, pinned)| format!("pinned {pinned:?}, now {is:?}"))
    );
    Ok(())
}

/// Answers that contradict themselves are nonsense, whatever the broker.
fn sane(at: &Bench) -> Verdict {
    for kind in Kind::ALL {
        let capabilities = at.capabilities(kind, false);
        let limits = &capabilities.limits;
        let zero = Duration::ZERO;
        let contradictions = [
            (limits.message_bytes == 0, "no message has a place within a limit of 0 bytes"),
            (limits.prefetch == 0, "nothing can be consumed with a prefetch of at most 0"),
            (limits.batch == 0, "nothing can be published in batches of at most 0"),
            (
                capabilities.supports(Feature::DelayedRetry) && limits.retry_delay == zero,
                "delayed retry is declared, up to no delay at all",
            ),
            (
                capabilities.supports(Feature::DelayedPublish) && limits.publish_delay == zero,
                "delayed publish is declared, up to no delay at all",
            ),
            (capabilities.supports(Feature::Ttl) && limits.ttl == zero, "ttl is declared, up to no time at all"),
            (
                capabilities.supports(Feature::Lease) && limits.lease == zero,
                "leases are declared, up to no time at all",
            ),
            (
                capabilities.supports(Feature::Priority) && limits.priority_levels < 2,
                "priority is declared with fewer than two levels",
            ),
            (
                capabilities.supports(Feature::Redrive) && !capabilities.supports(Feature::DeadLetter),
                "redrive is declared without a dead letter",
            ),
            (
                capabilities.supports(Feature::SharedSubscription)
                    && !capabilities.supports(Feature::DurableSubscription),
                "shared subscriptions are declared without durable ones",
            ),
        ];
        for (contradiction, text) in contradictions {
            ensure!(!contradiction, "nonsense on a {}: {text}", kind.name());
        }
    }
    Ok(())
}

async fn at_least_the_floor(at: &Bench) -> Verdict {
    at.note_proved();
    let about = at.harness().about();
    ensure_eq!(at.broker().identity().driver(), about.driver, "the driver's name, as the harness gives it");
    at.did(1);
    // A consumer's answers are those of its broker.
    let asked = at.broker().capabilities(messaging_core::Place::Consume(&at.queue(), &ConsumeOptions::default()));
    ensure_eq!(asked, at.capabilities(Kind::Queue, false), "the answers for two queues with the same options");
    let Some(floor) = Floor::of(about.driver, about.option) else {
        ensure!(
            !Floor::knows(about.driver),
            "the contract sets floors for {:?}, none for its option {:?}: name one that it knows",
            about.driver,
            about.option
        );
        return Ok(());
    };
    let short = floor.shortfalls(|kind, ordered| at.capabilities(kind, ordered));
    ensure!(short.is_empty(), "below the floor of the contract: {}", short.join("; "));
    Ok(())
}
