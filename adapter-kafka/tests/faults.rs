//! What the suite does not ask for: dead brokers and threads, topology differences, the older group protocols, new partitions.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use integration_tests::{Kind, Way, own, own_by};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Destination, DestinationSettings, ErrorKind,
    ErrorOutcome, HealthState, Message, PublishOptions, Publisher, PublisherExt, QueueName, Receipt, Registry,
    Settings, SubscribeOptions, SubscriptionName, TopicName, TopologyMode,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use support::{connect, fresh, run, server};

fn main() -> ExitCode {
    run(&[
        ("closing_with_a_silent_broker_ends_in_time_and_leaves_no_thread", || Box::pin(close_in_silence())),
        ("verifying_lists_every_difference", || Box::pin(differences())),
        ("verifying_names_all_that_is_missing", || Box::pin(nothing_there())),
        ("what_is_made_is_as_asked_for", || Box::pin(made_as_asked())),
        ("publishers_use_the_partitions_that_there_are", || Box::pin(growing_while_published_to())),
        ("what_the_broker_finds_too_large_was_not_sent", || Box::pin(too_large())),
        ("more_copies_than_brokers_are_refused", || Box::pin(too_many_copies())),
        ("the_classic_protocol_shares_and_hands_over", || Box::pin(older("classic"))),
        ("the_cooperative_protocol_shares_and_hands_over", || Box::pin(older("cooperative"))),
        ("without_the_new_protocol_the_classic_one_is_taken", || Box::pin(fall_back())),
        ("partitions_that_are_added_are_read_from_their_beginning", || Box::pin(added_partitions())),
    ])
}

type Checked = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The threads of this process that belong to librdkafka or to the adapter.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("linux");
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("kafka-") || name.starts_with("rdk:"))
        .collect()
}

async fn close_in_silence() -> Checked {
    let server = own(Kind::Kafka).await?;
    let before = threads().len();
    let broker = connect(&server.url(), []).await?;
    let queue = QueueName::parse(fresh("silent"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
    publisher.publish("held").await?;
    let held = consumer.next().await?.ok_or("a delivery")?;
    held.ack().await?;
    publisher.publish("open").await?;
    let open = consumer.next().await?.ok_or("a delivery")?;

    server.pause().await?;
    let silent = Instant::now();
    while broker.health().state == HealthState::Up {
        assert!(silent.elapsed() < Duration::from_secs(10), "health is up for 10 s of silence");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let unsent = publisher.send("nobody takes it".into(), messaging_core::Permit::none());
    let begun = Instant::now();
    let report = broker.close(tokio::time::Instant::now() + Duration::from_secs(2)).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "closing took {:?}", begun.elapsed());
    assert_eq!(report.abandoned, 1, "{report:?}");
    let unsent = unsent.await.err().ok_or("a message that nobody took is confirmed")?;
    assert!(matches!(unsent.kind(), ErrorKind::Closed | ErrorKind::Disconnected | ErrorKind::Timeout), "{unsent}");
    drop((open, consumer, publisher, broker));

    // librdkafka lets go after its own time limits.
    let begun = Instant::now();
    while threads().len() > before {
        assert!(begun.elapsed() < Duration::from_secs(60), "threads are left: {:?}", threads());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.resume().await?;
    Ok(())
}

/// The client that operators have.
fn operator(url: &str) -> Result<AdminClient<DefaultClientContext>, rdkafka::error::KafkaError> {
    ClientConfig::new().set("bootstrap.servers", url.trim_start_matches("kafka://")).create()
}

async fn make(url: &str, topics: &[NewTopic<'_>]) -> Checked {
    for made in operator(url)?.create_topics(topics, &AdminOptions::new()).await? {
        made.map_err(|(name, code)| format!("{name}: {code}"))?;
    }
    Ok(())
}

async fn grow(url: &str, topic: &str, to: usize) -> Checked {
    for made in operator(url)?.create_partitions(&[NewPartitions::new(topic, to)], &AdminOptions::new()).await? {
        made.map_err(|(name, code)| format!("{name}: {code}"))?;
    }
    Ok(())
}

async fn opened_by(
    url: &str,
    mode: TopologyMode,
    to: &Destination,
    asked: &[(&str, &str)],
) -> messaging_core::Result<Arc<dyn Publisher>> {
    let driver = Settings::new("here", asked.iter().copied());
    let settings = DestinationSettings { driver, ..DestinationSettings::default() };
    let options = ConnectOptions::new(BrokerUrl::parse(url)?).with_topology(mode);
    let options = options.with_destination(to.clone(), settings);
    let broker = Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await?;
    broker.publisher(to, PublishOptions::default()).await
}

async fn differences() -> Checked {
    let server = server().await?;
    let queue = fresh("differs");
    let (retry, dead) = (format!("{queue}--retry"), format!("{queue}--dead"));
    let one = || TopicReplication::Fixed(1);
    let main = NewTopic::new(&queue, 2, one()).set("retention.ms", "86400000").set("max.message.bytes", "1000000");
    // As somebody makes them who knows nothing of what they are for.
    let retried = NewTopic::new(&retry, 1, one()).set("retention.ms", "60000").set("max.message.bytes", "3000000");
    let letters = NewTopic::new(&dead, 1, one()).set("max.message.bytes", "3000000");
    make(&server.url(), &[main, retried, letters]).await?;
    let asked = [
        ("partitions", "3"),
        ("retention", "2days"),
        ("compaction", "true"),
        ("replication", "3"),
        ("message_bytes", "2000000"),
    ];
    let compaction = "compaction (cleanup.policy) is delete, asked for is compact";
    let expected = [
        (
            &queue,
            format!(
                "partitions is 2, asked for is 3, replication is 1, asked for is 3, retention (retention.ms) is 86400000, \
                 asked for is 172800000, {compaction}, message_bytes (max.message.bytes) is 1000000, asked for are at \
                 least 2065536"
            ),
        ),
        (
            &retry,
            "partitions is 1, asked for is 3, replication is 1, asked for is 3, retention (retention.ms) is 60000, \
             asked for is -1"
                .to_owned(),
        ),
        (&dead, format!("replication is 1, asked for is 3, {compaction}")),
    ];
    for mode in [TopologyMode::Verify, TopologyMode::Create] {
        let opened = opened_by(&server.url(), mode, &Destination::queue(&queue)?, &asked).await;
        let error = opened.err().ok_or("an error")?;
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        for (topic, differences) in &expected {
            let difference = format!("topic {topic:?} differs: {differences};");
            assert!(error.text().contains(&difference), "{difference:?} is not in {error}");
        }
    }
    // What is not said may be anything, and the rest has to fit all the same.
    let opened = opened_by(&server.url(), TopologyMode::Verify, &Destination::queue(&queue)?, &[]).await;
    let error = opened.err().ok_or("an error")?;
    let is_named = |topic: &str| error.text().contains(&format!("topic {topic:?} differs"));
    assert_eq!((is_named(&queue), is_named(&retry), is_named(&dead)), (false, true, true), "{error}");
    Ok(())
}

async fn nothing_there() -> Checked {
    let server = server().await?;
    let queue = fresh("unknown");
    let begun = Instant::now();
    let opened = opened_by(&server.url(), TopologyMode::Verify, &Destination::queue(&queue)?, &[]).await;
    let error = opened.err().ok_or("an error")?;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for topic in [queue.clone(), format!("{queue}--retry"), format!("{queue}--dead")] {
        assert!(error.text().contains(&format!("{topic:?}")), "{topic} is not in {error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    Ok(())
}

async fn made_as_asked() -> Checked {
    let server = server().await?;
    let queue = fresh("kept");
    let asked = [("retention", "7days"), ("compaction", "true"), ("partitions", "2"), ("message_bytes", "2000000")];
    for mode in [TopologyMode::Create, TopologyMode::Verify, TopologyMode::Verify] {
        drop(opened_by(&server.url(), mode, &Destination::queue(&queue)?, &asked).await?);
    }
    let (retry, dead) = (format!("{queue}--retry"), format!("{queue}--dead"));
    let week = "604800000";
    let expected = [
        (&queue, [("retention.ms", week), ("cleanup.policy", "compact"), ("max.message.bytes", "2065536")].to_vec()),
        (&retry, [("retention.ms", "-1"), ("cleanup.policy", "delete"), ("max.message.bytes", "2065536")].to_vec()),
        (&dead, [("cleanup.policy", "compact"), ("max.message.bytes", "2065536")].to_vec()),
    ];
    let operator = operator(&server.url())?;
    for (topic, values) in expected {
        let described = operator.describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await?;
        let described = described.into_iter().next().ok_or("an answer")??;
        let described = described.entry_map();
        for (key, value) in values {
            assert_eq!(described[key].value.as_deref(), Some(value), "{key} of {topic}");
        }
    }
    Ok(())
}

/// Messages without a key go to each partition in turn: to those that there are, and to those that come.
async fn growing_while_published_to() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let topic = fresh("grown");
    let to = Destination::topic(&topic)?;
    let early = broker.publisher(&to, PublishOptions::default()).await?;
    grow(&url, &topic, 4).await?;
    // Opened later, it knows four partitions, and one for what is delayed.
    let late = connect(&url, []).await?.publisher(&to, PublishOptions::default()).await?;
    for number in 0..8 {
        let delayed = Message::builder(number.to_string()).delay(Duration::from_millis(100)).build()?;
        late.publish(delayed).await?;
    }
    let partition = |receipt: Receipt| receipt.position.map(|position| position.partition);
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        seen.extend(partition(late.publish("now").await?));
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2, 3]));
    // The other looks every half minute.
    let begun = Instant::now();
    while partition(early.publish("now and then").await?) == Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing has gone to the new partitions");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The topic takes less than the configuration allows.
async fn too_large() -> Checked {
    let server = server().await?;
    let queue = fresh("small");
    let small = NewTopic::new(&queue, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "10000");
    make(&server.url(), &[small]).await?;
    let broker = connect(&server.url(), [("compression", "none")]).await?;
    let publisher = broker.publisher(&Destination::queue(&queue)?, PublishOptions::default()).await?;
    let begun = Instant::now();
    let error = publisher.publish(Message::from(vec![7; 20_000])).await.err().ok_or("20,000 bytes in 10,000")?;
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::TooLarge, ErrorOutcome::NotSent), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    // It stands in nobody's way.
    publisher.publish("small enough").await?;
    Ok(())
}

async fn too_many_copies() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("replication", "7")]).await?;
    let begun = Instant::now();
    let opened = broker.publisher(&Destination::queue(fresh("copies"))?, PublishOptions::default()).await;
    let error = opened.err().ok_or("an error")?;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    Ok(())
}

async fn take(consumer: &mut Consumer) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await??;
    let delivery = next.ok_or("a delivery")?;
    let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
    delivery.ack().await?;
    Ok(text)
}

async fn older(protocol: &str) -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("group_protocol", protocol), ("session_timeout", "6s")]).await?;
    share_and_hand_over(&*broker, QueueName::parse(fresh("older"))?).await
}

/// On a broker whose coordinator does not know the new protocol.
async fn fall_back() -> Checked {
    let server = own_by(Kind::Kafka, Way::Native).await?;
    let features = "org.apache.kafka.tools.FeatureCommand";
    server.administer(&[features, "downgrade", "--feature", "group.version=0"]).await?;
    let broker = connect(&server.url(), [("session_timeout", "6s")]).await?;
    let queue = QueueName::parse(fresh("falls-back"))?;
    share_and_hand_over(&*broker, queue.clone()).await?;
    // Not by the new protocol all the same.
    let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let classic = server.administer(&[groups, "--list", "--type", "classic"]).await?;
    let is_classic = classic.lines().any(|line| line.split_whitespace().next() == Some(queue.as_str()));
    assert!(is_classic, "the classic groups are {classic:?}");

    // A durable subscription, and one without a group.
    let topic = TopicName::parse(fresh("falls-back"))?;
    let durable = SubscribeOptions::durable(SubscriptionName::parse("audit")?);
    let mut durable = broker.subscribe(&topic, durable).await?;
    let mut ephemeral = broker.subscribe(&topic, SubscribeOptions::ephemeral()).await?;
    broker.publisher(&Destination::Topic(topic), PublishOptions::default()).await?.publish("told").await?;
    for consumer in [&mut durable, &mut ephemeral] {
        assert_eq!(take(consumer).await?, "told");
    }
    Ok(())
}

/// Two members share, one leaves, the other gets the rest: each message once.
async fn share_and_hand_over(broker: &dyn Broker, queue: QueueName) -> Checked {
    let mut first = broker.consume(&queue, ConsumeOptions::default().with_prefetch(1)).await?;
    let mut second = broker.consume(&queue, ConsumeOptions::default().with_prefetch(1)).await?;
    let publisher = broker.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
    for number in 0..30 {
        publisher.publish(number.to_string()).await?;
    }
    // The cooperative assignor shares the topics of a group as one heap: either may have all of the queue itself.
    let mut got = Vec::new();
    while got.len() < 10 {
        let next = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::select! { next = first.next() => next, next = second.next() => next }
        });
        let delivery = next.await??.ok_or("a delivery")?;
        got.push(String::from_utf8_lossy(delivery.message().payload()).into_owned());
        delivery.ack().await?;
    }
    let report = second.close(Duration::from_secs(10)).await;
    assert!(report.errors.is_empty(), "{report:?}");
    while got.len() < 30 {
        got.push(take(&mut first).await?);
    }
    got.sort_by_key(|text| text.parse::<u32>().unwrap_or(u32::MAX));
    assert_eq!(got, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
    Ok(())
}

async fn added_partitions() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("grows"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    grow(&url, queue.as_str(), 4).await?;
    let larger = connect(&url, []).await?;
    let publisher = larger.publisher(&Destination::Queue(queue), PublishOptions::default()).await?;
    for number in 0..8 {
        publisher.publish(Message::new(number.to_string())).await?;
    }
    let mut got = Vec::new();
    for _ in 0..8 {
        // A client looks for new partitions every half minute.
        let next = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await??;
        let delivery = next.ok_or("a delivery")?;
        got.push(String::from_utf8_lossy(delivery.message().payload()).into_owned());
        delivery.ack().await?;
    }
    got.sort();
    assert_eq!(got, (0..8).map(|number| number.to_string()).collect::<Vec<_>>());
    Ok(())
}
