//! The other direction: what is not declared is refused, before anything happens.

use std::time::Duration;

use messaging_core::{
    ConsumeOptions, Destination, Error, ErrorKind, Feature, Message, MessageBuilder, NoSubscriber, Order, Part,
    PublishOptions, PublisherExt, Redrive, Requirements, Result, RetryMode, Source, Start, SubjectFilter,
    SubscribeOptions,
};

use crate::verdict::{Verdict, ensure, ensure_eq};
use crate::{Bench, Kind};

/// Proves that a feature which is not declared for a kind of place is refused there.
pub(crate) async fn refused(at: &Bench, kind: Kind, feature: Feature) -> Verdict {
    let what = format!("{feature} on a {}, which is not declared,", kind.name());
    for error in attempts(at, kind, feature, &what).await? {
        ensure_eq!(error.kind(), ErrorKind::Unsupported, "{what} was refused with {error}");
        ensure!(!error.text().trim().is_empty(), "{what} was refused without a reason");
    }
    Ok(())
}

/// Uses the feature in its own way, and asks for it in the options. Places that cannot be opened at all are refused so.
async fn attempts(at: &Bench, kind: Kind, feature: Feature, what: &str) -> Verdict<Vec<Error>> {
    let mut errors = Vec::new();
    match feature {
        Feature::RequestReply => errors.push(at.refused(what, at.broker().requester()).await?),
        Feature::Transactions => errors.push(at.refused(what, at.broker().begin()).await?),
        _ => {}
    }
    if kind == Kind::Broker {
        ensure!(!errors.is_empty(), "{what} cannot be tried without a destination");
        return Ok(errors);
    }
    let asked = ConsumeOptions::default().with_requires(Requirements::none().with(feature));
    errors.push(at.refused(what, open(at, kind, asked)).await?);
    let base = at.capabilities(kind, false);
    if kind.base().iter().any(|needed| !base.supports(*needed)) {
        errors.push(at.refused(what, open(at, kind, ConsumeOptions::default())).await?);
        return Ok(errors);
    }
    // An ephemeral subscription has no name to ask about it by.
    let has_source = kind != Kind::Ephemeral;
    let order = ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold);
    match feature {
        Feature::KeyOrder | Feature::Hold => errors.push(at.refused(what, open(at, kind, order)).await?),
        Feature::Replay => {
            errors.push(at.refused(what, subscribe(at, |options| options.with_start(Start::Earliest))).await?)
        }
        Feature::SubjectFilter => {
            let filter = SubjectFilter::parse("a.*")?;
            errors.push(at.refused(what, subscribe(at, |options| options.with_filter(filter))).await?);
        }
        Feature::RequireSubscriber if kind != Kind::Queue => {
            let options = PublishOptions::default().with_no_subscriber(NoSubscriber::Refuse);
            let topic = Destination::Topic(at.topic());
            errors.push(at.refused(what, at.broker().publisher(&topic, options)).await?);
        }
        Feature::DelayedPublish => errors.push(publish(at, kind, what, |message| message.delay(MOMENT)).await?),
        Feature::Ttl => errors.push(publish(at, kind, what, |message| message.ttl(MOMENT)).await?),
        Feature::Priority => errors.push(publish(at, kind, what, |message| message.priority(9)).await?),
        Feature::Depth if has_source => {
            errors.push(at.refused(what, at.broker().inspect().depth(&source(at, kind))).await?)
        }
        Feature::Lag if has_source => {
            errors.push(at.refused(what, at.broker().inspect().lag(&source(at, kind))).await?)
        }
        Feature::Positions if has_source => {
            errors.push(at.refused(what, at.broker().inspect().positions(&source(at, kind))).await?)
        }
        Feature::Browse if has_source => {
            errors.push(at.refused(what, at.broker().inspect().browse(&source(at, kind), 1)).await?)
        }
        Feature::DeadLetter if has_source => {
            errors.push(at.refused(what, at.broker().inspect().dead_letters(&source(at, kind), 1)).await?);
            errors.push(refused_delivery(at, kind, what, |delivery| delivery.dead_letter("rejected")).await?);
        }
        Feature::Redrive if has_source => {
            errors.push(at.refused(what, at.broker().repair().redrive(&source(at, kind), Redrive::All)).await?);
        }
        Feature::Purge if has_source => {
            errors.push(at.refused(what, at.broker().repair().purge(&source(at, kind), Part::Live)).await?);
        }
        Feature::DelayedRetry if has_source => {
            errors.push(refused_delivery(at, kind, what, |delivery| delivery.retry_after(MOMENT)).await?);
        }
        Feature::Lease if has_source => {
            let place = crate::Place::fresh(at, kind).await?;
            let mut tap = place.consumer(1).await?;
            place.publish(["x"]).await?;
            let delivery = tap.next().await?;
            errors.push(at.refused(what, delivery.extend(MOMENT)).await?);
            at.settled(delivery.ack()).await?;
        }
        _ => {}
    }
    Ok(errors)
}

/// Any time will do: it is refused.
const MOMENT: Duration = Duration::from_millis(50);

/// A settlement that is refused: the error, and the message must come back as after a drop.
async fn refused_delivery(
    at: &Bench,
    kind: Kind,
    what: &str,
    settle: impl FnOnce(messaging_core::Delivery) -> messaging_core::Outcome,
) -> Verdict<Error> {
    let place = crate::Place::fresh(at, kind).await?;
    let mut tap = place.consumer(1).await?;
    place.publish(["x"]).await?;
    let error = at.refused(what, settle(tap.next().await?)).await?;
    tap.expect_next("x").await?;
    Ok(error)
}

async fn open(at: &Bench, kind: Kind, options: ConsumeOptions) -> Result<()> {
    let broker = at.broker();
    match kind {
        Kind::Queue => broker.consume(&at.queue(), options).await.map(drop),
        Kind::Durable => {
            let durable = SubscribeOptions::durable(at.subscription()).with_consume(options);
            broker.subscribe(&at.topic(), durable).await.map(drop)
        }
        Kind::Ephemeral | Kind::Broker => {
            broker.subscribe(&at.topic(), SubscribeOptions::ephemeral().with_consume(options)).await.map(drop)
        }
    }
}

async fn subscribe(at: &Bench, change: impl FnOnce(SubscribeOptions) -> SubscribeOptions) -> Result<()> {
    let options = change(SubscribeOptions::durable(at.subscription()));
    at.broker().subscribe(&at.topic(), options).await.map(drop)
}

async fn publish(
    at: &Bench,
    kind: Kind,
    what: &str,
    change: impl FnOnce(MessageBuilder) -> MessageBuilder,
) -> Verdict<Error> {
    let to = if kind == Kind::Queue { Destination::Queue(at.queue()) } else { Destination::Topic(at.topic()) };
    let publisher = at.publisher(&to).await?;
    let message = change(Message::builder("x")).build()?;
    at.refused(what, publisher.publish(message)).await
}

fn source(at: &Bench, kind: Kind) -> Source {
    match kind {
        Kind::Queue => Source::Queue(at.queue()),
        _ => Source::Subscription(at.topic(), at.subscription()),
    }
}
