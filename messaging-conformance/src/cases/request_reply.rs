//! Requests and replies.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use messaging_core::{Broker, Destination, ErrorKind, Message, PublishOptions, PublisherExt, QueueName, Requester};
use tokio::time::Instant;

use super::traffic::Task;
use crate::bench::{PATIENCE, within};
use crate::case::cases;
use crate::tap::Tap;
use crate::verdict::{Stop, Verdict, ensure, ensure_eq};
use crate::{Bench, Kind};

cases! {
    /// Each request gets its own reply, also when they are answered in another order.
    RR1_replies_find_their_requests on Broker, needs RequestReply => replies_find_their_requests;
    /// A request without a reply ends by its time limit, and not before.
    RR2_a_request_times_out on Broker, needs RequestReply => a_request_times_out;
    /// A reply that comes too late is dropped, counted, and given to nobody.
    RR3_a_late_reply_is_dropped_and_counted on Broker, needs RequestReply => a_late_reply;
    /// A hundred requests at once each get their reply.
    RR4_a_hundred_at_once on Broker, needs RequestReply => a_hundred_at_once;
}

/// A queue with someone who answers, and a requester.
async fn open(at: &Bench) -> Verdict<(QueueName, Tap, Requester)> {
    let queue = at.queue();
    let consumer = at.wait("opening a consumer", at.broker().consume(&queue, Default::default())).await?;
    let requester = at.wait("opening a requester", at.broker().requester()).await?;
    Ok((queue, Tap::new(at, consumer, PATIENCE * 2), requester))
}

/// Answers one request with its own text and a mark.
async fn answer(at: &Bench, broker: &Arc<dyn Broker>, delivery: messaging_core::Delivery) -> Verdict {
    let request = delivery.message();
    let Some(address) = request.reply_to() else { return Err(Stop::failed("a request has no address for the reply")) };
    let Some(correlation) = request.correlation_id() else {
        return Err(Stop::failed("a request has no correlation id"));
    };
    let body = format!("re: {}", crate::text(&delivery));
    let reply = Message::builder(body).correlation_id(correlation).header("answered", "yes").build()?;
    let to = Destination::Reply(address.clone());
    let publisher = at.wait("opening a publisher of replies", broker.publisher(&to, PublishOptions::default())).await?;
    // Whoever asked may have stopped waiting; the broker may say so.
    drop(within("publishing a reply", PATIENCE, publisher.publish(reply)).await?);
    at.settled(delivery.ack()).await
}

async fn replies_find_their_requests(at: &Bench) -> Verdict {
    if !at.declared(Kind::Broker).await? {
        return Ok(());
    }
    let (queue, mut tap, requester) = open(at).await?;
    let (bench, broker) = (at.clone(), Arc::clone(at.broker()));
    let answering = Task::spawn(async move {
        let held = tap.hold(3).await?;
        // The other way round, so that replies are told apart by more than their order.
        for delivery in held.into_iter().rev() {
            answer(&bench, &broker, delivery).await?;
        }
        Verdict::Ok(())
    });
    let ask = |number: usize| {
        let (requester, queue) = (&requester, &queue);
        async move {
            let request = Message::new(format!("request {number}"));
            at.wait("a request", requester.request(queue, request, PATIENCE)).await
        }
    };
    let replies = try_join_all((0..3).map(ask)).await?;
    for (number, reply) in replies.iter().enumerate() {
        ensure_eq!(
            reply.payload().as_ref(),
            format!("re: request {number}").as_bytes(),
            "the reply to request {number}"
        );
        ensure_eq!(reply.headers().get("answered"), Some("yes"), "its header");
    }
    answering.join("whoever answers").await?
}

async fn a_request_times_out(at: &Bench) -> Verdict {
    if !at.declared(Kind::Broker).await? {
        return Ok(());
    }
    let (queue, mut tap, requester) = open(at).await?;
    let limit = Duration::from_millis(300);
    let begun = Instant::now();
    let error =
        at.refused("a request that nobody answers", requester.request(&queue, Message::new("anyone?"), limit)).await?;
    ensure_eq!(error.kind(), ErrorKind::Timeout, "the kind of {error}");
    ensure!(begun.elapsed() >= limit, "it ended after {:?}, the limit was {limit:?}: early", begun.elapsed());
    ensure!(
        begun.elapsed() < limit + Duration::from_secs(10),
        "it ended after {:?}, the limit was {limit:?}",
        begun.elapsed()
    );
    tap.expect_next("anyone?").await
}

async fn a_late_reply(at: &Bench) -> Verdict {
    if !at.declared(Kind::Broker).await? {
        return Ok(());
    }
    let (queue, mut tap, requester) = open(at).await?;
    let limit = Duration::from_millis(300);
    at.refused("a request that is answered too late", requester.request(&queue, Message::new("slow"), limit)).await?;
    let before = requester.late_replies();
    answer(at, at.broker(), tap.next().await?).await?;
    at.eventually("the late reply is counted", || async { Ok(requester.late_replies() == before + 1) }).await?;

    // The next request gets its own reply, not the late one.
    let (bench, broker) = (at.clone(), Arc::clone(at.broker()));
    let answering = Task::spawn(async move {
        let delivery = tap.next().await?;
        answer(&bench, &broker, delivery).await
    });
    let reply = at.wait("a request", requester.request(&queue, Message::new("quick"), PATIENCE)).await?;
    ensure_eq!(reply.payload().as_ref(), b"re: quick", "the reply to the request after");
    answering.join("whoever answers").await?
}

async fn a_hundred_at_once(at: &Bench) -> Verdict {
    if !at.declared(Kind::Broker).await? {
        return Ok(());
    }
    let (queue, mut tap, requester) = open(at).await?;
    let (bench, broker) = (at.clone(), Arc::clone(at.broker()));
    let answering = Task::spawn(async move {
        for _ in 0..100 {
            let delivery = tap.next().await?;
            answer(&bench, &broker, delivery).await?;
        }
        Verdict::Ok(())
    });
    let ask = |number: usize| {
        let (requester, queue) = (&requester, &queue);
        async move {
            let reply =
                at.wait("a request", requester.request(queue, Message::new(number.to_string()), PATIENCE)).await?;
            ensure_eq!(reply.payload().as_ref(), format!("re: {number}").as_bytes(), "the reply to request {number}");
            Ok(())
        }
    };
    try_join_all((0..100).map(ask)).await?;
    answering.join("whoever answers").await??;
    ensure_eq!(requester.late_replies(), 0, "how many replies were late");
    Ok(())
}
