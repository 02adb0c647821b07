//! What is there already: used as it is, or refused with the difference, and never changed.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{connect, fresh, options, raw, server};
use integration_tests::cases;
use integration_tests::runner::{Case, Verdict};
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};
use messaging_core::{
    Broker, BrokerUrl, ConnectOptions, ConsumeOptions, Consumer, Destination, DestinationSettings, ErrorKind, Message,
    Order, PublishOptions, PublisherExt, QueueName, Settings, Source, SubjectFilter, SubscribeOptions,
    SubscriptionName, TopicName, TopologyMode,
};
use serde_json::{Value, json};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn cases() -> Vec<Case> {
    cases![
        another_queue_is_a_mismatch_with_both_values,
        verify_makes_nothing,
        assume_asks_nothing,
        a_native_queue_is_used_and_has_a_dead_letter,
        a_direct_exchange_goes_by_the_routing_key,
        a_fanout_exchange_goes_to_all,
        a_headers_exchange_goes_by_the_binding_arguments,
        key_order_is_the_layout_of_all,
        another_filter_is_a_mismatch,
        an_unknown_key_is_named,
        a_classic_queue_works,
        a_message_that_is_too_large_is_not_sent,
        the_second_host_is_taken_if_the_first_is_closed,
    ]
}

/// Settings of one destination, as a binding has them.
fn settings<const N: usize>(native: Option<&str>, order: Order, driver: [(&str, Value); N]) -> DestinationSettings {
    DestinationSettings { native: native.map(str::to_owned), order, driver: Settings::new("the test", driver) }
}

fn queue(name: &str) -> Verdict<Destination> {
    Ok(Destination::Queue(QueueName::parse(name)?))
}

fn topic(name: &str) -> Verdict<Destination> {
    Ok(Destination::Topic(TopicName::parse(name)?))
}

async fn make_queue(channel: &Channel, name: &str, kind: &str) -> Verdict {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(kind)));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, arguments).await?;
    Ok(())
}

/// Whether a queue is there, asked on a channel of its own: a refused question ends it.
async fn is_there(connection: &lapin::Connection, name: &str) -> Verdict<bool> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(name.into(), options, FieldTable::default()).await.is_ok())
}

async fn publish(broker: &Arc<dyn Broker>, to: &Destination, payload: &'static str) -> Verdict {
    let message = Message::new(payload);
    broker.publisher(to, PublishOptions::default()).await?.publish(message).await?;
    Ok(())
}

async fn next(consumer: &mut Consumer) -> Verdict<String> {
    let delivery = timeout(PATIENCE, consumer.next()).await??.ok_or("a delivery")?;
    let text = String::from_utf8_lossy(delivery.message().payload()).into_owned();
    delivery.ack().await?;
    Ok(text)
}

fn subscription(name: &str) -> Verdict<SubscribeOptions> {
    Ok(SubscribeOptions::durable(SubscriptionName::parse(name)?))
}

async fn another_queue_is_a_mismatch_with_both_values() -> Verdict {
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

async fn verify_makes_nothing() -> Verdict {
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

async fn assume_asks_nothing() -> Verdict {
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

async fn a_native_queue_is_used_and_has_a_dead_letter() -> Verdict {
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
) -> Verdict<(Arc<dyn Broker>, TopicName)> {
    let (_connection, channel) = raw(url).await?;
    let (name, native) = (fresh("events"), fresh("Events.Native"));
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(native.as_str().into(), kind, durable, FieldTable::default()).await?;
    let bound = settings(Some(&native), Order::None, driver);
    let broker = connect(options(url)?.with_destination(topic(&name)?, bound)).await?;
    Ok((broker, TopicName::parse(&name)?))
}

async fn a_direct_exchange_goes_by_the_routing_key() -> Verdict {
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

async fn a_fanout_exchange_goes_to_all() -> Verdict {
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

async fn a_headers_exchange_goes_by_the_binding_arguments() -> Verdict {
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

async fn key_order_is_the_layout_of_all() -> Verdict {
    let server = server().await?;
    let url = server.url();
    let keyed = |to: &Destination, lanes: u32| -> Verdict<ConnectOptions> {
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

async fn another_filter_is_a_mismatch() -> Verdict {
    let server = server().await?;
    let broker = connect(options(&server.url())?).await?;
    let name = TopicName::parse(fresh("weather"))?;
    let with = |filter: &str| -> Verdict<SubscribeOptions> {
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

async fn an_unknown_key_is_named() -> Verdict {
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

async fn a_classic_queue_works() -> Verdict {
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

async fn a_message_that_is_too_large_is_not_sent() -> Verdict {
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

async fn the_second_host_is_taken_if_the_first_is_closed() -> Verdict {
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
