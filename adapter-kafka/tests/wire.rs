//! The test vectors of `docs/wire-format.md`, compared with a real broker by the raw client, and what others write.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use messaging_core::{ConsumeOptions, Destination, Message, PublishOptions, PublisherExt, QueueName, Source};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::{connect, fresh, run, server};

fn main() -> ExitCode {
    run(&[
        ("the_test_vectors_are_what_is_written", || Box::pin(vectors())),
        ("a_foreign_record_is_read_and_copied_to_the_byte", || Box::pin(foreign())),
        ("a_tombstone_is_not_an_empty_payload", || Box::pin(tombstone())),
        ("a_key_goes_where_java_puts_it", || Box::pin(partitions())),
    ])
}

type Checked = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Every record of a topic, partition by partition.
fn records(server: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", server).set("group.id", "raw").create().expect("a raw client");
    let wait = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), wait).expect("metadata");
    let count = metadata.topics()[0].partitions().len();
    let mut places = TopicPartitionList::new();
    let mut expected = 0;
    for number in 0..i32::try_from(count).expect("few partitions") {
        let (low, high) = consumer.fetch_watermarks(topic, number, wait).expect("watermarks");
        expected += usize::try_from(high - low).expect("few records");
        places.add_partition_offset(topic, number, Offset::Offset(low)).expect("an offset");
    }
    consumer.assign(&places).expect("an assignment");
    drop(places);
    let mut found = Vec::new();
    while found.len() < expected {
        if let Some(Ok(record)) = consumer.poll(wait) {
            found.push(record.detach());
        }
    }
    found
}

fn headers(record: &OwnedMessage) -> Vec<(String, String)> {
    let all = record.headers().into_iter().flat_map(|headers| headers.iter());
    all.map(|one| (one.key.to_owned(), String::from_utf8_lossy(one.value.unwrap_or_default()).into_owned())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn bootstrap(url: &str) -> &str {
    url.trim_start_matches("kafka://")
}

async fn vectors() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = fresh("orders");
    let publisher = broker.publisher(&Destination::queue(&queue)?, PublishOptions::default()).await?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let plain = Message::builder("hello").id("order/1").timestamp(at).build()?;
    let full = Message::builder("")
        .id("order/2")
        .key("customer-7")
        .message_type("order.placed")
        .subject("eu.created")
        .content_type("application/json")
        .correlation_id("r-1")
        .header("tenant", "acme")
        .build()?;
    let own = Message::builder("x").id("order/3").header("content-type", "own").build()?;
    for message in [plain, full, own] {
        publisher.publish(message).await?;
    }

    let found = tokio::task::spawn_blocking(move || records(bootstrap(&url), &queue)).await?;

    assert_eq!(found.len(), 3);
    assert_eq!((found[0].key(), found[0].payload()), (None, Some(b"hello".as_slice())));
    assert_eq!(found[0].timestamp().to_millis(), Some(1_700_000_000_123));
    assert_eq!(headers(&found[0]), pairs(&[("ce_id", "order/1")]));
    assert_eq!((found[1].key(), found[1].payload()), (Some(b"customer-7".as_slice()), Some(b"".as_slice())));
    let expected = [
        ("ce_id", "order/2"),
        ("ce_type", "order.placed"),
        ("ce_subject", "eu.created"),
        ("content-type", "application/json"),
        ("messaging-correlation-id", "r-1"),
        ("tenant", "acme"),
    ];
    assert_eq!(headers(&found[1]), pairs(&expected));
    assert_eq!(headers(&found[2]), pairs(&[("ce_id", "order/3"), ("messaging-header-content-type", "own")]));
    Ok(())
}

fn raw(server: &str) -> FutureProducer {
    ClientConfig::new().set("bootstrap.servers", server).create().expect("a raw client")
}

async fn foreign() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("foreign"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let odd = OwnedHeaders::new()
        .insert(Header { key: "X-Größe", value: Some(b"\xff\xfe".as_slice()) })
        .insert(Header { key: "same", value: Some(b"first".as_slice()) })
        .insert(Header { key: "same", value: Some(b"last".as_slice()) })
        .insert(Header { key: "none", value: None::<&[u8]> });
    let record = FutureRecord::to(queue.as_str()).key(b"\x00\xff".as_slice()).payload(b"\x80".as_slice()).headers(odd);
    raw(bootstrap(&url)).send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;

    let delivery = consumer.next().await?.ok_or("a delivery")?;
    let message = delivery.message().clone();
    assert_eq!(message.payload().as_ref(), b"\x80");
    assert_eq!(message.headers().get("same"), Some("last"));
    assert_eq!(message.id().to_string(), format!("{}/0/0", queue.as_str()));
    // A copy, by the dead letter, and back.
    delivery.dead_letter("rejected").await?;
    broker.admin().redrive(&Source::Queue(queue.clone()), messaging_core::Redrive::All).await?;
    let again = consumer.next().await?.ok_or("a delivery")?;
    assert_eq!((again.redriven(), again.message().id()), (1, message.id()));

    let retry = format!("{}--retry", queue.as_str());
    let copies = tokio::task::spawn_blocking(move || records(bootstrap(&url), &retry)).await?;
    let copy = copies.last().ok_or("a copy")?;
    assert_eq!((copy.key(), copy.payload()), (Some(b"\x00\xff".as_slice()), Some(b"\x80".as_slice())));
    let kept: Vec<_> = copy
        .headers()
        .into_iter()
        .flat_map(|all| all.iter())
        .map(|one| (one.key.to_owned(), one.value.map(<[u8]>::to_vec)))
        .collect();
    for (name, value) in [("X-Größe", Some(b"\xff\xfe".to_vec())), ("same", Some(b"first".to_vec())), ("none", None)]
    {
        assert!(kept.contains(&(name.to_owned(), value)), "{name} is not among {kept:?}");
    }
    Ok(())
}

async fn tombstone() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("tombs"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let producer = raw(bootstrap(&url));
    let null = FutureRecord::<[u8], [u8]>::to(queue.as_str()).key(b"gone".as_slice());
    producer.send(null, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    let empty = FutureRecord::<[u8], [u8]>::to(queue.as_str()).key(b"empty".as_slice()).payload(b"".as_slice());
    producer.send(empty, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;

    let first = consumer.next().await?.ok_or("a delivery")?;
    let second = consumer.next().await?.ok_or("a delivery")?;
    assert!(adapter_kafka::is_tombstone(first.message()) && first.message().payload().is_empty());
    assert!(!adapter_kafka::is_tombstone(second.message()) && second.message().payload().is_empty());
    second.ack().await?;
    // A tombstone stays one through the dead letter, where a null value would delete it.
    first.dead_letter("rejected").await?;
    let source = Source::Queue(queue);
    let dead = broker.admin().dead_letters(&source, 10).await?;
    assert!(dead.len() == 1 && adapter_kafka::is_tombstone(&dead[0].message));
    broker.admin().redrive(&source, messaging_core::Redrive::All).await?;
    let again = consumer.next().await?.ok_or("a delivery")?;
    assert!(adapter_kafka::is_tombstone(again.message()));
    assert_eq!(again.message().key(), Some("gone"));
    Ok(())
}

/// Java's `Utils.toPositive(Utils.murmur2(key)) % 12` for some keys, as Kafka's own partitioner computes it.
const JAVA: [(&str, i32); 3] = [("customer-7", 7), ("a", 4), ("schlüssel", 0)];

async fn partitions() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "12")]).await?;
    let publisher = broker.publisher(&Destination::queue(fresh("keys"))?, PublishOptions::default()).await?;
    for (key, partition) in JAVA {
        let receipt = publisher.publish(Message::builder("x").key(key).build()?).await?;
        let position = receipt.position.ok_or("a position")?;
        assert_eq!((key, position.partition), (key, partition.unsigned_abs()));
    }
    Ok(())
}
