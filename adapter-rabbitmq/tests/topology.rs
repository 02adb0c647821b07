//! What is there already: used as it is, or refused with the difference, and never changed.

#![allow(clippy::expect_used, reason = "a test that cannot go on has failed, and says why")]

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Destination, DestinationSettings, ErrorKind, Message,
    Order, PublishOptions, PublisherExt, QueueName, Settings, Source, SubjectFilter, SubscribeOptions,
    SubscriptionName, TopicName, TopologyMode,
};
use serde_json::{Value, json};
use support::{Checked, connect, fresh, options, raw, run, server};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    run(&[
        ("another_queue_is_a_mismatch_with_both_values", || Box::pin(other_arguments())),
        ("verify_makes_nothing", || Box::pin(verify())),
        ("assume_asks_nothing", || Box::pin(assume())),
        ("a_native_queue_is_used_and_has_a_dead_letter", || Box::pin(native_queue())),
        ("a_direct_exchange_goes_by_the_routing_key", || Box::pin(direct())),
        ("a_fanout_exchange_goes_to_all", || Box::pin(fanout())),
        ("a_headers_exchange_goes_by_the_binding_arguments", || Box::pin(headers())),
        ("key_order_is_the_layout_of_all", || Box::pin(layouts())),
        ("another_filter_is_a_mismatch", || Box::pin(filters())),
        ("an_unknown_key_is_named", || Box::pin(unknown_keys())),
        ("a_classic_queue_works", || Box::pin(classic())),
        ("a_message_that_is_too_large_is_not_sent", || Box::pin(too_large())),
        ("the_second_host_is_taken_if_the_first_is_closed", || Box::pin(two_hosts())),
    ])
}

/// Settings of one destination, as a binding has them.
fn settings<const N: usize>(native: Option<&str>, order: Order, driver: [(&str, Value); N]) -> DestinationSettings {
    DestinationSettings { native: native.map(str::to_owned), order, driver: Settings::new("the test", driver) }
}

fn queue(name: &str) -> Checked<Destination> {
    Ok(Destination::Queue(QueueName::parse(name)?))
}

fn topic(name: &str) -> Checked<Destination> {
    Ok(Destination::Topic(TopicName::parse(name)?))
}

async fn make_queue(channel: &Channel, name: &str, kind: &str) -> Checked {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(kind)));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await?;
    Ok(())
}

/// Whether a queue is there, asked on a channel of its own: a refused question ends it.
async fn is_there(connection: &lapin::Connection, name: &str) -> Checked<bool> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(name.into(), options, FieldTable::default()).await.is_ok())
}

async fn publish(broker: &Arc<dyn Broker>, to: &Destination, payload: &'static str) -> Checked {
    let message = Message::new(payload);
    broker.publisher(to, PublishOptions::default()).await?.publish(message).await?;
    Ok(())
}

async fn next(consumer: &mut Consumer) -> Checked<String> {
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
    delivery.ack().await?;
    Ok(text)
}

fn subscription(name: &str) -> Checked<SubscribeOptions> {
    Ok(SubscribeOptions::durable(SubscriptionName::parse(name)?))
}

async fn other_arguments() -> Checked {
    let server = server().await?;
    let url = server.url();
    let (connection, channel) = raw(&url).await?;
    let (name, ours) = (fresh("other"), fresh("ours"));
    make_queue(&channel, &name, "classic").await?;
    let limit = |limit: u32| settings(None, Order::None, [("delivery_limit", json!(limit))]);
    let maker = connect(options(&url)?.with_destination(queue(&ours)?, limit(5))).await?;
    maker.publisher(&queue(&ours)?, PublishOptions::default()).await?;
    for mode in [TopologyMode::Create, TopologyMode::Verify] {
        let options = options(&url)?.with_topology(mode).with_destination(queue(&ours)?, limit(7));
        let broker = connect(options).await?;
        // The broker tells the first argument that differs: a queue that a program made plainly has no dead letter.
        for (name, words) in
            [(&name, ["x-dead-letter-exchange", "none", "''"]), (&ours, ["x-delivery-limit", "5", "7"])]
        {
            let error = broker.publisher(&queue(name)?, PublishOptions::default()).await.expect_err("it differs");
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{mode:?}: {error}");
            for word in words.into_iter().chain([name.as_str(), "nothing was changed"]) {
                assert!(error.text().contains(word), "{mode:?}: {word} is not in {error}");
            }
        }
        assert!(!is_there(&connection, &format!("{name}--dead")).await?, "{mode:?} left a dead letter behind");
    }
    // They are as they were: the same declarations are taken.
    make_queue(&channel, &name, "classic").await?;
    publish(&maker, &queue(&ours)?, "x").await
}

async fn verify() -> Checked {
    let server = server().await?;
    let url = server.url();
    let (connection, _channel) = raw(&url).await?;
    let (name, weather) = (fresh("missing"), fresh("weather"));
    let broker = connect(options(&url)?.with_topology(TopologyMode::Verify)).await?;
    let error = broker.publisher(&queue(&name)?, PublishOptions::default()).await.expect_err("a missing queue");
    assert!(error.kind() == ErrorKind::NotFound && error.text().contains(&name), "{error}");
    let error = broker.consume(&QueueName::parse(&name)?, ConsumeOptions::default()).await.expect_err("the same");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = broker.publisher(&topic(&weather)?, PublishOptions::default()).await.expect_err("a missing topic");
    assert!(error.kind() == ErrorKind::NotFound && error.text().contains(&weather), "{error}");
    for queue in [name.clone(), format!("{name}--dead")] {
        assert!(!is_there(&connection, &queue).await?, "{queue} was made");
    }
    // What another made is taken.
    let maker = connect(options(&url)?).await?;
    maker.publisher(&queue(&name)?, PublishOptions::default()).await?;
    publish(&broker, &queue(&name)?, "x").await
}

async fn assume() -> Checked {
    let server = server().await?;
    let url = server.url();
    let (_connection, channel) = raw(&url).await?;
    let name = fresh("assumed");
    // Neither its type nor its arguments are what the adapter would declare.
    make_queue(&channel, &name, "classic").await?;
    let broker = connect(options(&url)?.with_topology(TopologyMode::Assume)).await?;
    publish(&broker, &queue(&name)?, "assumed").await?;
    let mut consumer = broker.consume(&QueueName::parse(&name)?, ConsumeOptions::default()).await?;
    assert_eq!(next(&mut consumer).await?, "assumed");
    let error = publish(&broker, &queue(&fresh("nowhere"))?, "x").await.expect_err("a missing queue shows at the use");
    let error = error.downcast_ref::<messaging_core::Error>().ok_or("an error of the contract")?;
    assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
    Ok(())
}

async fn native_queue() -> Checked {
    let server = server().await?;
    let url = server.url();
    let (_connection, channel) = raw(&url).await?;
    let (name, native) = (fresh("old"), fresh("LEGACY.ORDERS"));
    let bound = settings(Some(&native), Order::None, [("type", json!("classic"))]);
    let broker = connect(options(&url)?.with_destination(queue(&name)?, bound.clone())).await?;
    let error = broker.publisher(&queue(&name)?, PublishOptions::default()).await.expect_err("it is never made");
    assert!(error.kind() == ErrorKind::NotFound && error.text().contains(&native), "{error}");
    make_queue(&channel, &native, "classic").await?;
    publish(&broker, &queue(&name)?, "old").await?;
    let mut consumer = broker.consume(&QueueName::parse(&name)?, ConsumeOptions::default()).await?;
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    delivery.dead_letter("rejected").await?;
    let dead = broker.inspect().dead_letters(&Source::Queue(QueueName::parse(&name)?), 10).await?;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].message.payload().as_ref(), b"old");
    Ok(())
}

/// A broker with a topic on an existing exchange, and the topic.
async fn existing<const N: usize>(
    url: &str,
    kind: ExchangeKind,
    driver: [(&str, Value); N],
) -> Checked<(Arc<dyn Broker>, TopicName)> {
    let (_connection, channel) = raw(url).await?;
    let (name, native) = (fresh("events"), fresh("Events.Native"));
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(native.as_str().into(), kind, durable, FieldTable::default()).await?;
    let bound = settings(Some(&native), Order::None, driver);
    let broker = connect(options(url)?.with_destination(topic(&name)?, bound)).await?;
    Ok((broker, TopicName::parse(&name)?))
}

async fn direct() -> Checked {
    let server = server().await?;
    let driver = [("exchange_type", json!("direct")), ("routing_key", json!("invoice"))];
    let (broker, name) = existing(&server.url(), ExchangeKind::Direct, driver).await?;
    let mut durable = broker.subscribe(&name, subscription("archive")?).await?;
    let mut ephemeral = broker.subscribe(&name, SubscribeOptions::ephemeral()).await?;
    publish(&broker, &Destination::Topic(name), "direct").await?;
    assert_eq!(next(&mut durable).await?, "direct");
    assert_eq!(next(&mut ephemeral).await?, "direct");
    Ok(())
}

async fn fanout() -> Checked {
    let server = server().await?;
    let (broker, name) = existing(&server.url(), ExchangeKind::Fanout, [("exchange_type", json!("fanout"))]).await?;
    let mut one = broker.subscribe(&name, subscription("one")?).await?;
    let mut two = broker.subscribe(&name, subscription("two")?).await?;
    let publisher = broker.publisher(&Destination::Topic(name), PublishOptions::default()).await?;
    publisher.publish(Message::builder("fanout").subject("eu.rain").build()?).await?;
    assert_eq!(next(&mut one).await?, "fanout");
    assert_eq!(next(&mut two).await?, "fanout");
    Ok(())
}

async fn headers() -> Checked {
    let server = server().await?;
    let arguments = json!({ "x-match": "all", "region": "eu" });
    let driver = [("exchange_type", json!("headers")), ("binding_arguments", arguments)];
    let (broker, name) = existing(&server.url(), ExchangeKind::Headers, driver).await?;
    let mut europe = broker.subscribe(&name, subscription("europe")?).await?;
    let publisher = broker.publisher(&Destination::Topic(name), PublishOptions::default()).await?;
    for region in ["us", "eu"] {
        publisher.publish(Message::builder(region).header("region", region).build()?).await?;
    }
    assert_eq!(next(&mut europe).await?, "eu");
    Ok(())
}

async fn layouts() -> Checked {
    let server = server().await?;
    let url = server.url();
    let keyed = |to: &Destination, lanes: u32| -> Checked<ConnectOptions> {
        let settings = settings(None, Order::ByKey, [("lanes", json!(lanes))]);
        Ok(options(&url)?.with_destination(to.clone(), settings))
    };
    for to in [queue(&fresh("keyed"))?, topic(&fresh("keyed"))?] {
        connect(keyed(&to, 2)?).await?.publisher(&to, PublishOptions::default()).await?;
        let plain = connect(options(&url)?).await?;
        let error = plain.publisher(&to, PublishOptions::default()).await.expect_err("without key order");
        assert!(error.kind() == ErrorKind::Mismatch && error.text().contains("order_by"), "{to}: {error}");
        let other = connect(keyed(&to, 3)?).await?;
        let error = other.publisher(&to, PublishOptions::default()).await.expect_err("another number of lanes");
        assert!(error.kind() == ErrorKind::Mismatch && error.text().contains("lanes"), "{to}: {error}");
    }
    for to in [queue(&fresh("plain"))?, topic(&fresh("plain"))?] {
        connect(options(&url)?).await?.publisher(&to, PublishOptions::default()).await?;
        let other = connect(keyed(&to, 2)?).await?;
        let error = other.publisher(&to, PublishOptions::default()).await.expect_err("with key order");
        assert!(error.kind() == ErrorKind::Mismatch && error.text().contains("order_by"), "{to}: {error}");
    }
    Ok(())
}

async fn filters() -> Checked {
    let server = server().await?;
    let broker = connect(options(&server.url())?).await?;
    let name = TopicName::parse(fresh("weather"))?;
    let with = |filter: &str| -> Checked<SubscribeOptions> {
        Ok(subscription("dashboard")?.with_filter(SubjectFilter::parse(filter)?))
    };
    let mut rain = broker.subscribe(&name, with("*.rain")?).await?;
    for other in [with("*.snow")?, subscription("dashboard")?] {
        let error = broker.subscribe(&name, other).await.expect_err("another filter");
        assert!(error.kind() == ErrorKind::Mismatch && error.text().contains("filter"), "{error}");
    }
    // Nothing was changed: a member with the same filter joins, and what it passes comes.
    drop(broker.subscribe(&name, with("*.rain")?).await?);
    let publisher = broker.publisher(&Destination::Topic(name), PublishOptions::default()).await?;
    for subject in ["eu.snow", "eu.rain"] {
        publisher.publish(Message::builder(subject).subject(subject).build()?).await?;
    }
    assert_eq!(next(&mut rain).await?, "eu.rain");
    Ok(())
}

async fn unknown_keys() -> Checked {
    // Told before anything connects: there is nothing at this address.
    let nowhere = || options("amqp://127.0.0.1:1");
    let url = ConnectOptions::new(BrokerUrl::parse("amqp://127.0.0.1:1?hartbeat=3s")?);
    let broker = nowhere()?.with_settings(Settings::new("[brokers.main.options]", [("delivery_limt", "5")]));
    let typo = settings(None, Order::None, [("exchange_typ", json!("direct"))]);
    let destination = nowhere()?.with_destination(topic("weather")?, typo);
    for (options, wrong, right) in [
        (url, "hartbeat", "heartbeat"),
        (broker, "delivery_limt", "delivery_limit"),
        (destination, "exchange_typ", "exchange_type"),
    ] {
        let error = connect(options).await.expect_err("an unknown key");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(
            error.text().contains(&format!("{wrong:?}")) && error.text().contains(&format!("{right:?}")),
            "{error}"
        );
    }
    Ok(())
}

async fn classic() -> Checked {
    let server = server().await?;
    let url = server.url();
    let (_connection, channel) = raw(&url).await?;
    let name = fresh("ticks");
    let settings = settings(None, Order::None, [("type", json!("classic"))]);
    let broker = connect(options(&url)?.with_destination(queue(&name)?, settings)).await?;
    publish(&broker, &queue(&name)?, "tick").await?;
    let mut consumer = broker.consume(&QueueName::parse(&name)?, ConsumeOptions::default()).await?;
    assert_eq!(next(&mut consumer).await?, "tick");
    // It is one: the dead letter has no argument but its type, and the broker compares that.
    make_queue(&channel, &format!("{name}--dead"), "classic").await
}

async fn too_large() -> Checked {
    let server = server().await?;
    let url = server.url();
    let (_connection, channel) = raw(&url).await?;
    let broker = connect(options(&url)?).await?;
    let name = fresh("large");
    let publisher = broker.publisher(&queue(&name)?, PublishOptions::default()).await?;
    let open = publisher.publish(Message::new(vec![0; 16 * 1024 * 1024 + 1])).await;
    let error = open.expect_err("more than 16 MiB");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    // Nothing of it left: the channel, which the broker would have closed, goes on.
    publisher.publish(Message::new("small")).await?;
    let got = channel.basic_get(name.as_str().into(), BasicGetOptions { no_ack: true }).await?.ok_or("a message")?;
    assert_eq!((got.data.as_slice(), got.message_count), (b"small".as_slice(), 0));
    Ok(())
}

async fn two_hosts() -> Checked {
    let server = server().await?;
    let url = server.url();
    // Held for a moment, so that it is nobody's, and closed before it is used.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (before, after) = url.rsplit_once('@').ok_or("a login in the address")?;
    let both = format!("{before}@{closed},{after}");
    let broker = connect(options(&both)?).await?;
    publish(&broker, &queue(&fresh("second"))?, "x").await?;
    // Alone it is refused, with the place.
    let path = after.split_once('/').map_or("", |(_, path)| path);
    let error = connect(options(&format!("{before}@{closed}/{path}"))?).await.expect_err("nobody listens");
    assert!(error.kind() == ErrorKind::Unreachable && error.text().contains(&closed.to_string()), "{error}");
    Ok(())
}
