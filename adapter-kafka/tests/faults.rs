//! What the suite does not ask for: dead brokers and threads, topology differences, the older group protocols, new partitions.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use integration_tests::{Kind, Way, own, own_by};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Delivery, Destination, DestinationSettings, ErrorKind,
    ErrorOutcome, Event, HealthState, Message, PublishOptions, Publisher, PublisherExt, QueueName, Receipt, Received,
    Registry, Settings, Source, Start, SubscribeOptions, SubscriptionName, TopicName, TopologyMode,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use support::{connect, fresh, run, server};

fn main() -> ExitCode {
    run(&[
        ("closing_with_a_silent_broker_ends_in_time_and_leaves_no_thread", || Box::pin(close_in_silence())),
        ("while_a_broker_closes_what_was_started_is_settled_for_good", || Box::pin(settled_while_closing())),
        ("verifying_lists_every_difference", || Box::pin(differences())),
        ("verifying_names_all_that_is_missing", || Box::pin(nothing_there())),
        ("what_is_made_is_as_asked_for", || Box::pin(made_as_asked())),
        ("publishers_use_the_partitions_that_there_are", || Box::pin(growing_while_published_to())),
        ("what_the_broker_finds_too_large_was_not_sent", || Box::pin(too_large())),
        ("whatever_a_topic_takes_its_copies_take", || Box::pin(large_and_early())),
        ("a_message_that_cannot_be_copied_is_held_back_and_named", || Box::pin(uncopied())),
        ("an_offset_that_is_not_there_is_refused_or_a_gap", || Box::pin(offsets_not_there())),
        ("more_copies_than_brokers_are_refused", || Box::pin(too_many_copies())),
        ("the_classic_protocol_shares_and_hands_over", || Box::pin(older("classic"))),
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
    let unsent = publisher.send("nobody takes it".into(), messaging_core::spi::Permit::none());
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
/// Handlers that run while a broker closes retry, dead-letter and publish as ever.
async fn settled_while_closing() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, []).await?;
    let queue = QueueName::parse(fresh("closing"))?;
    let to = Destination::Queue(queue.clone());
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&to, PublishOptions::default()).await?;
    for text in ["retried", "failed"] {
        publisher.publish(text).await?;
    }
    let mut started = Vec::new();
    while started.len() < 2 {
        let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await??;
        started.push(next.ok_or("a delivery")?);
    }
    let closing = Arc::clone(&broker);
    let by = tokio::time::Instant::now() + Duration::from_secs(20);
    let closed = tokio::spawn(async move { closing.close(by).await });
    while broker.publisher(&to, PublishOptions::default()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for delivery in started {
        if delivery.message().payload().as_ref() == b"failed" {
            delivery.dead_letter("rejected").await?;
        } else {
            publisher.publish("by a handler").await?;
            delivery.retry_after(Duration::from_millis(100)).await?;
        }
    }
    let report = closed.await?;
    assert_eq!((report.settled, report.abandoned, report.unconfirmed), (2, 0, 0), "{report:?}");
    assert!(report.errors.is_empty(), "{report:?}");
    let error = publisher.publish("too late").await.err().ok_or("a closed broker has published")?;
    assert_eq!(error.kind(), ErrorKind::Closed);

    let broker = connect(&url, []).await?;
    let letters = broker.inspect().dead_letters(&Source::Queue(queue.clone()), 10).await?;
    assert_eq!(letters.len(), 1);
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let mut texts = [take(&mut consumer).await?, take(&mut consumer).await?];
    texts.sort();
    assert_eq!(texts, ["by a handler", "retried"]);
    Ok(())
}

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
    let (week, any) = ("604800000", "2147483647");
    let expected = [
        (&queue, [("retention.ms", week), ("cleanup.policy", "compact"), ("max.message.bytes", "2065536")].to_vec()),
        (&retry, [("retention.ms", "-1"), ("cleanup.policy", "delete"), ("max.message.bytes", any)].to_vec()),
        (&dead, [("cleanup.policy", "compact"), ("max.message.bytes", any)].to_vec()),
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

/// A record that is larger than any message of ours, and of a time that is still to come: copies of it are made all the same.
async fn large_and_early() -> Checked {
    let server = server().await?;
    let url = server.url();
    let queue = QueueName::parse(fresh("large"))?;
    let large = NewTopic::new(queue.as_str(), 1, TopicReplication::Fixed(1))
        .set("max.message.bytes", "4000000")
        .set("message.timestamp.after.max.ms", "9223372036854775807");
    make(&url, &[large]).await?;
    let broker = connect(&url, []).await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let at = i64::try_from(messaging_core::wire::to_millis(tomorrow))?;
    write_large(&url, queue.as_str(), at).await?;
    let next = async |consumer: &mut Consumer| -> Result<Delivery, Box<dyn std::error::Error + Send + Sync>> {
        Ok(tokio::time::timeout(Duration::from_secs(20), consumer.next()).await??.ok_or("a delivery")?)
    };
    next(&mut consumer).await?.retry_after(Duration::from_millis(50)).await?;
    next(&mut consumer).await?.dead_letter("rejected").await?;
    let source = Source::Queue(queue);
    let letters = broker.inspect().dead_letters(&source, 10).await?;
    assert_eq!(letters.iter().map(|one| one.message.payload().len()).collect::<Vec<_>>(), [LARGE]);
    assert_eq!(messaging_core::wire::to_millis(letters[0].message.timestamp()), u64::try_from(at)?);
    assert_eq!(broker.repair().redrive(&source, messaging_core::Redrive::All).await?, 1);
    let again = next(&mut consumer).await?;
    assert_eq!((again.message().payload().len(), again.redriven()), (LARGE, 1));
    again.ack().await?;
    consumer.control().flush(tokio::time::Instant::now() + Duration::from_secs(10)).await?;
    assert_eq!(broker.inspect().lag(&source).await?, 0);
    Ok(())
}

/// Payload of a record that is larger than what is taken where nothing else is said.
const LARGE: usize = 3_000_000;

async fn write_large(url: &str, topic: &str, at: i64) -> Checked {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", url.trim_start_matches("kafka://"))
        .set("message.max.bytes", "4000000")
        .create()?;
    // No codec makes it smaller.
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let payload: Vec<u8> = std::iter::repeat_with(next).take(LARGE).collect();
    let record = FutureRecord::<[u8], [u8]>::to(topic).payload(&payload).timestamp(at);
    producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    Ok(())
}

/// The dead letter, made by somebody else, takes less than the queue.
async fn uncopied() -> Checked {
    let server = server().await?;
    let url = server.url();
    let queue = QueueName::parse(fresh("pinned"))?;
    let one = || TopicReplication::Fixed(1);
    let dead = format!("{}--dead", queue.as_str());
    let retry = format!("{}--retry", queue.as_str());
    let topics = [
        NewTopic::new(queue.as_str(), 1, one()).set("max.message.bytes", "4000000"),
        NewTopic::new(&retry, 1, one()),
        NewTopic::new(&dead, 1, one()).set("max.message.bytes", "100000"),
    ];
    make(&url, &topics).await?;
    let refused = connect(&url, []).await?.consume(&queue, ConsumeOptions::default()).await;
    let refused = refused.err().ok_or("a listener that cannot copy what it gets has started")?;
    assert_eq!(refused.kind(), ErrorKind::Mismatch);
    assert!(refused.text().contains(&dead) && refused.text().contains("4000000"), "{refused}");

    let options = ConnectOptions::new(BrokerUrl::parse(&url)?).with_topology(TopologyMode::Assume);
    let broker = Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let now = i64::try_from(messaging_core::wire::to_millis(SystemTime::now()))?;
    write_large(&url, queue.as_str(), now).await?;
    let publisher = broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?;
    publisher.publish("small").await?;
    let (mut pauses, mut begun, mut others) = (Vec::new(), Instant::now(), 0);
    while pauses.len() < 5 {
        let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await??;
        let delivery = next.ok_or("a delivery")?;
        if delivery.message().payload().len() < LARGE {
            delivery.ack().await?;
            others += 1;
            continue;
        }
        pauses.push(begun.elapsed());
        begun = Instant::now();
        let error = delivery.dead_letter("rejected").await.err().ok_or("3 MB in 100 kB")?;
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
    assert_eq!(others, 1, "nobody else waits for it");
    assert!(pauses[4] > Duration::from_millis(350) && pauses[4] > pauses[3], "it comes back at once: {pauses:?}");
    let health = broker.health();
    assert_eq!(health.state, HealthState::Degraded);
    let reasons = health.reasons.join("; ");
    for word in [queue.as_str(), "offset 0", dead.as_str(), "message_bytes"] {
        assert!(reasons.contains(word), "{word} is not in {reasons}");
    }
    Ok(())
}

async fn offsets_not_there() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let topic = TopicName::parse(fresh("cut-off"))?;
    let publisher = broker.publisher(&Destination::Topic(topic.clone()), PublishOptions::default()).await?;
    for number in 0..5 {
        publisher.publish(number.to_string()).await?;
    }
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(topic.as_str(), 0, Offset::Offset(3))?;
    operator(&url)?.delete_records(&gone, &AdminOptions::new()).await?;
    let at = |name: &str, offset| -> Result<SubscribeOptions, messaging_core::Error> {
        Ok(SubscribeOptions::durable(SubscriptionName::parse(name)?).with_start(Start::Offset(offset)))
    };
    let refused = broker.subscribe(&topic, at("late", 6)?).await.err().ok_or("an offset past the end")?;
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert!(refused.text().contains("ends at 5"), "{refused}");

    let mut consumer = broker.subscribe(&topic, at("early", 1)?).await?;
    let (mut missed, mut read) = (None, Vec::new());
    while missed.is_none() || read.len() < 2 {
        match tokio::time::timeout(Duration::from_secs(20), consumer.receive()).await?? {
            Some(Received::Event(Event::Gap { missed: count })) => missed = Some(count),
            Some(Received::Event(_)) => {}
            Some(Received::Delivery(delivery)) => {
                read.push(String::from_utf8_lossy(delivery.message().payload()).into_owned());
                delivery.ack().await?;
            }
            None => return Err("it was stopped".into()),
        }
    }
    assert_eq!((missed, read), (Some(Some(2)), vec!["3".to_owned(), "4".to_owned()]));
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
