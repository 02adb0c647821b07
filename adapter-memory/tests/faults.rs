//! Faults, closing, requests, transactions, and what errors say.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use adapter_memory::{DRIVER, Data, Link, MemoryServer, PublishFault};
use common::*;
use messaging_core::{
    Acked, BrokerUrl, ConnectOptions, ConsumeOptions, Declaration, Delivery, Destination, DestinationSettings,
    ErrorKind, ErrorOutcome, Event, HealthState, Lease, Message, Namespace, NoSubscriber, PlanAction, PublishOptions,
    PublisherExt, Received, Redrive, Registry, Settings, Start, SubjectFilter, SubscribeOptions, TopologyMode,
};
use tokio::time::Instant;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn publishes_fail_as_told_and_say_what_became_of_the_message() {
    let (server, broker) = open("");
    let publisher = to_queue(&broker).await;
    server.fail_publishes(2, PublishFault::Refused);
    for _ in 0..2 {
        let error = publisher.publish("refused").await.unwrap_err();
        assert_eq!((error.outcome(), error.is_retryable()), (ErrorOutcome::NotSent, true));
    }
    server.fail_publishes(1, PublishFault::AnswerLost);
    assert_eq!(publisher.publish("stored").await.unwrap_err().outcome(), ErrorOutcome::Unknown);
    publisher.publish("fine").await.unwrap();
    let mut consumer = from_queue(&broker, 10).await;
    let seen: Vec<String> = consumer.next_many(10).await.unwrap().iter().map(text).collect();
    assert_eq!(seen, ["stored", "fine"]);
    // In a batch only the first item fails.
    server.fail_publishes(1, PublishFault::Refused);
    let results = publisher.publish_batch(vec!["a".into(), "b".into()]).await;
    assert!(results[0].is_err() && results[1].is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_ends_in_unknown_by_the_time_limit_or_when_the_line_is_back() {
    let (server, broker) = open("");
    let options = PublishOptions::default().with_timeout(seconds(5)).with_in_flight(2);
    let publisher = broker.publisher(&Destination::Queue(queue()), options).await.unwrap();
    server.set_link(Link::BlackHole);
    assert_eq!(broker.health().state, HealthState::Down);
    let begun = Instant::now();
    let error = publisher.publish("one").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, ErrorOutcome::Unknown));
    assert_eq!(begun.elapsed(), seconds(5));
    // Places in flight of publishes that nobody awaits come free as well.
    for _ in 0..2 {
        assert!(tokio::time::timeout(seconds(1), publisher.publish("cancelled")).await.is_err());
    }
    let begun = Instant::now();
    assert_eq!(soon(publisher.publish("two")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() <= seconds(10), "{:?}", begun.elapsed());
    let waiting = tokio::spawn(async move { publisher.publish("three").await.unwrap_err() });
    settle_down().await;
    server.set_link(Link::Up);
    let error = soon(waiting).await.unwrap();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, ErrorOutcome::Unknown));
    assert_eq!(depth(&broker, &of_queue()).await.open(), 0);
    assert_eq!(broker.health().state, HealthState::Up);
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_stopped_nothing_works_and_afterwards_everything_goes_on() {
    let (server, broker) = open("");
    let publisher = to_queue(&broker).await;
    let mut consumer = from_queue(&broker, 2).await;
    publisher.publish("one").await.unwrap();
    publisher.publish("two").await.unwrap();
    let held = next(&mut consumer).await;
    let late = next(&mut consumer).await;
    server.set_link(Link::Down);
    let error = publisher.publish("three").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, ErrorOutcome::NotSent));
    assert_eq!(held.extend(seconds(1)).await.unwrap_err().kind(), ErrorKind::Disconnected);
    let error = held.ack().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, ErrorOutcome::Unknown));
    let refused = broker.consume(&queue(), ConsumeOptions::default()).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unreachable);
    let waiting = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 4 {
            match consumer.receive().await.unwrap().unwrap() {
                Received::Event(event) => seen.push(format!("{event:?}")),
                Received::Delivery(delivery) => {
                    seen.push(format!("{} {}", text(&delivery), delivery.attempt()));
                    delivery.ack().await.unwrap();
                }
            }
        }
        seen
    });
    settle_down().await;
    server.set_link(Link::Up);
    assert_eq!(soon(waiting).await.unwrap(), ["Disconnected", "Reconnected", "one 2", "two 2"]);
    assert_eq!(late.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_everything_or_loses_everything() {
    for data in [Data::Keep, Data::Lose] {
        let (server, broker) = open("capacity=2&dedup=10min");
        let (queue_publisher, topic_publisher) = (to_queue(&broker).await, to_topic(&broker).await);
        let mut durable_one = broker.subscribe(&topic(), durable("s")).await.unwrap();
        let mut ephemeral = broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.unwrap();
        let known = |body: &'static str| Message::builder(body).id(body).build().unwrap();
        for publisher in [&queue_publisher, &topic_publisher] {
            publisher.publish(known("1")).await.unwrap();
            publisher.publish(known("2")).await.unwrap();
        }
        let waiting: Vec<_> = [&queue_publisher, &topic_publisher]
            .into_iter()
            .map(|publisher| {
                let publisher = Arc::clone(publisher);
                tokio::spawn(async move { publisher.publish("3").await.map(drop) })
            })
            .collect();
        settle_down().await;
        assert!(waiting.iter().all(|task| !task.is_finished()));

        server.restart(data);

        let mut consumer = from_queue(&broker, 10).await;
        let mut seen = Vec::new();
        let expected: &[&str] = if data == Data::Keep { &["1", "2", "3"] } else { &["3"] };
        for _ in expected {
            let (one, two) = (next(&mut consumer).await, next(&mut durable_one).await);
            assert_eq!(text(&one), text(&two));
            seen.push(text(&one));
            one.ack().await.unwrap();
            two.ack().await.unwrap();
        }
        assert_eq!(seen, expected);
        for task in waiting {
            soon(task).await.unwrap().unwrap();
        }
        // An ephemeral subscription was away and says so.
        let missed = async {
            let mut missed = 0;
            loop {
                match ephemeral.receive().await.unwrap().unwrap() {
                    Received::Event(Event::Gap { missed: more }) => missed += more.unwrap(),
                    Received::Event(Event::Reconnected) => return missed,
                    _ => {}
                }
            }
        };
        assert_eq!(soon(missed).await, if data == Data::Keep { 2 } else { 3 });
        if data == Data::Lose {
            // What was lost is no duplicate.
            queue_publisher.publish(known("1")).await.unwrap();
            assert_eq!(text(&next(&mut consumer).await), "1");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_ephemeral_subscription_also_misses_what_was_fetched_and_not_delivered() {
    let (server, broker) = open("");
    let publisher = to_topic(&broker).await;
    let mut consumer = broker.subscribe(&topic(), SubscribeOptions::ephemeral()).await.unwrap();
    publisher.publish(Message::builder("later").delay(seconds(5)).build().unwrap()).await.unwrap();
    publisher.publish("now").await.unwrap();
    let held = next(&mut consumer).await;
    assert_eq!(text(&held), "now");
    server.cut_consumers();
    let mut events = Vec::new();
    for _ in 0..3 {
        match soon(consumer.receive()).await.unwrap().unwrap() {
            Received::Event(event) => events.push(event),
            Received::Delivery(delivery) => panic!("{delivery:?}"),
        }
    }
    assert_eq!(events, [Event::Disconnected, Event::Gap { missed: Some(1) }, Event::Reconnected]);
    assert_eq!(held.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
}

#[tokio::test(start_paused = true)]
async fn a_message_stays_when_its_dead_letter_cannot_be_reached_and_comes_again_later() {
    let server = MemoryServer::private();
    let namespace = Namespace::parse("dev").unwrap();
    let broker = server.open(options("").with_namespace(namespace)).unwrap();
    to_queue(&broker).await.publish("bad").await.unwrap();
    let mut consumer = from_queue(&broker, 1).await;
    server.fail_dead_letters(&of_queue(), 1).unwrap();
    let begun = Instant::now();
    let error = next(&mut consumer).await.dead_letter("rejected").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("again in 100ms"), "{error}");
    let again = next(&mut consumer).await;
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(again.attempt(), 2);
    again.dead_letter("rejected").await.unwrap();
    assert_eq!(depth(&broker, &of_queue()).await.dead, Some(1));
    let error = server.fail_dead_letters(&of_subscription("none"), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn closing_with_a_thousand_in_flight_settles_what_finishes_and_gives_back_the_rest() {
    let (server, broker) = open("");
    let publisher = to_queue(&broker).await;
    for result in publisher.publish_batch((0..1_000).map(|n| Message::new(n.to_string())).collect()).await {
        result.unwrap();
    }
    let mut consumer = from_queue(&broker, 1_000).await;
    let held = consumer.next_many(1_000).await.unwrap();
    assert_eq!(held.len(), 1_000);
    let mut tasks = Vec::new();
    for (index, delivery) in held.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            // 600 are quick, 400 outlast the deadline.
            tokio::time::sleep(if index < 600 { Duration::from_millis(500) } else { seconds(2) }).await;
            delivery.ack().await
        }));
    }
    settle_down().await;
    let begun = Instant::now();
    let report = broker.close(Instant::now() + seconds(1)).await;
    assert_eq!(begun.elapsed(), seconds(1));
    assert_eq!((report.settled, report.abandoned, report.errors.len()), (600, 400, 0));
    let mut late = 0;
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            late += 1;
        }
    }
    assert_eq!(late, 400);
    let depth = depth(&server.broker(), &of_queue()).await;
    assert_eq!((depth.ready, depth.unsettled, depth.dead), (400, Some(0), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn after_close_everything_says_closed_and_who_waits_wakes() {
    let (server, broker) = open("capacity=1");
    let publisher = to_queue(&broker).await;
    let mut consumer = broker.subscribe(&topic(), durable("s")).await.unwrap();
    let receiving = tokio::spawn(async move { consumer.next().await.map(drop).unwrap_err() });
    publisher.publish("one").await.unwrap();
    let parked = {
        let publisher = Arc::clone(&publisher);
        tokio::spawn(async move { publisher.publish("parked").await.unwrap_err() })
    };
    let requester = broker.requester().await.unwrap();
    let asking = tokio::spawn(async move {
        let to = messaging_core::QueueName::parse("service").unwrap();
        requester.request(&to, "?".into(), seconds(600)).await.map(drop).unwrap_err()
    });
    settle_down().await;

    drop(broker.close(Instant::now() + seconds(1)).await);

    let begun = Instant::now();
    assert_eq!(soon(receiving).await.unwrap().kind(), ErrorKind::Closed);
    let error = soon(parked).await.unwrap();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, ErrorOutcome::NotSent));
    assert_eq!(soon(asking).await.unwrap().kind(), ErrorKind::Closed);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let kinds = [
        publisher.publish("two").await.unwrap_err(),
        publisher.publish_batch(vec!["three".into()]).await.remove(0).unwrap_err(),
        broker.publisher(&Destination::Queue(queue()), PublishOptions::default()).await.map(drop).unwrap_err(),
        broker.consume(&queue(), ConsumeOptions::default()).await.map(drop).unwrap_err(),
        broker.subscribe(&topic(), durable("s")).await.map(drop).unwrap_err(),
        broker.requester().await.map(drop).unwrap_err(),
        broker.begin().await.map(drop).unwrap_err(),
        broker.inspect().depth(&of_queue()).await.unwrap_err(),
    ];
    for error in kinds {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.to_string().contains("broker \"main\""), "{error}");
    }
    let twice = broker.close(Instant::now() + seconds(1)).await;
    assert_eq!((twice.settled, twice.abandoned), (0, 0));
    assert_eq!(broker.health().state, HealthState::Down);
    // The server and what waits there live on.
    let other = server.open(options("capacity=1")).unwrap();
    assert_eq!(text(&next(&mut from_queue(&other, 1).await).await), "one");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_a_receive_and_a_drain_waits_for_the_started() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    publisher.publish("one").await.unwrap();
    publisher.publish("two").await.unwrap();
    let mut consumer = from_queue(&broker, 2).await;
    let held = next(&mut consumer).await;
    let late = next(&mut consumer).await;
    let control = consumer.control();
    let waiting = tokio::spawn(async move { (consumer.next().await.unwrap().is_none(), consumer) });
    settle_down().await;
    control.set_flow(messaging_core::Flow::Stopped);
    let (stopped, mut consumer) = soon(waiting).await.unwrap();
    assert!(stopped);
    let settling = tokio::spawn(async move {
        tokio::time::sleep(seconds(1)).await;
        held.ack().await
    });
    let report = consumer.drain(seconds(3)).await;
    assert_eq!((report.settled, report.abandoned), (1, 1));
    settling.await.unwrap().unwrap();
    assert_eq!(late.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    assert_eq!(text(&next(&mut from_queue(&broker, 1).await).await), "two");
}

async fn serve(broker: &Arc<dyn messaging_core::Broker>, wait: Duration, count: usize) {
    let mut consumer = from_queue(broker, 200).await;
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        for _ in 0..count {
            let request = next(&mut consumer).await;
            tokio::time::sleep(wait).await;
            let message = request.message();
            let reply = Message::builder(format!("re: {}", text(&request)))
                .correlation_id(message.correlation_id().unwrap())
                .build()
                .unwrap();
            let to = Destination::Reply(message.reply_to().unwrap().clone());
            let publisher = broker.publisher(&to, PublishOptions::default()).await.unwrap();
            publisher.publish(reply).await.unwrap();
            request.ack().await.unwrap();
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_at_once_each_get_their_own_reply() {
    let (_server, broker) = open("");
    serve(&broker, Duration::ZERO, 100).await;
    let requester = Arc::new(broker.requester().await.unwrap());
    let asked: Vec<_> = (0..100)
        .map(|n| {
            let requester = Arc::clone(&requester);
            tokio::spawn(async move { requester.request(&queue(), n.to_string().into(), seconds(5)).await.unwrap() })
        })
        .collect();
    for (n, task) in asked.into_iter().enumerate() {
        assert_eq!(soon(task).await.unwrap().payload(), format!("re: {n}").as_bytes());
    }
    assert_eq!(requester.late_replies(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_is_dropped_and_counted_and_one_to_nobody_is_unroutable() {
    let (_server, broker) = open("");
    serve(&broker, seconds(3), 1).await;
    let requester = Arc::new(broker.requester().await.unwrap());
    let error = requester.request(&queue(), "slow".into(), seconds(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.text().contains("queue \"orders\""), "{error}");
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(requester.late_replies(), 1);
    let nobody = Destination::Reply(messaging_core::ReplyAddress::new("reply-nobody"));
    let publisher = broker.publisher(&nobody, PublishOptions::default()).await.unwrap();
    assert_eq!(publisher.publish("?").await.unwrap_err().kind(), ErrorKind::Unroutable);
}

#[tokio::test(start_paused = true)]
async fn two_requests_of_one_correlation_id_do_not_steal_each_others_reply() {
    let (_server, broker) = open("");
    serve(&broker, seconds(1), 2).await;
    let requester = Arc::new(broker.requester().await.unwrap());
    let message = || Message::builder("?").correlation_id("same").build().unwrap();
    let first = {
        let (requester, message) = (Arc::clone(&requester), message());
        tokio::spawn(async move { requester.request(&queue(), message, seconds(10)).await })
    };
    settle_down().await;
    let error = requester.request(&queue(), message(), seconds(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.text().contains("\"same\""), "{error}");
    assert_eq!(soon(first).await.unwrap().unwrap().payload(), "re: ?");
    assert_eq!(requester.request(&queue(), message(), seconds(10)).await.unwrap().payload(), "re: ?");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_happens_as_a_whole() {
    let (_server, broker) = open("capacity=2");
    let publisher = to_queue(&broker).await;
    let mut subscriber = broker.subscribe(&topic(), durable("s")).await.unwrap();
    let mut consumer = from_queue(&broker, 10).await;
    let (to_queue, to_topic) = (Destination::Queue(queue()), Destination::Topic(topic()));
    publisher.publish("in").await.unwrap();

    let mut transaction = broker.begin().await.unwrap();
    transaction.send(&to_queue, "out".into()).unwrap();
    transaction.send(&to_topic, "news".into()).unwrap();
    transaction.ack(next(&mut consumer).await);
    assert_eq!(depth(&broker, &of_queue()).await.open(), 1, "nothing happened yet");
    transaction.commit().await.unwrap();
    assert_eq!(text(&next(&mut subscriber).await), "news");
    let out = next(&mut consumer).await;
    assert_eq!(text(&out), "out");

    // Dropped and rolled back: the delivery comes again, nothing is sent.
    let mut transaction = broker.begin().await.unwrap();
    transaction.send(&to_queue, "never".into()).unwrap();
    transaction.ack(out);
    drop(transaction);
    let out = next(&mut consumer).await;
    assert_eq!((text(&out).as_str(), out.attempt()), ("out", 2));
    let mut transaction = broker.begin().await.unwrap();
    transaction.ack(out);
    transaction.rollback().await.unwrap();
    let out = next(&mut consumer).await;
    assert_eq!(out.attempt(), 3);

    // No room for all of it.
    let mut transaction = broker.begin().await.unwrap();
    for _ in 0..2 {
        transaction.send(&to_queue, "too many".into()).unwrap();
    }
    transaction.ack(out);
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    let out = next(&mut consumer).await;
    assert_eq!(out.attempt(), 4);
    assert_eq!(depth(&broker, &of_queue()).await.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_with_a_stale_delivery_or_without_a_line_changes_nothing() {
    let (server, broker) = open("");
    let publisher = to_queue(&broker).await;
    publisher.publish("one").await.unwrap();
    publisher.publish("two").await.unwrap();
    let lease = Lease { duration: seconds(10), max: seconds(10) };
    let mut consumer = broker.consume(&queue(), ConsumeOptions::default().with_lease(lease)).await.unwrap();
    let stale = next(&mut consumer).await;
    let mut other = from_queue(&broker, 10).await;
    let good = next(&mut other).await;
    let moved = next(&mut other).await;
    assert_eq!((text(&moved), moved.attempt()), (text(&stale), 2));
    let mut transaction = broker.begin().await.unwrap();
    transaction.send(&Destination::Queue(queue()), "never".into()).unwrap();
    transaction.ack(good);
    transaction.ack(stale);
    assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::StaleDelivery);
    let mut transaction = broker.begin().await.unwrap();
    transaction.send(&Destination::Queue(queue()), "never".into()).unwrap();
    server.set_link(Link::Down);
    assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::Unreachable);
    server.set_link(Link::Up);
    assert_eq!(moved.ack().await.unwrap_err().kind(), ErrorKind::StaleDelivery, "it was cut off");
    assert_eq!(depth(&broker, &of_queue()).await.open(), 2);
    // A delivery of another broker's server has no place in it.
    let error = broker
        .begin()
        .await
        .unwrap()
        .send(&Destination::Reply(messaging_core::ReplyAddress::new("x")), "y".into())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_differs_is_told_by_the_topology_mode() {
    let (server, broker) = open("");
    let mode = |topology, parameters: &str| server.open(options(parameters).with_topology(topology)).unwrap();
    let (verify, assume) = (mode(TopologyMode::Verify, ""), mode(TopologyMode::Assume, ""));
    let to = Destination::Queue(queue());
    let error = verify.publisher(&to, PublishOptions::default()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.text().contains("set topology = \"create\""), "{error}");
    assert_eq!(verify.subscribe(&topic(), durable("s")).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);

    let assuming = assume.publisher(&to, PublishOptions::default()).await.unwrap();
    let error = assuming.publish("one").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::NotFound, ErrorOutcome::NotSent));
    assert_eq!(
        assume.consume(&queue(), ConsumeOptions::default()).await.map(drop).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(broker.inspect().depth(&of_queue()).await.is_err(), "nothing was made on the way");
    to_queue(&broker).await;
    assuming.publish("two").await.unwrap();
    verify.publisher(&to, PublishOptions::default()).await.unwrap();

    let differing = mode(TopologyMode::Create, "capacity=7");
    let error = differing.publisher(&to, PublishOptions::default()).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    for part in ["queue \"orders\"", "capacity is 4000000, asked for is 7", "nothing was changed"] {
        assert!(error.text().contains(part), "{error}");
    }
    let subscription = |filter| Declaration::Subscription {
        topic: topic(),
        name: name("s"),
        start: Start::New,
        filter: Some(SubjectFilter::parse(filter).unwrap()),
    };
    let plan = broker.apply(&[Declaration::Destination(to.clone()), subscription("a")]).await.unwrap();
    assert_eq!([&plan.steps[0].action, &plan.steps[1].action], [&PlanAction::Keep, &PlanAction::Create]);
    let error = broker.apply(&[subscription("b")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let error = broker.subscribe(&topic(), durable("s")).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.text().contains("exists with filter \"a\", asked for is filter none"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn native_names_and_namespaces_lead_to_the_same_place_or_apart() {
    let server = MemoryServer::private();
    let dev = server.open(options("").with_namespace(Namespace::parse("dev").unwrap())).unwrap();
    let plain = server.broker();
    let native = DestinationSettings { native: Some("dev--orders".into()), ..Default::default() };
    let named = server.open(options("").with_destination(Destination::Queue(queue()), native)).unwrap();
    to_queue(&dev).await.publish("in dev").await.unwrap();
    to_queue(&plain).await.publish("plain").await.unwrap();
    assert_eq!(depth(&plain, &of_queue()).await.ready, 1);
    assert_eq!(text(&next(&mut from_queue(&named, 1).await).await), "in dev");
    let plan = dev.topology().plan(&[Declaration::Destination(Destination::Queue(queue()))]).await.unwrap();
    assert_eq!(plan.steps[0].physical_name, "dev--orders");
}

#[tokio::test]
async fn brokers_of_one_server_name_meet_and_a_forgotten_one_begins_anew() {
    let registry = Registry::new().with(DRIVER).unwrap();
    let connect = |url: &str| registry.connect(ConnectOptions::new(BrokerUrl::parse(url).unwrap()));
    let (one, two) = (connect("memory://meet").await.unwrap(), connect("memory://meet").await.unwrap());
    let alone = connect("memory://").await.unwrap();
    to_queue(&one).await.publish("hello").await.unwrap();
    assert!(alone.inspect().depth(&of_queue()).await.is_err());
    assert_eq!(text(&next(&mut from_queue(&two, 1).await).await), "hello");
    MemoryServer::forget("meet");
    let three = connect("memory://meet").await.unwrap();
    assert!(three.inspect().depth(&of_queue()).await.is_err());
    assert_eq!(depth(&one, &of_queue()).await.open(), 1);
    MemoryServer::forget("meet");
    for (url, part) in [
        ("memory://u:s3cret@meet", "is not an address of a memory broker"),
        ("memory://meet/path", "is not an address of a memory broker"),
        ("memory://?capacty=1", "did you mean \"capacity\"?"),
        ("memory://?capacity=0", "at least 1"),
        ("memory://?when_full=drop", "block, refuse"),
        ("memory://?dedup=soon", "length of time"),
    ] {
        let error = connect(url).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    let settings = Settings::new("[queues.orders]", [("capcity", "1")]);
    let destination = DestinationSettings { driver: settings, ..Default::default() };
    let options = ConnectOptions::new(BrokerUrl::parse("memory://").unwrap())
        .with_destination(Destination::Queue(queue()), destination);
    let error = registry.connect(options).await.map(drop).unwrap_err();
    assert!(error.text().contains("[queues.orders]; did you mean \"capacity\"?"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn every_error_names_the_thing_and_the_next_step() {
    let (_server, broker) = open("message_bytes=10");
    let publisher = broker
        .publisher(&Destination::Topic(topic()), PublishOptions::default().with_no_subscriber(NoSubscriber::Refuse))
        .await
        .unwrap();
    let large = publisher.publish(vec![0; 11]).await.unwrap_err();
    let nobody = publisher.publish("x").await.unwrap_err();
    let requester = broker.requester().await.unwrap();
    let asked = requester.request(&queue(), vec![0; 11].into(), seconds(1)).await.unwrap_err();
    assert_eq!(asked.kind(), ErrorKind::TooLarge, "{asked}");
    let missing = broker.inspect().depth(&of_subscription("none")).await.unwrap_err();
    let not_there = broker.repair().unsubscribe(&topic(), &name("none")).await.unwrap_err();
    to_queue(&broker).await;
    let positions = broker.inspect().positions(&of_queue()).await.unwrap_err();
    let expected = [
        (large, ErrorKind::TooLarge, "11 bytes, the limit here is 10"),
        (nobody, ErrorKind::Unroutable, "subscribe first, or publish with no_subscriber = accept"),
        (missing, ErrorKind::NotFound, "subscription \"none\" of topic \"news\" does not exist"),
        (not_there, ErrorKind::NotFound, "subscription \"none\" of topic \"news\" does not exist"),
        (positions, ErrorKind::Unsupported, "a queue has no log; a durable subscription of a topic has one"),
    ];
    for (error, kind, part) in expected {
        assert_eq!(error.kind(), kind, "{error}");
        let shown = error.to_string();
        assert!(shown.contains(part) && shown.contains("broker \"main\", driver memory"), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledging_many_takes_effect_at_the_call_and_counts_the_stale() {
    let (_server, broker) = open("");
    let publisher = to_queue(&broker).await;
    for n in 0..4 {
        publisher.publish(n.to_string()).await.unwrap();
    }
    let (mut one, mut two) = (from_queue(&broker, 2).await, from_queue(&broker, 2).await);
    let mut held = one.next_many(2).await.unwrap();
    held.extend(two.next_many(2).await.unwrap());
    drop(two);
    assert_eq!(Delivery::ack_all(held).await.unwrap(), Acked { acked: 2, stale: 2 });
    let held = one.next_many(2).await.unwrap();
    drop(Delivery::ack_all(held));
    assert_eq!(depth(&broker, &of_queue()).await.open(), 0);
    assert_eq!(broker.repair().redrive(&of_queue(), Redrive::All).await.unwrap(), 0);
}
