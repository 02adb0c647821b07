//! The test vectors of `docs/wire-format.md`, compared with a real broker by the raw client, and what others write.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use messaging_core::wire::{self, to_millis};
use messaging_core::{
    BrokerUrl, ConnectOptions, ConsumeOptions, DeadLetterReason, Destination, Message, Namespace, PublishOptions,
    PublisherExt, QueueName, Registry, Source,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::{connect, fresh, run, server};

fn main() -> ExitCode {
    run(&[
        ("the_test_vectors_are_what_is_written", || Box::pin(vectors())),
        ("copies_are_written_as_the_page_says", || Box::pin(copies())),
        ("replies_are_written_as_the_page_says", || Box::pin(replies())),
        ("what_others_write_by_the_page_is_read", || Box::pin(read_back())),
        ("a_foreign_record_is_read_and_copied_to_the_byte", || Box::pin(foreign())),
        ("copies_keep_properties_and_every_header_to_the_byte", || Box::pin(copies_of_odd())),
        ("a_received_message_that_is_rebuilt_is_what_the_builder_says", || Box::pin(rebuilt())),
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

/// The only record of a topic, and its headers but for those that tell a time, which are returned apart.
fn only(server: &str, topic: &str) -> (OwnedMessage, Vec<(String, String)>, BTreeMap<String, u64>) {
    let mut found = records(server, topic);
    assert_eq!(found.len(), 1, "records of {topic}");
    let record = found.remove(0);
    let is_time = |name: &str| ["messaging-due", "messaging-expires", "messaging-dead-at"].contains(&name);
    let (times, rest): (Vec<_>, Vec<_>) = headers(&record).into_iter().partition(|(name, _)| is_time(name));
    let times = times.into_iter().map(|(name, value)| (name, value.parse().expect("milliseconds"))).collect();
    (record, rest, times)
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Whether a time in milliseconds is about so long from now.
fn is_in(time: Option<&u64>, by: Duration) -> bool {
    let wanted = to_millis(SystemTime::now() + by);
    time.is_some_and(|time| time.abs_diff(wanted) < 60_000)
}

async fn copies() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let build = |id: &str| Message::builder("x").id(id).key("customer-7").timestamp(time).header("tenant", "acme");
    let own = [("ce_id", "order/4"), ("tenant", "acme")];
    let queue = |stem| QueueName::parse(fresh(stem));
    let (delayed, retried, dead) = (queue("delayed")?, queue("retried")?, queue("dead")?);

    // Published for later.
    let publisher = broker.publisher(&Destination::Queue(delayed.clone()), PublishOptions::default()).await?;
    publisher.publish(build("order/4").delay(HOUR).ttl(2 * HOUR).build()?).await?;
    let (server, topic) = (bootstrap(&url).to_owned(), format!("{}--retry", delayed.as_str()));
    let (record, rest, times) = tokio::task::spawn_blocking(move || only(&server, &topic)).await?;
    assert_eq!((record.key(), record.payload()), (Some(b"customer-7".as_slice()), Some(b"x".as_slice())));
    assert_eq!(record.timestamp().to_millis(), Some(1_700_000_000_123));
    assert_eq!(rest, pairs(&own));
    assert!(is_in(times.get("messaging-due"), HOUR) && is_in(times.get("messaging-expires"), 2 * HOUR), "{times:?}");

    // Tried, and to be tried again later.
    let mut consumer = broker.consume(&retried, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&Destination::Queue(retried.clone()), PublishOptions::default()).await?;
    let now = SystemTime::now();
    publisher.publish(build("order/4").timestamp(now).ttl(2 * HOUR).build()?).await?;
    consumer.next().await?.ok_or("a delivery")?.retry_after(HOUR).await?;
    let (server, topic) = (bootstrap(&url).to_owned(), format!("{}--retry", retried.as_str()));
    let (record, rest, times) = tokio::task::spawn_blocking(move || only(&server, &topic)).await?;
    assert_eq!((record.key(), record.payload()), (Some(b"customer-7".as_slice()), Some(b"x".as_slice())));
    assert_eq!(record.timestamp().to_millis(), Some(i64::try_from(to_millis(now))?));
    assert_eq!(rest, pairs(&[own[0], own[1], ("messaging-attempts", "1")]));
    assert!(is_in(times.get("messaging-due"), HOUR) && is_in(times.get("messaging-expires"), 2 * HOUR), "{times:?}");

    // Given up.
    let mut consumer = broker.consume(&dead, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&Destination::Queue(dead.clone()), PublishOptions::default()).await?;
    publisher.publish(build("order/4").build()?).await?;
    let reason = DeadLetterReason::new("rejected").with_errors(vec!["no such customer".to_owned(), "404".to_owned()]);
    consumer.next().await?.ok_or("a delivery")?.dead_letter(reason).await?;
    let (server, topic) = (bootstrap(&url).to_owned(), format!("{}--dead", dead.as_str()));
    let (record, rest, times) = tokio::task::spawn_blocking(move || only(&server, &topic)).await?;
    let key = format!("{}/0/0/order/4", dead.as_str());
    assert_eq!((record.key(), record.payload()), (Some(key.as_bytes()), Some(b"x".as_slice())));
    assert_eq!(record.timestamp().to_millis(), Some(1_700_000_000_123));
    let origin = format!("queue:{}", dead.as_str());
    let marks = [
        ("messaging-dead-origin", origin.as_str()),
        ("messaging-dead-reason", "rejected"),
        ("messaging-attempts", "1"),
        ("messaging-dead-errors", r#"["no such customer","404"]"#),
        ("messaging-key", "customer-7"),
    ];
    assert_eq!(rest, pairs(&[own.as_slice(), &marks].concat()));
    assert!(is_in(times.get("messaging-dead-at"), Duration::ZERO), "{times:?}");
    Ok(())
}

async fn replies() -> Checked {
    let server = server().await?;
    let url = server.url();
    let space = fresh("space");
    let options = ConnectOptions::new(BrokerUrl::parse(&url)?).with_namespace(Namespace::parse(&space)?);
    let broker = Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await?;
    let queue = QueueName::parse(fresh("asks"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let requester = broker.requester().await?;
    let asked = requester.request(&queue, Message::from("how much?"), Duration::from_secs(30));
    let answer = async {
        let request = consumer.next().await?.ok_or("a delivery")?;
        let address = request.message().reply_to().ok_or("an address")?.clone();
        let correlation = request.message().correlation_id().ok_or("a correlation id")?.to_owned();
        request.ack().await?;
        let publisher = broker.publisher(&Destination::Reply(address.clone()), PublishOptions::default()).await?;
        publisher.publish(Message::builder("7").id("answer/1").correlation_id(correlation.as_str()).build()?).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((address, correlation))
    };
    let (asked, answered) = tokio::join!(asked, answer);
    let (address, correlation) = answered?;
    assert_eq!(asked?.payload().as_ref(), b"7");

    let parts: Vec<&str> = address.as_str().split('/').collect();
    let topic = format!("{space}--messaging--replies");
    assert_eq!((parts.len(), parts[0]), (3, topic.as_str()), "{address:?}");
    let server = bootstrap(&url).to_owned();
    let (reply, rest, _) = tokio::task::spawn_blocking(move || only(&server, &topic)).await?;
    assert_eq!((reply.partition().to_string().as_str(), reply.key()), (parts[1], Some(parts[2].as_bytes())));
    assert_eq!(rest, pairs(&[("ce_id", "answer/1"), ("messaging-correlation-id", &correlation)]));
    Ok(())
}

async fn read_back() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("by-the-page"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let (now, wait) = (SystemTime::now(), Duration::from_secs(10));
    let millis = |by: Duration| to_millis(now + by).to_string();
    let (expires, due, past) = (millis(HOUR), millis(Duration::from_secs(1)), millis(Duration::ZERO));
    let write = async |part: &str, key: &str, id: &str, extra: &[(&str, &str)]| {
        let mut headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some(id) });
        for (name, value) in extra {
            headers = headers.insert(Header { key: name, value: Some(*value) });
        }
        let topic = format!("{}{part}", queue.as_str());
        let record = FutureRecord::to(&topic).key(key).payload("x").headers(headers);
        let record = record.timestamp(i64::try_from(to_millis(now)).unwrap_or_default());
        raw(bootstrap(&url)).send(record, wait).await.map_err(|(error, _)| error)
    };

    // A copy that was tried, and has a time to live.
    let extra = [("messaging-attempts", "2"), ("messaging-redriven", "1"), ("messaging-expires", expires.as_str())];
    write("", "customer-7", "order/5", &extra).await?;
    let delivery = consumer.next().await?.ok_or("a delivery")?;
    assert_eq!((delivery.attempt(), delivery.redriven()), (3, 1));
    let message = delivery.message();
    assert_eq!((message.id().to_string().as_str(), message.key()), ("order/5", Some("customer-7")));
    assert_eq!((message.ttl(), message.headers().iter().count()), (Some(HOUR), 0));
    delivery.ack().await?;

    // One that has expired, and behind it one that is due soon.
    write("--retry", "customer-7", "order/6", &[("messaging-expires", past.as_str())]).await?;
    write("--retry", "customer-7", "order/7", &[("messaging-due", due.as_str())]).await?;
    let delivery = consumer.next().await?.ok_or("a delivery")?;
    assert_eq!(delivery.message().id().to_string(), "order/7");
    // To the millisecond: what is written has no more.
    assert!(to_millis(SystemTime::now()) >= to_millis(now + Duration::from_secs(1)), "it came early");
    delivery.ack().await?;

    // A dead letter.
    let extra = [
        ("messaging-dead-origin", "subscription:weather/dashboard"),
        ("messaging-dead-reason", "decode"),
        ("messaging-dead-errors", r#"["no number","4x"]"#),
        ("messaging-dead-at", past.as_str()),
        ("messaging-attempts", "5"),
        ("messaging-key", "customer-7"),
        ("tenant", "acme"),
    ];
    write("--dead", "order/8/0", "order/8", &extra).await?;
    let letters = broker.inspect().dead_letters(&Source::Queue(queue.clone()), 10).await?;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.message.id().to_string().as_str(), letter.message.key()), ("order/8", Some("customer-7")));
    assert_eq!((letter.attempts, letter.redriven, to_millis(letter.at)), (5, 0, to_millis(now)));
    assert_eq!(letter.origin.to_string(), wire::read_source("subscription:weather/dashboard")?.to_string());
    assert_eq!((letter.reason.code.as_ref(), letter.reason.errors.len()), ("decode", 2));
    let own: Vec<_> =
        letter.message.headers().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assert_eq!(own, pairs(&[("tenant", "acme")]));
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
    broker.repair().redrive(&Source::Queue(queue.clone()), messaging_core::Redrive::All).await?;
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

/// Headers of a record as they lie there, but for those that copies add.
fn without_additions(record: &OwnedMessage) -> Vec<(String, Option<Vec<u8>>)> {
    let added = [wire::ATTEMPTS, wire::DUE, wire::REDRIVEN, wire::KEY];
    let all = record.headers().into_iter().flat_map(|all| all.iter());
    all.filter(|one| !added.contains(&one.key) && !one.key.starts_with("messaging-dead-"))
        .map(|one| (one.key.to_owned(), one.value.map(<[u8]>::to_vec)))
        .collect()
}

async fn copies_of_odd() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("odd"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let pairs: [(&str, Option<&[u8]>); 8] = [
        ("traceId", Some(b"abc")),
        ("ce_id", Some(b"\xff")),
        ("messaging-correlation-id", Some(b"c-9")),
        ("messaging-reply-to", Some(b"topic/0/me")),
        ("content-type", Some(b"application/json")),
        ("messaging-header-content-type", Some(b"own")),
        ("messaging-of-others", Some(b"kept")),
        ("none", None),
    ];
    let headers = pairs.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    let original: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec))).collect();
    let record = FutureRecord::to(queue.as_str()).key("k1").payload("x").timestamp(1_700_000_000_123).headers(headers);
    raw(bootstrap(&url)).send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;

    let first = consumer.next().await?.ok_or("a delivery")?;
    let id = first.message().id().clone();
    first.retry_after(Duration::from_millis(100)).await?;
    let second = consumer.next().await?.ok_or("a delivery")?;
    second.dead_letter("rejected").await?;
    let source = Source::Queue(queue.clone());
    broker.repair().redrive(&source, messaging_core::Redrive::All).await?;
    let third = consumer.next().await?.ok_or("a delivery")?;
    for message in [third.message(), &broker_copy(&third)] {
        assert_eq!(message.correlation_id(), Some("c-9"));
        assert_eq!(message.reply_to().map(|to| to.as_str()), Some("topic/0/me"));
        assert_eq!(
            (message.content_type(), message.headers().get("content-type")),
            (Some("application/json"), Some("own"))
        );
        assert_eq!((message.key(), message.id()), (Some("k1"), &id));
        assert_eq!(to_millis(message.timestamp()), 1_700_000_000_123);
    }
    for part in ["--retry", "--dead"] {
        let (server, topic) = (bootstrap(&url).to_owned(), format!("{}{part}", queue.as_str()));
        let copies = tokio::task::spawn_blocking(move || records(&server, &topic)).await?;
        for copy in copies.iter().filter(|copy| copy.payload().is_some()) {
            let mut kept = without_additions(copy);
            // The id that the message was shown under goes beside the one that cannot be read.
            kept.retain(|(name, _)| name != wire::ID);
            assert_eq!(kept, original, "{part}");
            assert_eq!(copy.timestamp().to_millis(), Some(1_700_000_000_123), "{part}");
        }
    }
    Ok(())
}

/// The message itself, as an application keeps it.
fn broker_copy(delivery: &messaging_core::Delivery) -> Message {
    delivery.message().clone()
}

async fn rebuilt() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let (queue, other) = (QueueName::parse(fresh("received"))?, QueueName::parse(fresh("rebuilt"))?);
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let publisher = broker.publisher(&Destination::Queue(other.clone()), PublishOptions::default()).await?;
    let producer = raw(bootstrap(&url));
    let wait = Duration::from_secs(10);
    let odd = OwnedHeaders::new()
        .insert(Header { key: "ce_id", value: Some("o-1") })
        .insert(Header { key: "traceId", value: Some("abc") });
    let record = FutureRecord::to(queue.as_str()).key("k1").payload("plain").headers(odd);
    producer.send(record, wait).await.map_err(|(error, _)| error)?;
    let null = FutureRecord::<[u8], [u8]>::to(queue.as_str()).key(b"k1".as_slice());
    producer.send(null, wait).await.map_err(|(error, _)| error)?;
    for number in 0..2 {
        let delivery = consumer.next().await?.ok_or("a delivery")?;
        let built = delivery.message().to_builder().id("new-id").key("new-key").header("added", "1");
        let built = built.correlation_id("new-corr").message_type("new.type").payload(format!("enriched {number}"));
        publisher.publish(built.build()?).await?;
        delivery.ack().await?;
    }
    let server = bootstrap(&url).to_owned();
    let found = tokio::task::spawn_blocking(move || records(&server, other.as_str())).await?;
    assert_eq!(found.len(), 2);
    for (number, record) in found.iter().enumerate() {
        assert_eq!(record.payload(), Some(format!("enriched {number}").as_bytes()));
        assert_eq!(record.key(), Some(b"new-key".as_slice()));
        let headers = headers(record);
        for pair in
            [("ce_id", "new-id"), ("ce_type", "new.type"), ("messaging-correlation-id", "new-corr"), ("added", "1")]
        {
            let pair = (pair.0.to_owned(), pair.1.to_owned());
            assert!(headers.contains(&pair), "{pair:?} is not among {headers:?}");
        }
        assert!(!headers.iter().any(|(name, _)| name == "traceId"), "{headers:?}");
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
    let dead = broker.inspect().dead_letters(&source, 10).await?;
    assert!(dead.len() == 1 && adapter_kafka::is_tombstone(&dead[0].message));
    broker.repair().redrive(&source, messaging_core::Redrive::All).await?;
    let again = consumer.next().await?.ok_or("a delivery")?;
    assert!(adapter_kafka::is_tombstone(again.message()));
    assert_eq!(again.message().key(), Some("gone"));
    Ok(())
}

/// Java's `Utils.toPositive(Utils.murmur2(key)) % 12` for some keys, as Kafka's own partitioner computes it.
const JAVA: [(&str, i32); 9] = [
    ("customer-7", 7),
    ("a", 4),
    ("schlüssel", 0),
    // Those that Kafka's own client is tested with.
    ("21", 0),
    ("foobar", 6),
    ("a-little-bit-long-string", 8),
    ("a-little-bit-longer-string", 11),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 5),
    ("abc", 3),
];

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
