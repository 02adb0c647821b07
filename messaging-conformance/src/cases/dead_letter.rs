//! Dead letters: one copy with everything in it, and the way back.

use std::time::SystemTime;

use messaging_core::{Attempts, DeadLetter, DeadLetterReason, Destination, Message, Redrive};

use crate::case::cases;
use crate::child::{Child, Role};
use crate::tap::Tap;
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Place, text};

cases! {
    /// A message that failed as often as it may has exactly one copy in the dead letter, and its source is empty.
    D1_one_copy_after_the_attempts on Queue Durable, needs DeadLetter => one_copy;
    /// A dead letter keeps payload, id, headers and properties, and says origin, reason, errors, attempts and time.
    D2_a_dead_letter_keeps_everything on Queue Durable, needs DeadLetter => keeps_everything;
    /// A poisonous message does not block the others.
    D3_poison_does_not_block on Queue Durable, needs DeadLetter => poison_does_not_block;
    /// A handler may dead-letter at once, for a reason of its own; the dead letter of each source is its own.
    D4_explicit_dead_letter on Queue Durable, needs DeadLetter => explicit;
    /// A redrive goes back to where the message failed and there alone, all of them or those that are named.
    D5_redrive_goes_back_to_its_source on Queue Durable, needs DeadLetter Redrive => redrive;
    /// A message that cannot be read at all is dead-lettered raw: it neither stalls the queue nor loops.
    D6_unreadable_is_dead_lettered on Queue, needs DeadLetter, with RawClient => unreadable;
    /// A dead letter that fails leaves the message to be delivered again: never lost, never in limbo.
    D7_a_failed_dead_letter_loses_nothing on Queue Durable, needs DeadLetter, with FailDeadLetters => a_failed_dead_letter;
    /// A connection lost around a dead letter loses nothing, and doubles at most once.
    D7_a_cut_around_a_dead_letter on Queue Durable, needs DeadLetter, with Cut => a_cut_around_a_dead_letter;
    /// Failing, redriving and failing again ends in the dead letter each time: nothing takes it for a duplicate.
    D8_dead_again_after_a_redrive on Queue Durable, needs DeadLetter Redrive => dead_again;
    /// A message that kills its process each time is counted, so that it can end in the dead letter.
    D9_a_killer_message_is_counted on Queue, needs DeadLetter, with Processes => a_killer_is_counted;
}

/// The dead letters of a place, once there are at least so many.
async fn dead(at: &Bench, place: &Place, least: usize) -> Verdict<Vec<DeadLetter>> {
    let ask = || async {
        at.wait("asking for dead letters", place.broker().inspect().dead_letters(&place.source(), 100)).await
    };
    at.eventually(&format!("{least} dead letters are there"), || async { Ok(ask().await?.len() >= least) }).await?;
    ask().await
}

/// Takes the next and dead-letters it.
async fn bury(at: &Bench, tap: &mut Tap, reason: impl Into<DeadLetterReason>) -> Verdict {
    at.settled(tap.next().await?.dead_letter(reason)).await
}

async fn one_copy(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["failing"]).await?;
        for _ in 0..3 {
            at.settled(tap.next().await?.retry()).await?;
        }
        bury(at, &mut tap, DeadLetterReason::ATTEMPTS_EXHAUSTED).await?;

        place.nothing_but_a_sentinel(&mut tap).await?;
        let dead = dead(at, &place, 1).await?;
        ensure_eq!(dead.len(), 1, "how many copies are in the dead letter");
        ensure_eq!(dead[0].reason.code, DeadLetterReason::ATTEMPTS_EXHAUSTED, "the reason");
        if place.capabilities().attempts > Attempts::FlagOnly {
            ensure_eq!(dead[0].attempts, 4, "the attempts");
        }
    }
    Ok(())
}

async fn keeps_everything(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let sent = Message::builder((0..=255_u8).collect::<Vec<_>>())
            .key("customer-7")
            .subject("eu.created")
            .message_type("order.placed")
            .content_type("application/json")
            .header("tenant", "acme")
            .header("odd", "ümläut\n€")
            .build()?;
        let mut tap = place.consumer(1).await?;
        let begun = SystemTime::now();
        place.publish([sent.clone()]).await?;
        let errors = vec!["cannot price the order".to_owned(), "no such product \"ü\"".to_owned()];
        bury(at, &mut tap, DeadLetterReason::new("pricing").with_errors(errors.clone())).await?;

        let dead = dead(at, &place, 1).await?;
        ensure_eq!(dead.len(), 1, "how many copies are in the dead letter");
        let letter = &dead[0];
        super::message::same(&letter.message, &sent, "in the dead letter")?;
        ensure_eq!(letter.origin, place.source(), "the origin");
        ensure_eq!(letter.reason.code, "pricing", "the reason");
        ensure_eq!(letter.reason.errors, errors, "the errors");
        ensure_eq!((letter.attempts, letter.redriven), (1, 0), "attempts and redrives");
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        let around = begun.checked_sub(day).is_some_and(|early| letter.at > early) && letter.at < begun + day;
        ensure!(around, "the time of the dead letter is {:?}, it was made around {begun:?}", letter.at);
    }
    Ok(())
}

async fn poison_does_not_block(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(1).await?;
        place.publish(["poison", "good-1", "good-2", "good-3"]).await?;
        let (mut poisoned, mut good) = (0, 0);
        while good < 3 || poisoned < 3 {
            let delivery = tap.next().await?;
            if text(&delivery) != "poison" {
                good += 1;
                at.settled(delivery.ack()).await?;
                continue;
            }
            poisoned += 1;
            if poisoned < 3 {
                at.settled(delivery.retry()).await?;
            } else {
                at.settled(delivery.dead_letter("rejected")).await?;
            }
        }
        place.nothing_but_a_sentinel(&mut tap).await?;
        ensure_eq!(dead(at, &place, 1).await?.len(), 1, "how many copies are in the dead letter");
    }
    Ok(())
}

async fn explicit(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let other =
            if place.subscription().is_some() { place.sibling() } else { Place::fresh(at, place.kind()).await? };
        let mut of_other = other.consumer(1).await?;
        let mut tap = place.consumer(1).await?;
        place.publish(["one", "two"]).await?;
        bury(at, &mut tap, "first-reason").await?;
        bury(at, &mut tap, "second-reason").await?;
        place.nothing_but_a_sentinel(&mut tap).await?;

        let mut reasons: Vec<String> =
            dead(at, &place, 2).await?.into_iter().map(|letter| letter.reason.code.into_owned()).collect();
        reasons.sort();
        ensure_eq!(reasons, ["first-reason", "second-reason"], "the reasons");
        if other.destination() != place.destination() {
            other.publish(["alive"]).await?;
            of_other.expect_next("alive").await?;
        }
        let strangers =
            at.wait("asking for dead letters", place.broker().inspect().dead_letters(&other.source(), 10)).await?;
        ensure!(strangers.is_empty(), "{} dead letters are in another source's dead letter", strangers.len());
    }
    Ok(())
}

async fn redrive(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let sibling = place.topic().map(|_| place.sibling());
        let mut beside = match &sibling {
            Some(sibling) => Some(sibling.consumer(8).await?),
            None => None,
        };
        let mut tap = place.consumer(4).await?;
        let sent: Vec<Message> = (0..3).map(|number: usize| Message::new(number.to_string())).collect();
        place.publish(sent.clone()).await?;
        for _ in 0..3 {
            bury(at, &mut tap, "rejected").await?;
        }
        if let Some(beside) = &mut beside {
            beside.drink(3).await?;
        }
        dead(at, &place, 3).await?;

        let repair = place.broker().repair();
        let named = Redrive::Ids(vec![sent[1].id().clone()]);
        let count = at.wait("a redrive by id", repair.redrive(&place.source(), named)).await?;
        ensure_eq!(count, 1, "how many were redriven by id");
        let again = tap.next().await?;
        ensure_eq!(text(&again), "1", "the one that was redriven by id");
        ensure_eq!(again.message().id(), sent[1].id(), "its id");
        ensure_eq!((again.attempt(), again.redriven()), (1, 1), "its attempt and redrives");
        at.settled(again.ack()).await?;

        let count = at.wait("a redrive of all", repair.redrive(&place.source(), Redrive::All)).await?;
        ensure_eq!(count, 2, "how many were redriven after that");
        tap.expect_all(["0".to_owned(), "2".to_owned()]).await?;
        let left =
            at.wait("asking for dead letters", place.broker().inspect().dead_letters(&place.source(), 10)).await?;
        ensure!(left.is_empty(), "{} dead letters are left after all were redriven", left.len());
        place.publish(["behind"]).await?;
        tap.expect_next("behind").await?;
        if let Some(beside) = &mut beside {
            beside.expect_next("behind").await?;
        }
    }
    Ok(())
}

async fn unreadable(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        if !at.stage().publish_unreadable(place.destination()).await? {
            return Err(Stop::Ignored("every message of this broker can be read".to_owned()));
        }
        place.nothing_but_a_sentinel(&mut tap).await?;
        let dead = dead(at, &place, 1).await?;
        ensure_eq!(dead.len(), 1, "how many copies are in the dead letter");
        ensure_eq!(dead[0].reason.code, DeadLetterReason::UNDECODABLE, "the reason");
    }
    Ok(())
}

async fn a_failed_dead_letter(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["kept"]).await?;
        let delivery = tap.next().await?;
        at.stage().fail_dead_letters(&place.source(), true).await?;
        let error = at.refused("a dead letter that cannot be made", delivery.dead_letter("rejected")).await?;
        ensure!(!error.text().is_empty(), "the error says nothing");

        let again = tap.next().await?;
        ensure_eq!(text(&again), "kept", "what comes again");
        ensure!(again.attempt() > 1, "the failed dead letter was not counted: attempt {}", again.attempt());
        at.stage().fail_dead_letters(&place.source(), false).await?;
        at.settled(again.dead_letter("rejected")).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
        ensure_eq!(dead(at, &place, 1).await?.len(), 1, "how many copies are in the dead letter");
    }
    Ok(())
}

async fn a_cut_around_a_dead_letter(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(8).await?;
        place.publish_numbers(5).await?;
        let mut outcomes = Vec::new();
        for delivery in tap.hold(5).await? {
            if outcomes.len() == 2 {
                at.stage().cut().await?;
            }
            outcomes.push(delivery.dead_letter("rejected"));
        }
        // What did not make it comes again, and is dead-lettered then; the sentinel comes behind.
        place.publish_again("sentinel").await?;
        let mut sentinels = 0;
        loop {
            let delivery = tap.next().await?;
            if text(&delivery) == "sentinel" {
                sentinels += 1;
                at.settled(delivery.ack()).await?;
                let letters = dead(at, &place, 0).await?;
                let distinct: std::collections::BTreeSet<_> =
                    letters.into_iter().map(|letter| letter.message.id().clone()).collect();
                if distinct.len() == 5 {
                    break;
                }
                ensure!(
                    sentinels < 100,
                    "of five messages {} are in the dead letter, the others nowhere",
                    distinct.len()
                );
                place.publish_again("sentinel").await?;
                continue;
            }
            drop(
                crate::bench::within("a dead letter", crate::bench::PATIENCE, delivery.dead_letter("rejected")).await?,
            );
        }
        drop(outcomes);
        let letters = dead(at, &place, 5).await?;
        for letter in &letters {
            let copies = letters.iter().filter(|other| other.message.id() == letter.message.id()).count();
            ensure!(copies <= 2, "{copies} copies of one message are in the dead letter");
        }
    }
    Ok(())
}

async fn dead_again(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let mut tap = place.consumer(4).await?;
        place.publish(["failing"]).await?;
        for round in 0..3 {
            bury(at, &mut tap, "rejected").await?;
            let letters = dead(at, &place, 1).await?;
            ensure_eq!((letters.len(), letters[0].redriven), (1, round), "dead letters and redrives in round {round}");
            let count = at.wait("a redrive", place.broker().repair().redrive(&place.source(), Redrive::All)).await?;
            ensure_eq!(count, 1, "how many were redriven in round {round}");
        }
        let last = tap.next().await?;
        ensure_eq!((text(&last).as_str(), last.redriven()), ("failing", 3), "what comes after three rounds");
        at.settled(last.ack()).await?;
        place.nothing_but_a_sentinel(&mut tap).await?;
    }
    Ok(())
}

async fn a_killer_is_counted(at: &Bench) -> Verdict {
    for place in at.places().await? {
        let Destination::Queue(queue) = place.destination() else { continue };
        place.publish(["killer"]).await?;
        for _ in 0..3 {
            Child::start(at, Role::Die, queue)?.has_died(at).await?;
        }
        let mut tap = place.consumer(1).await?;
        let survivor = tap.next().await?;
        match place.capabilities().attempts {
            Attempts::Exact => ensure_eq!(survivor.attempt(), 4, "the attempt after three deaths"),
            Attempts::AtLeast | Attempts::FlagOnly => {
                ensure!(survivor.attempt() > 1, "three deaths were not counted: attempt {}", survivor.attempt());
            }
        }
        at.settled(survivor.dead_letter(DeadLetterReason::ATTEMPTS_EXHAUSTED)).await?;
        ensure_eq!(dead(at, &place, 1).await?.len(), 1, "how many copies are in the dead letter");
    }
    Ok(())
}
