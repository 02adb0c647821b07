//! The test vectors of `docs/wire-format.md`, compared with a real broker by the plain client, both ways.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{connect, fresh, options, raw, server};
use futures_util::StreamExt;
use integration_tests::cases;
use integration_tests::runner::{Case, Verdict};
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel};
use messaging_core::wire::{from_millis, to_millis};
use messaging_core::{
    Broker, ConsumeOptions, DeadLetterReason, Destination, DestinationSettings, Message, Order, PublishOptions,
    PublisherExt, QueueName, ReplyAddress, Settings, SubscribeOptions, TopicName,
};
use serde_json::{Map, Value};
use tokio::time::timeout;

/// How far the clock may be from what a vector says, with a slow machine between.
const SLACK_MS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        the_vectors_are_what_is_written,
        the_vectors_are_read_as_they_are_written,
        the_page_shows_every_vector,
        a_key_goes_to_its_lane,
        a_copy_keeps_what_is_foreign,
    ]
}

fn vectors() -> Verdict<Vec<Value>> {
    Ok(serde_json::from_str(include_str!("../../../docs/wire/rabbitmq.json"))?)
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

/// The names of one vector's queue and topic.
struct Names {
    queue: String,
    topic: String,
}

impl Names {
    fn fresh() -> Self {
        Self { queue: fresh("orders"), topic: fresh("weather") }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{queue}", &self.queue).replace("{topic}", &self.topic)
    }
}

/// The message that a vector describes.
fn message(of: &Value) -> Verdict<Message> {
    let mut builder = Message::builder(text(of, "payload").to_owned())
        .id(text(of, "id"))
        .timestamp(from_millis(of["timestamp"].as_u64().ok_or("a timestamp")?));
    for (key, value) in of.as_object().ok_or("a message")? {
        let word = value.as_str().unwrap_or_default().to_owned();
        let millis = Duration::from_millis(value.as_u64().unwrap_or_default());
        builder = match key.as_str() {
            "payload" | "id" | "timestamp" => builder,
            "key" => builder.key(word),
            "subject" => builder.subject(word.as_str()),
            "type" => builder.message_type(word),
            "content_type" => builder.content_type(word),
            "correlation_id" => builder.correlation_id(word),
            "reply_to" => builder.reply_to(ReplyAddress::new(word)),
            "priority" => builder.priority(u8::try_from(value.as_u64().unwrap_or_default())?),
            "ttl" => builder.ttl(millis),
            "delay" => builder.delay(millis),
            "headers" => value.as_object().into_iter().flatten().fold(builder, |builder, (name, value)| {
                builder.header(name.as_str(), value.as_str().unwrap_or_default())
            }),
            other => return Err(format!("a vector has {other:?}, which this test does not know").into()),
        };
    }
    Ok(builder.build()?)
}

/// The basic properties in the words of the vectors, less the headers.
fn shown(properties: &BasicProperties) -> Map<String, Value> {
    let word = |word: &Option<ShortString>| word.as_ref().map(|word| Value::from(word.as_str()));
    let all = [
        ("delivery_mode", properties.delivery_mode().map(Value::from)),
        ("message_id", word(properties.message_id())),
        ("timestamp", properties.timestamp().map(Value::from)),
        ("type", word(properties.kind())),
        ("content_type", word(properties.content_type())),
        ("content_encoding", word(properties.content_encoding())),
        ("correlation_id", word(properties.correlation_id())),
        ("reply_to", word(properties.reply_to())),
        ("priority", properties.priority().map(Value::from)),
        ("expiration", word(properties.expiration())),
        ("user_id", word(properties.user_id())),
        ("app_id", word(properties.app_id())),
        ("cluster_id", word(properties.cluster_id())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Compares the headers, of which some are times from now.
fn compare_headers(name: &str, found: Option<&FieldTable>, expected: &Value, names: &Names) -> Verdict {
    let empty = FieldTable::default();
    let found = found.unwrap_or(&empty).inner();
    let expected = expected.as_object().ok_or("headers")?;
    let keys: Vec<&str> = found.keys().map(ShortString::as_str).collect();
    assert_eq!(keys, expected.keys().map(String::as_str).collect::<Vec<_>>(), "{name}");
    for (key, value) in expected {
        let Some(AMQPValue::LongString(is)) = found.get(key.as_str()) else {
            return Err(format!("{name}: {key} is no long string").into());
        };
        let is = std::str::from_utf8(is.as_bytes())?;
        match value["from_now"].as_u64() {
            Some(from_now) => {
                let wanted = to_millis(std::time::SystemTime::now()) + from_now;
                let off = wanted.abs_diff(is.parse()?);
                assert!(off < SLACK_MS, "{name}: {key} is {off} ms off");
            }
            None => assert_eq!(is, names.fill(value.as_str().unwrap_or_default()), "{name}: {key}"),
        }
    }
    Ok(())
}

async fn the_vectors_are_what_is_written() -> Verdict {
    let server = server().await?;
    let url = server.url();
    let broker = connect(options(&url)?).await?;
    let (_connection, channel) = raw(&url).await?;
    for vector in vectors()?.iter().filter(|vector| vector["to"] != "read only") {
        write_one(&broker, &channel, vector).await.map_err(|error| format!("{}: {error}", vector["name"]))?;
    }
    Ok(())
}

async fn write_one(broker: &Arc<dyn Broker>, channel: &Channel, vector: &Value) -> Verdict {
    let (names, name) = (Names::fresh(), text(vector, "name"));
    let message = message(&vector["message"])?;
    let queue = Destination::queue(&names.queue)?;
    let look_at = match text(vector, "to") {
        "queue" => {
            broker.publisher(&queue, PublishOptions::default()).await?.publish(message).await?;
            names.queue.clone()
        }
        "topic" => {
            let topic = Destination::Topic(TopicName::parse(&names.topic)?);
            let publisher = broker.publisher(&topic, PublishOptions::default()).await?;
            let bound = exclusive_queue(channel).await?;
            let (exchange, key) = (names.topic.as_str().into(), ShortString::from("#"));
            channel
                .queue_bind(bound.as_str().into(), exchange, key, QueueBindOptions::default(), FieldTable::default())
                .await?;
            publisher.publish(message).await?;
            bound
        }
        "dead" => {
            let errors = vector["errors"].as_array().ok_or("errors")?;
            let errors = errors.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            broker.publisher(&queue, PublishOptions::default()).await?.publish(message).await?;
            let mut consumer = broker.consume(&QueueName::parse(&names.queue)?, ConsumeOptions::default()).await?;
            let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
            delivery.dead_letter(DeadLetterReason::new(DeadLetterReason::REJECTED).with_errors(errors)).await?;
            format!("{}--dead", names.queue)
        }
        bucket => {
            broker.publisher(&queue, PublishOptions::default()).await?.publish(message).await?;
            format!("{}--{bucket}", names.queue)
        }
    };
    let got = channel.basic_get(look_at.as_str().into(), BasicGetOptions { no_ack: true }).await?;
    let got = got.ok_or_else(|| format!("nothing is in {look_at}"))?.delivery;
    let amqp = &vector["amqp"];
    assert_eq!(got.exchange.as_str(), names.fill(text(amqp, "exchange")), "{name}");
    assert_eq!(got.routing_key.as_str(), names.fill(text(amqp, "routing_key")), "{name}");
    assert_eq!(String::from_utf8_lossy(&got.data), text(amqp, "body"), "{name}");
    assert_eq!(Value::Object(shown(&got.properties)), amqp["properties"], "{name}");
    compare_headers(name, got.properties.headers().as_ref(), &amqp["headers"], &names)
}

async fn exclusive_queue(channel: &Channel) -> Verdict<String> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(ShortString::default(), options, FieldTable::default()).await?;
    Ok(queue.name().to_string())
}

/// The properties that a vector describes, as the plain client writes them.
fn properties(amqp: &Value, names: &Names) -> BasicProperties {
    let of = &amqp["properties"];
    let mut all = BasicProperties::default();
    for (key, value) in of.as_object().into_iter().flatten() {
        let word = ShortString::from(value.as_str().unwrap_or_default());
        let number = value.as_u64().unwrap_or_default();
        let small = u8::try_from(number).unwrap_or(u8::MAX);
        all = match key.as_str() {
            "delivery_mode" => all.with_delivery_mode(small),
            "message_id" => all.with_message_id(word),
            "timestamp" => all.with_timestamp(number),
            "type" => all.with_type(word),
            "content_type" => all.with_content_type(word),
            "correlation_id" => all.with_correlation_id(word),
            "reply_to" => all.with_reply_to(word),
            "priority" => all.with_priority(small),
            "expiration" => all.with_expiration(word),
            other => panic!("a vector has {other:?}, which this test does not know"),
        };
    }
    let mut headers = FieldTable::default();
    for (key, value) in amqp["headers"].as_object().into_iter().flatten() {
        let value = match value {
            Value::Bool(value) => AMQPValue::Boolean(*value),
            Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap_or_default()),
            other => AMQPValue::LongString(LongString::from(names.fill(other.as_str().unwrap_or_default()))),
        };
        headers.insert(key.as_str().into(), value);
    }
    all.with_headers(headers)
}

async fn the_vectors_are_read_as_they_are_written() -> Verdict {
    let server = server().await?;
    let url = server.url();
    let broker = connect(options(&url)?).await?;
    let (_connection, channel) = raw(&url).await?;
    let both_ways = ["queue", "topic", "read only"];
    for vector in vectors()?.iter().filter(|vector| both_ways.contains(&text(vector, "to"))) {
        read_one(&broker, &channel, vector).await.map_err(|error| format!("{}: {error}", vector["name"]))?;
    }
    Ok(())
}

async fn read_one(broker: &Arc<dyn Broker>, channel: &Channel, vector: &Value) -> Verdict {
    let (names, name) = (Names::fresh(), text(vector, "name"));
    let mut consumer = match text(vector, "to") {
        "topic" => broker.subscribe(&TopicName::parse(&names.topic)?, SubscribeOptions::ephemeral()).await?,
        _ => broker.consume(&QueueName::parse(&names.queue)?, ConsumeOptions::default()).await?,
    };
    let amqp = &vector["amqp"];
    let (exchange, key) = (names.fill(text(amqp, "exchange")), names.fill(text(amqp, "routing_key")));
    let publish = BasicPublishOptions::default();
    let body = text(amqp, "body").as_bytes();
    channel
        .basic_publish(exchange.as_str().into(), key.as_str().into(), publish, body, properties(amqp, &names))
        .await?;
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    let (got, expected) = (delivery.message(), message(&vector["message"])?);
    assert_eq!((got.id(), got.payload()), (expected.id(), expected.payload()), "{name}");
    assert_eq!(got.timestamp(), expected.timestamp(), "{name}");
    assert_eq!((got.key(), got.subject()), (expected.key(), expected.subject()), "{name}");
    assert_eq!((got.message_type(), got.content_type()), (expected.message_type(), expected.content_type()), "{name}");
    assert_eq!((got.correlation_id(), got.reply_to()), (expected.correlation_id(), expected.reply_to()), "{name}");
    assert_eq!((got.priority(), got.ttl()), (expected.priority(), expected.ttl()), "{name}");
    let headers = |message: &Message| -> BTreeMap<String, String> {
        message.headers().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    assert_eq!(headers(got), headers(&expected), "{name}");
    let number = |key: &str, otherwise| vector[key].as_u64().map_or(otherwise, |number| number as u32);
    assert_eq!((delivery.attempt(), delivery.redriven()), (number("attempt", 1), number("redriven", 0)), "{name}");
    delivery.ack().await?;
    Ok(())
}

/// The page shows each vector's properties and headers as this file has them.
async fn the_page_shows_every_vector() -> Verdict {
    let page = include_str!("../../../docs/wire-format.md");
    for vector in vectors()? {
        let row = page.lines().find(|line| line.starts_with(&format!("| {} |", text(&vector, "name"))));
        let row = row.ok_or_else(|| format!("{} is not on the page", vector["name"]))?;
        let amqp = &vector["amqp"];
        for (key, value) in
            ["properties", "headers"].into_iter().flat_map(|part| amqp[part].as_object().into_iter().flatten())
        {
            let shown = match (value, value["from_now"].as_u64()) {
                (_, Some(0)) => format!("`{key}` now"),
                (_, Some(from_now)) => format!("`{key}` now + {from_now}"),
                (Value::String(word), None) => format!("`{key}={word}`"),
                (other, None) => format!("`{key}={other}`"),
            };
            assert!(row.contains(&shown), "{} does not show {shown}", vector["name"]);
        }
        for key in ["routing_key", "body"].map(|key| text(amqp, key)) {
            assert!(row.contains(&format!("`{key}`")) || key.is_empty(), "{} does not show {key}", vector["name"]);
        }
    }
    Ok(())
}

/// The lanes of some keys among eight, worked out elsewhere from what the page says.
const LANES: [(&str, u32); 4] = [("a", 0), ("customer-7", 2), ("é", 6), ("berlin", 3)];

async fn a_key_goes_to_its_lane() -> Verdict {
    let server = server().await?;
    let url = server.url();
    let queue = fresh("lanes");
    let destination = Destination::queue(&queue)?;
    let settings =
        DestinationSettings { native: None, order: Order::ByKey, driver: Settings::new("the test", [("lanes", "8")]) };
    let broker = connect(options(&url)?.with_destination(destination.clone(), settings)).await?;
    let publisher = broker.publisher(&destination, PublishOptions::default()).await?;
    let (_connection, channel) = raw(&url).await?;
    for (key, lane) in LANES {
        publisher.publish(Message::builder("x").key(key).build()?).await?;
        let name = format!("{queue}--lane--{lane}");
        // A queue with a single active consumer gives nothing to `basic.get`.
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let there = channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await?;
        assert_eq!(there.message_count(), 1, "{key} is not in lane {lane}");
    }
    Ok(())
}

/// Whoever gets a dead letter of a foreign message has it as it was.
async fn a_copy_keeps_what_is_foreign() -> Verdict {
    let server = server().await?;
    let url = server.url();
    let broker = connect(options(&url)?).await?;
    let (_connection, channel) = raw(&url).await?;
    let queue = fresh("foreign");
    let mut consumer = broker.consume(&QueueName::parse(&queue)?, ConsumeOptions::default()).await?;
    let mut headers = FieldTable::default();
    headers.insert("Count".into(), AMQPValue::LongInt(7));
    headers.insert("raw".into(), AMQPValue::LongString(LongString::from(vec![0xff, 0xfe])));
    headers.insert("nested".into(), AMQPValue::FieldTable(FieldTable::default()));
    let properties = BasicProperties::default()
        .with_headers(headers.clone())
        .with_app_id("legacy".into())
        .with_content_encoding("gzip".into());
    let publish = BasicPublishOptions::default();
    channel.basic_publish(ShortString::default(), queue.as_str().into(), publish, b"\x80", properties).await?;
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    assert_eq!(delivery.message().headers().get("count"), Some("7"));
    delivery.dead_letter("unreadable").await?;

    let dead = format!("{queue}--dead");
    let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut plain =
        channel.basic_consume(dead.as_str().into(), ShortString::default(), consume, FieldTable::default()).await?;
    let copy = timeout(PATIENCE, plain.next()).await?.ok_or("a dead letter")??;
    assert_eq!(copy.data, b"\x80");
    assert_eq!(copy.properties.app_id().as_ref().map(ShortString::as_str), Some("legacy"));
    assert_eq!(copy.properties.content_encoding().as_ref().map(ShortString::as_str), Some("gzip"));
    let kept = copy.properties.headers().clone().ok_or("headers")?;
    for (name, value) in headers.inner() {
        assert_eq!(kept.inner().get(name.as_str()), Some(value), "{name}");
    }
    Ok(())
}
