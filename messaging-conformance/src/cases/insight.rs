//! Insight: what the broker says about itself is true.

use messaging_core::{Attempts, Browsed, Browsing, Depth, ErrorKind, Feature, HealthState, Message};

use crate::case::cases;
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Kind, Line, Place, text};

cases! {
    /// Depth agrees with what was sent and settled, delayed and dead ones included.
    I1_depth_agrees on Queue Durable, needs Depth => depth_agrees;
    /// Lag agrees with what was sent and settled.
    I1_lag_agrees on Queue Durable, needs Lag => lag_agrees;
    /// Looking at what waits shows it in order and changes no more than declared.
    I2_browsing_changes_nothing on Queue Durable, needs Browse => browsing_changes_nothing;
    /// Health tells the truth at each step of an outage.
    I3_health_tells_the_truth on Broker, with Line => health_tells_the_truth;
    /// Current and committed positions say where a consumer reads and from where it would go on after a crash.
    I4_current_and_committed on Queue Durable, needs Positions => current_and_committed;
    /// The sends and acknowledgements of a transaction happen together or not at all.
    I5_transactions_are_all_or_nothing on Queue, needs Transactions => transactions;
}

/// Waits until a number that the broker counts is as it should; some brokers count late.
async fn counts(at: &Bench, place: &Place, what: &str, matches: impl Fn(&Depth) -> bool) -> Verdict {
    let last = std::cell::Cell::new(Depth::default());
    let waited = at
        .eventually(what, || async {
            last.set(at.wait("asking for the depth", place.broker().inspect().depth(&place.source())).await?);
            Ok(matches(&last.get()))
        })
        .await;
    waited.map_err(|stop| Stop::failed(format_args!("{what}: {:?}; {stop}", last.get())))
}

async fn depth_agrees(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let said = |given: Option<u64>, should: u64| given.is_none_or(|given| given == should);
        counts(at, &place, "nothing is there at first", |depth| depth.open() == 0).await?;
        place.publish_numbers(10).await?;
        counts(at, &place, "ten are ready", |depth| depth.ready == 10 && depth.open() == 10).await?;
        let mut tap = place.consumer(3).await?;
        let mut held = tap.hold(3).await?;
        let unsettled = |depth: &Depth| said(depth.unsettled, 3) && (depth.unsettled.is_none() || depth.ready == 7);
        counts(at, &place, "three of ten are unsettled", unsettled).await?;
        for delivery in held.drain(..2) {
            at.settled(delivery.ack()).await?;
        }
        let last = held.remove(0);
        let (mut open, mut dead, mut delayed) = (8, 0, 0);
        if place.capabilities().supports(Feature::DeadLetter) {
            at.settled(last.dead_letter("rejected")).await?;
            (open, dead) = (open - 1, 1);
        } else {
            at.settled(last.retry()).await?;
        }
        tap.flush().await?;
        tap.close().await?;
        if place.publish_capabilities().supports(Feature::DelayedPublish) {
            place
                .publish([Message::builder("later")
                    .delay(place.publish_capabilities().limits.publish_delay)
                    .build()?])
                .await?;
            (open, delayed) = (open + 1, 1);
        }
        let all = |depth: &Depth| {
            let counted = if depth.delayed.is_some() || depth.ready == open { open } else { open - delayed };
            depth.open() == counted && said(depth.dead, dead) && depth.delayed.is_none_or(|given| given <= delayed)
        };
        counts(at, &place, &format!("{open} are open, {delayed} of them delayed, {dead} dead"), all).await?;
    }
    let missing = messaging_core::Source::Queue(at.queue());
    let error = at.refused("the depth of what is not there", at.broker().inspect().depth(&missing)).await?;
    let expected = [ErrorKind::NotFound, ErrorKind::Unsupported];
    ensure!(expected.contains(&error.kind()), "the depth of what is not there: {error}");
    Ok(())
}

async fn lag_agrees(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let lag = || at.wait("asking for the lag", async { place.broker().inspect().lag(&place.source()).await });
        place.publish_numbers(10).await?;
        at.eventually("the lag is ten", || async { Ok(lag().await? == 10) }).await?;
        let mut tap = place.consumer(4).await?;
        let held = tap.hold(4).await?;
        at.eventually("the lag is ten while four are held", || async { Ok(lag().await? == 10) }).await?;
        for delivery in held {
            at.settled(delivery.ack()).await?;
        }
        tap.flush().await?;
        at.eventually("the lag is six after four acknowledgements", || async { Ok(lag().await? == 6) }).await?;
        tap.drink(6).await?;
        tap.flush().await?;
        at.eventually("the lag is gone", || async { Ok(lag().await? == 0) }).await?;
    }
    Ok(())
}

async fn browsing_changes_nothing(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let sent: Vec<Message> = (0..5).map(|number: usize| Message::new(number.to_string())).collect();
        place.publish(sent.clone()).await?;
        for _ in 0..2 {
            let seen = browse(at, &place, 10).await?;
            let mut texts: Vec<&[u8]> = seen.iter().map(|one| one.message.payload().as_ref()).collect();
            texts.sort();
            ensure_eq!(texts, [b"0", b"1", b"2", b"3", b"4"], "what browsing shows");
            ensure!(
                seen.iter().all(|one| sent.iter().any(|sent| sent.id() == one.message.id())),
                "browsing shows other ids"
            );
        }
        ensure_eq!(browse(at, &place, 2).await?.len(), 2, "how many browsing shows of at most two");

        let mut tap = place.consumer(8).await?;
        let held = tap.hold(5).await?;
        let untouched = held.iter().all(|delivery| delivery.attempt() == 1);
        let may_disturb =
            place.capabilities().browsing == Browsing::Disturbing || place.capabilities().attempts < Attempts::Exact;
        ensure!(untouched || may_disturb, "browsing counted as a delivery, though it is declared clean");
        for delivery in held {
            at.settled(delivery.ack()).await?;
        }
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn browse(at: &Bench, place: &Place, max: usize) -> Verdict<Vec<Browsed>> {
    at.wait("browsing", place.broker().inspect().browse(&place.source(), max)).await
}

async fn health_tells_the_truth(at: &Bench) -> Verdict {
    at.note_proved();
    let kind = [Kind::Queue, Kind::Durable]
        .into_iter()
        .find(|kind| kind.base().iter().all(|feature| at.capabilities(*kind, false).supports(*feature)));
    // With a consumer and a publisher open, so that there is something that can be unwell.
    let opened = match kind {
        Some(kind) => {
            let place = Place::fresh(at, kind).await?;
            Some((place.consumer(1).await?, place.publisher().await?))
        }
        None => None,
    };
    let state = || at.broker().health().state;
    let is = |wanted: fn(HealthState) -> bool| move || async move { Ok(wanted(state())) };
    at.eventually("health is up at first", is(|state| state == HealthState::Up)).await?;
    for line in [Line::Down, Line::BlackHole] {
        at.stage().set_line(line).await?;
        at.eventually(&format!("health is not up while the line is {line:?}"), is(|state| state != HealthState::Up))
            .await?;
        let health = at.broker().health();
        ensure!(!health.reasons.is_empty(), "health is {health} without a reason");
        at.stage().set_line(Line::Up).await?;
        at.eventually("health is up after the outage", is(|state| state == HealthState::Up)).await?;
    }
    drop(opened);
    Ok(())
}

async fn current_and_committed(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let message = |number: usize| Message::builder(number.to_string()).key("one").build();
        place.publish((0..6).map(message).collect::<Result<Vec<_>, _>>()?).await?;
        let mut tap = place.consumer(4).await?;
        let mut held = tap.hold(4).await?;
        let Some(first) = held[0].position() else {
            return Err(Stop::failed("a delivery of a log has no position, though positions are declared"));
        };
        let ask = || async {
            let positions =
                at.wait("asking for positions", place.broker().inspect().positions(&place.source())).await?;
            positions
                .into_iter()
                .find(|one| one.partition == first.partition)
                .ok_or_else(|| Stop::failed(format_args!("partition {} has no position", first.partition)))
        };
        let before = ask().await?;
        ensure_eq!(before.committed, first.offset, "the committed position before any acknowledgement");
        ensure!(
            before.current >= first.offset + 4,
            "four are out, current is {} after {}",
            before.current,
            first.offset
        );
        ensure_eq!(before.end, first.offset + 6, "the end after six messages");
        ensure_eq!(before.lag(), 6, "the lag of six messages");

        at.settled(held.remove(0).ack()).await?;
        tap.flush().await?;
        at.eventually("the committed position follows the acknowledgement", || async {
            Ok(ask().await?.committed == first.offset + 1)
        })
        .await?;
        for delivery in held {
            at.settled(delivery.ack()).await?;
        }
        tap.drink(2).await?;
        tap.flush().await?;
        at.eventually("the committed position reaches the end", || async { Ok(ask().await?.lag() == 0) }).await?;
    }
    Ok(())
}

async fn transactions(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let target = Place::fresh(at, Kind::Queue).await?;
        let mut tap = place.consumer(4).await?;
        let mut out = target.consumer(4).await?;

        // Rolled back, by hand and by a drop: nothing was sent, and the delivery comes again.
        place.publish(["work"]).await?;
        for by_hand in [true, false] {
            let mut transaction = at.wait("beginning a transaction", place.broker().begin()).await?;
            transaction.send(target.destination(), Message::new("never"))?;
            transaction.ack(tap.next().await?);
            if by_hand {
                at.wait("a rollback", transaction.rollback()).await?;
            } else {
                drop(transaction);
            }
        }
        let again = tap.next().await?;
        ensure_eq!(text(&again), "work", "what comes after two rollbacks");

        // Not visible before the commit, all of it after.
        let mut transaction = at.wait("beginning a transaction", place.broker().begin()).await?;
        transaction.send(target.destination(), Message::new("one"))?;
        transaction.send(target.destination(), Message::new("two"))?;
        transaction.ack(again);
        target.publish(["meanwhile"]).await?;
        out.expect_next("meanwhile").await?;
        at.wait("a commit", transaction.commit()).await?;
        out.expect_all(["one".to_owned(), "two".to_owned()]).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;

        // One stale delivery, and nothing happens.
        place.publish(["stale"]).await?;
        let mut transaction = at.wait("beginning a transaction", place.broker().begin()).await?;
        transaction.send(target.destination(), Message::new("never"))?;
        transaction.ack(tap.next().await?);
        drop(tap);
        let mut heir = place.consumer(4).await?;
        heir.expect_next("stale").await?;
        let error = at.refused("a commit with a stale delivery", transaction.commit()).await?;
        ensure!(
            matches!(error.kind(), ErrorKind::StaleDelivery | ErrorKind::Conflict | ErrorKind::Disconnected),
            "the kind of {error}"
        );
        target.nothing_but_a_sentinel(&mut out).await?;
    }
    Ok(())
}
