//! Publishing: when it is ok, when it is not, and what is known then.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use messaging_core::{
    Destination, ErrorKind, ErrorOutcome, Feature, Message, NoSubscriber, PublishOptions, PublisherExt,
    SubscribeOptions, TopologyMode,
};
use tokio::time::Instant;

use super::traffic::Drinkers;
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::child::{Child, Role};
use crate::history::Recorder;
use crate::tap::Tap;
use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Kind, Line};

cases! {
    /// What a publisher was told is accepted is there, though its process is killed at once.
    P1_ok_means_accepted on Queue, with Processes => ok_means_accepted;
    /// What was accepted is there for another connection, though the publisher's handle is closed at once.
    P1_ok_means_accepted_by_the_broker on Queue Durable => ok_outlives_the_handle;
    /// A topic without a subscription accepts and forgets, or refuses where that is asked for.
    P2_unroutable_as_declared on Broker => unroutable_as_declared;
    /// A missing destination is made, refused when the publisher is opened, or found out by the first publish, as the
    /// topology mode says; never a silent drop.
    P3_missing_destination_by_topology on Queue Durable => missing_destination;
    /// A message over the declared size is refused as too large before it is sent, and the next one arrives.
    P4_over_the_size_limit on Queue Durable => over_the_size_limit;
    /// After close a publish fails as closed, and closing twice is fine.
    P5_after_close on Queue Durable => after_close;
    /// On a line that swallows everything a publish ends by its time limit, with an unknown outcome.
    P6_deadline_in_a_black_hole on Queue Durable, with Line => deadline_in_a_black_hole;
    /// An answer that is lost leaves an unknown outcome or is found out, never a claim that nothing was sent.
    P6_a_lost_answer_is_unknown on Queue Durable, with LoseAnswers => a_lost_answer_is_unknown;
    /// Ten thousand publishes at once on one handle are each confirmed once, and in flight stays bounded.
    P7_ten_thousand_at_once on Queue => ten_thousand_at_once;
}

async fn ok_means_accepted(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let Destination::Queue(queue) = place.destination() else { continue };
        let mut child = Child::start(at, Role::Publish, queue)?;
        child.has_told(at, 20).await?;
        child.kill();
        let confirmed = child.texts();

        let mut tap = place.consumer(64).await?;
        let mut missing: std::collections::BTreeSet<String> = confirmed.into_iter().collect();
        while !missing.is_empty() {
            let delivery = tap.next().await?;
            missing.remove(&crate::text(&delivery));
            at.settled(delivery.ack()).await?;
        }
    }
    Ok(())
}

async fn ok_outlives_the_handle(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let short_lived = at.open().await?;
        let through = place.through(Arc::clone(&short_lived));
        through.publish_numbers(50).await?;
        let _ = within("closing", Duration::from_secs(60), short_lived.close(Instant::now())).await?;

        let mut tap = place.consumer(64).await?;
        tap.expect_all((0..50).map(|number| number.to_string())).await?;
    }
    Ok(())
}

async fn unroutable_as_declared(at: &Bench) -> Verdict {
    let capabilities = at.capabilities(Kind::Durable, false);
    if !capabilities.supports(Feature::Topic) {
        crate::refuse::refused(at, Kind::Durable, Feature::Topic).await?;
        return Ok(());
    }
    at.note_proved();
    let topic = at.topic();
    let to = Destination::Topic(topic.clone());
    let publisher = at.publisher(&to).await?;
    at.wait("a publish that nobody waits for", publisher.publish("nobody")).await?;
    if !capabilities.supports(Feature::RequireSubscriber) {
        return crate::refuse::refused(at, Kind::Durable, Feature::RequireSubscriber).await;
    }
    let strict = PublishOptions::default().with_no_subscriber(NoSubscriber::Refuse);
    let strict = at.wait("opening a strict publisher", at.broker().publisher(&to, strict)).await?;
    let error = at.refused("a publish that must reach someone", strict.publish("nobody")).await?;
    ensure_eq!(error.kind(), ErrorKind::Unroutable, "the kind of {error}");
    ensure_eq!(error.outcome(), ErrorOutcome::NotSent, "the outcome of {error}");

    let options = if capabilities.supports(Feature::DurableSubscription) {
        SubscribeOptions::durable(at.subscription())
    } else {
        SubscribeOptions::ephemeral()
    };
    let consumer = at.wait("subscribing", at.broker().subscribe(&topic, options)).await?;
    let mut tap = Tap::new(at, consumer, Duration::from_secs(60));
    at.wait("a publish that reaches someone", strict.publish("somebody")).await?;
    tap.expect_next("somebody").await
}

async fn missing_destination(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let verify = at.open_with(|options| options.with_topology(TopologyMode::Verify)).await?;
        let assume = at.open_with(|options| options.with_topology(TopologyMode::Assume)).await?;
        let missing = match place.destination() {
            Destination::Queue(_) => Destination::Queue(at.queue()),
            _ => Destination::Topic(at.topic()),
        };
        let error = at
            .refused("opening a missing place to verify", verify.publisher(&missing, PublishOptions::default()))
            .await?;
        ensure_eq!(error.kind(), ErrorKind::NotFound, "the kind of {error}");

        // With `assume` nobody looks: it may be found out when the publisher is opened, and has to be by the first publish.
        let publish = async {
            let options = PublishOptions::default().with_timeout(Duration::from_secs(10));
            assume.publisher(&missing, options).await?.publish("lost?").await
        };
        let error = at.refused("publishing to a missing place that is assumed", publish).await?;
        ensure!(
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unroutable),
            "a missing place must be told as not found or unroutable: {error}"
        );

        // What is there can be used in every mode.
        let mut tap = place.consumer(1).await?;
        for (broker, word) in [(verify, "verified"), (assume, "assumed")] {
            place.through(broker).publish([word]).await?;
            tap.expect_next(word).await?;
        }
    }
    Ok(())
}

async fn over_the_size_limit(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let limit = place.publish_capabilities().limits.message_bytes;
        let publisher = place.publisher().await?;
        let error = at.refused("a message one byte over the limit", publisher.publish(vec![b'x'; limit + 1])).await?;
        ensure_eq!(error.kind(), ErrorKind::TooLarge, "the kind of {error}");
        ensure_eq!(error.outcome(), ErrorOutcome::NotSent, "the outcome of {error}");

        let mut tap = place.consumer(1).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn after_close(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let broker = at.open().await?;
        let through = place.through(Arc::clone(&broker));
        let publisher = through.publisher().await?;
        at.wait("a publish before the close", publisher.publish("before")).await?;
        for _ in 0..2 {
            let _ = within("closing", Duration::from_secs(60), broker.close(Instant::now() + Duration::from_secs(5)))
                .await?;
        }

        let error = at.refused("a publish after the close", publisher.publish("after")).await?;
        ensure_eq!(error.kind(), ErrorKind::Closed, "the kind of {error}");
        ensure_eq!(error.outcome(), ErrorOutcome::NotSent, "the outcome of {error}");

        let mut tap = place.consumer(1).await?;
        tap.expect_next("before").await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn deadline_in_a_black_hole(at: &Bench) -> Verdict {
    for place in at.places().await? {
        // A broker that writes to a disk and is busy answers within this, too.
        let limit = Duration::from_secs(2);
        let opening = place.broker().publisher(place.destination(), PublishOptions::default().with_timeout(limit));
        let publisher = at.wait("opening a publisher", opening).await?;
        at.wait("a publish on a good line", publisher.publish("good")).await?;

        at.stage().set_line(Line::BlackHole).await?;
        let begun = Instant::now();
        let error = at.refused("a publish into a black hole", publisher.publish("swallowed")).await?;
        let took = begun.elapsed();
        at.stage().set_line(Line::Up).await?;

        ensure_eq!(error.outcome(), ErrorOutcome::Unknown, "the outcome of {error}");
        ensure!(
            matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Disconnected),
            "the kind must be timeout or disconnected: {error}"
        );
        ensure!(took < limit + Duration::from_secs(10), "it took {took:?}, the limit was {limit:?}");
        at.eventually("publishing works again", || async { Ok(publisher.publish("again").await.is_ok()) }).await?;
    }
    Ok(())
}

async fn a_lost_answer_is_unknown(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(1).await?;
        let publisher = place.publisher().await?;
        // The first publish may have to ask for more than a confirm.
        at.wait("a publish on a good line", publisher.publish("first")).await?;
        tap.expect_next("first").await?;
        tap.flush().await?;
        at.stage().lose_answers(1).await?;
        let published = within("a publish whose answer is lost", PATIENCE * 2, publisher.publish("stored")).await?;
        at.did(1);
        if let Err(error) = &published {
            ensure_eq!(error.outcome(), ErrorOutcome::Unknown, "the outcome of {error}, which did arrive");
        }
        tap.expect_next("stored").await?;
        if published.is_ok() {
            // It was asked again whether the message is there: that must not have put it there twice.
            place.nothing_but_a_sentinel(&mut tap).await?;
        }
    }
    Ok(())
}

async fn ten_thousand_at_once(at: &Bench) -> Verdict {
    const COUNT: usize = 10_000;
    for place in at.places().await? {
        let recorder = Recorder::new(1);
        let mut taps = Vec::new();
        for _ in 0..4 {
            taps.push(place.consumer(200).await?);
        }
        let drinkers = Drinkers::start(at, &recorder, 0, taps);
        let options = PublishOptions::default().with_in_flight(500);
        let publisher = at.wait("opening a publisher", place.broker().publisher(place.destination(), options)).await?;

        let sends = (0..COUNT).map(|_| {
            let (mark, message): (_, Message) = recorder.intend(None);
            let (publisher, recorder) = (&publisher, &recorder);
            async move { recorder.outcome(mark, &publisher.publish(message).await) }
        });
        within("ten thousand publishes", Duration::from_secs(150), join_all(sends)).await?;

        drinkers.finish(&place).await?;
        let findings = super::traffic::exact(&recorder)?;
        ensure_eq!(findings.confirmed, COUNT + 1, "how many were confirmed, with the sentinel");
    }
    Ok(())
}
