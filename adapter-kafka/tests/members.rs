//! Several members of one group: what is stale, what keeps its order, and what an attempt is.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging_core::{
    Broker, ConsumeOptions, Consumer, Delivery, Destination, Error, ErrorKind, Event, Message, Order, PublishOptions,
    Publisher, PublisherExt, QueueName, Received, RetryMode, Source,
};
use support::{connect, fresh, run, server};
use tokio::sync::{Barrier, mpsc};
use tokio::time::{Instant, timeout};

fn main() -> ExitCode {
    run(&[
        ("what_went_to_another_member_is_stale_and_the_rest_is_not", || Box::pin(stale())),
        ("what_is_settled_in_time_goes_to_nobody_else", || Box::pin(settled_in_time())),
        ("eight_handlers_share_one_partition_and_keep_the_order_of_its_keys", || Box::pin(order_of_keys())),
        ("a_key_goes_on_after_its_partition_was_away", || Box::pin(away_and_back())),
        ("what_is_not_due_holds_up_nothing_else", || Box::pin(large_delays())),
        ("what_was_released_or_never_handed_out_was_not_tried", || Box::pin(attempts())),
    ])
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Checked = Result<(), Failure>;

/// For everything: a group that is shared out anew takes its members a heartbeat or two, of 5 s each.
const LONG: Duration = Duration::from_secs(60);

async fn next(consumer: &mut Consumer) -> Result<Delivery, Failure> {
    Ok(timeout(LONG, consumer.next()).await.map_err(|_| "nothing came")??.ok_or("a delivery")?)
}

/// Waits until the work is shared out anew; what comes before is for `each`.
async fn rebalanced(consumer: &mut Consumer, mut each: impl FnMut(Delivery)) -> Checked {
    loop {
        match timeout(LONG, consumer.receive()).await.map_err(|_| "nothing was shared out")?? {
            Some(Received::Event(Event::Rebalanced)) => return Ok(()),
            Some(Received::Delivery(delivery)) => each(delivery),
            Some(Received::Event(_)) => {}
            None => return Err("it was stopped".into()),
        }
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.message().payload()).into_owned()
}

fn partition(delivery: &Delivery) -> u32 {
    delivery.position().expect("it is from the queue itself").partition
}

fn keyed(key: &str, text: String) -> Message {
    Message::builder(text).key(key).build().expect("a message")
}

fn by_key() -> ConsumeOptions {
    ConsumeOptions::default().with_order(Order::ByKey).with_retry_mode(RetryMode::Hold)
}

async fn publisher(broker: &dyn Broker, queue: &QueueName) -> Result<Arc<dyn Publisher>, Error> {
    broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await
}

/// Publishes until there is a message in each of two partitions; gives the key of the first in each, and how many there are.
async fn keys_of_two(publisher: &dyn Publisher) -> Result<([String; 2], usize), Failure> {
    let mut known = BTreeMap::new();
    let mut count = 0;
    while known.len() < 2 {
        let key = format!("key-{count}");
        let receipt = publisher.publish(keyed(&key, format!("{key} 1"))).await?;
        known.entry(receipt.position.ok_or("a position")?.partition).or_insert(key);
        count += 1;
    }
    let mut keys = known.into_values();
    Ok(([keys.next().ok_or("a key")?, keys.next().ok_or("a key")?], count))
}

/// Consumes, with one delivery of each partition in hand and nothing else there.
async fn one_of_each(
    broker: &dyn Broker,
    queue: &QueueName,
    options: ConsumeOptions,
) -> Result<([Delivery; 2], [String; 2], Consumer), Failure> {
    let mut consumer = broker.consume(queue, options).await?;
    let (keys, count) = keys_of_two(&*publisher(broker, queue).await?).await?;
    let mut held = BTreeMap::new();
    for _ in 0..count {
        let delivery = next(&mut consumer).await?;
        if keys.iter().any(|key| delivery.message().key() == Some(key)) {
            held.insert(partition(&delivery), delivery);
        } else {
            delivery.ack().await?;
        }
    }
    let mut held = held.into_values();
    Ok(([held.next().ok_or("one")?, held.next().ok_or("one")?], keys, consumer))
}

async fn stale() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "2"), ("revoke_wait", "200ms")]).await?;
    let queue = QueueName::parse(fresh("stale"))?;
    let (held, _, mut first) = one_of_each(&*broker, &queue, ConsumeOptions::default()).await?;
    let mut second = broker.consume(&queue, ConsumeOptions::default()).await?;
    let again = next(&mut second).await?;

    let mut stale = Vec::new();
    for delivery in held {
        let (id, partition) = (delivery.message().id().to_string(), partition(&delivery));
        match delivery.ack().await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StaleDelivery => stale.push((id, partition)),
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!(stale, [(again.message().id().to_string(), partition(&again))]);

    // Both go on: nothing else was lost or doubled.
    let source = Source::Queue(queue.clone());
    first.control().flush(Instant::now() + LONG).await?;
    let positions = broker.inspect().positions(&source).await?;
    let open: Vec<u32> = positions.iter().filter(|one| one.lag() > 0).map(|one| one.partition).collect();
    assert_eq!(open, [partition(&again)], "{positions:?}");
    again.ack().await?;
    second.control().flush(Instant::now() + LONG).await?;
    let positions = broker.inspect().positions(&source).await?;
    assert!(positions.iter().all(|one| one.lag() == 0 && one.current == one.end), "{positions:?}");
    let publisher = publisher(&*broker, &queue).await?;
    for number in 0..20 {
        publisher.publish(format!("later {number}")).await?;
    }
    let mut got = HashSet::new();
    while got.len() < 20 {
        let delivery = timeout(LONG, async {
            tokio::select! { next = first.next() => next, next = second.next() => next }
        });
        let delivery = delivery.await.map_err(|_| format!("only {got:?} came"))??.ok_or("a delivery")?;
        assert!(text(&delivery).starts_with("later ") && got.insert(text(&delivery)), "{delivery:?} came again");
        delivery.ack().await?;
    }
    Ok(())
}

async fn settled_in_time() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "2"), ("revoke_wait", "30s")]).await?;
    let queue = QueueName::parse(fresh("in-time"))?;
    let (held, keys, mut first) = one_of_each(&*broker, &queue, ConsumeOptions::default()).await?;
    let mut second = broker.consume(&queue, ConsumeOptions::default()).await?;
    // Its partition is on the way, and waits for these.
    rebalanced(&mut first, |delivery| panic!("{delivery:?}")).await?;
    for delivery in held {
        delivery.ack().await?;
    }

    let publisher = publisher(&*broker, &queue).await?;
    for key in &keys {
        publisher.publish(keyed(key, format!("{key} 2"))).await?;
    }
    let (one, two) = tokio::try_join!(next(&mut first), next(&mut second))?;
    let got = HashSet::from([text(&one), text(&two)]);
    assert_eq!(got, keys.iter().map(|key| format!("{key} 2")).collect(), "something came twice");
    one.ack().await?;
    two.ack().await?;
    Ok(())
}

async fn order_of_keys() -> Checked {
    const HANDLERS: usize = 8;
    const KEYS: usize = 16;
    const EACH: usize = 8;
    /// So often all handlers run at once; towards the end there are fewer keys than handlers.
    const TOGETHER: usize = 3;
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("by-key"))?;
    let publisher = publisher(&*broker, &queue).await?;
    // Those of a key follow each other, so that whoever takes the next one takes one of the same key.
    for key in 0..KEYS {
        for number in 0..EACH {
            publisher.publish(keyed(&key.to_string(), number.to_string())).await?;
        }
    }
    let mut consumer = broker.consume(&queue, by_key()).await?;

    // Only all of them at once pass the barrier.
    let barrier = Arc::new(Barrier::new(HANDLERS));
    let running = Arc::new(Mutex::new(HashSet::new()));
    let seen = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
    let (work, taken) = mpsc::channel::<Delivery>(1);
    let taken = Arc::new(tokio::sync::Mutex::new(taken));
    let mut handlers = tokio::task::JoinSet::new();
    for _ in 0..HANDLERS {
        let (barrier, running, seen, taken) =
            (Arc::clone(&barrier), Arc::clone(&running), Arc::clone(&seen), Arc::clone(&taken));
        handlers.spawn(async move {
            for round in 0.. {
                let Some(delivery) = taken.lock().await.recv().await else { break };
                let key = delivery.message().key().expect("a key").to_owned();
                assert!(running.lock().expect("whole").insert(key.clone()), "two of {key} at once");
                if round < TOGETHER {
                    barrier.wait().await;
                } else {
                    tokio::task::yield_now().await;
                }
                seen.lock().expect("whole").entry(key.clone()).or_default().push(text(&delivery));
                running.lock().expect("whole").remove(&key);
                delivery.ack().await?;
            }
            Ok::<_, Error>(())
        });
    }
    for count in 0..KEYS * EACH {
        let delivery = next(&mut consumer).await.map_err(|error| format!("after {count}: {error}"))?;
        timeout(LONG, work.send(delivery)).await.map_err(|_| format!("after {count} fewer than 8 run at once"))??;
    }
    drop(work);
    while let Some(done) = timeout(LONG, handlers.join_next()).await.map_err(|_| "handlers wait for ever")? {
        done??;
    }
    let order: Vec<String> = (0..EACH).map(|number| number.to_string()).collect();
    let seen = seen.lock().expect("whole");
    assert_eq!(seen.len(), KEYS);
    assert!(seen.values().all(|one| *one == order), "{seen:?}");
    Ok(())
}

async fn away_and_back() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "2"), ("revoke_wait", "0s")]).await?;
    let queue = QueueName::parse(fresh("away"))?;
    let (held, keys, mut first) = one_of_each(&*broker, &queue, by_key()).await?;
    let publisher = publisher(&*broker, &queue).await?;
    for key in &keys {
        publisher.publish(keyed(key, format!("{key} 2"))).await?;
    }
    let mut second = broker.consume(&queue, by_key()).await?;
    // It has a part of them now, and gives it back.
    next(&mut second).await?.release().await?;
    let report = second.close(LONG).await;
    assert!(report.errors.is_empty(), "{report:?}");
    // Other keys of both partitions say that the first has read them again.
    for (at, key) in keys.iter().enumerate() {
        let partition = u32::try_from(at)?;
        for number in 0.. {
            let other = format!("other-{key}-{number}");
            let receipt = publisher.publish(keyed(&other, "mark".to_owned())).await?;
            if receipt.position.ok_or("a position")?.partition == partition {
                break;
            }
        }
    }
    let mut marked = HashSet::new();
    while marked.len() < 2 {
        let mark = next(&mut first).await?;
        assert_eq!(text(&mark), "mark", "it came while another of its key is out");
        marked.insert(partition(&mark));
        mark.ack().await?;
    }

    let mut expected = Vec::new();
    for (key, delivery) in keys.iter().zip(held) {
        let again = match delivery.ack().await {
            Ok(()) => None,
            Err(error) if error.kind() == ErrorKind::StaleDelivery => Some(format!("{key} 1")),
            Err(error) => return Err(error.into()),
        };
        expected.push(again.into_iter().chain([format!("{key} 2")]).collect::<Vec<_>>());
    }
    let count = expected.iter().map(Vec::len).sum::<usize>();
    assert_eq!(count, 3, "one of them was away: {expected:?}");
    let mut got = vec![Vec::new(); 2];
    for _ in 0..count {
        let delivery = loop {
            let delivery = next(&mut first).await?;
            if text(&delivery) != "mark" {
                break delivery;
            }
            delivery.ack().await?;
        };
        got[keys.iter().position(|key| delivery.message().key() == Some(key)).ok_or("a known key")?]
            .push(text(&delivery));
        delivery.ack().await?;
    }
    assert_eq!(got, expected);
    Ok(())
}

/// More than is read ahead, by its size, waits for an hour.
async fn large_delays() -> Checked {
    const LARGE: usize = 900_000;
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("large"))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let publisher = publisher(&*broker, &queue).await?;
    let later = |after: u64| Message::builder(vec![0; LARGE]).delay(Duration::from_secs(after));
    let size = |delivery: &Delivery| delivery.message().payload().len();
    for _ in 0..40 {
        publisher.publish(later(3600).build()?).await?;
    }
    publisher.publish(later(1).build()?).await?;
    let due = next(&mut consumer).await?;
    assert_eq!(size(&due), LARGE, "what is read behind them");
    due.ack().await?;

    // More than is kept of what is not due: now its partition waits, and no other.
    for number in 0..40_usize {
        publisher.publish(later(3600).build()?).await?;
        publisher.publish(vec![0; number]).await?;
        let now = next(&mut consumer).await?;
        assert_eq!(size(&now), number);
        now.ack().await?;
    }
    let report = consumer.close(LONG).await;
    assert!(report.errors.is_empty(), "{report:?}");
    Ok(())
}

async fn attempts() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("attempts"))?;
    let publisher = publisher(&*broker, &queue).await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    // The first is overtaken by the second where both wait.
    let later = |text: &'static str, after: u64| Message::builder(text).delay(Duration::from_secs(after)).build();
    publisher.publish(later("overtaken", 20)?).await?;
    publisher.publish(later("overtakes", 1)?).await?;
    let overtakes = next(&mut consumer).await?;
    assert_eq!(text(&overtakes), "overtakes");
    overtakes.ack().await?;
    for what in ["released", "held", "released at the end"] {
        publisher.publish(what).await?;
    }
    let mut taken = Vec::new();
    for what in ["released", "held", "released at the end"] {
        let delivery = next(&mut consumer).await?;
        assert_eq!(text(&delivery), what);
        taken.push(delivery);
    }
    taken.remove(0).release().await?;
    let held = taken.remove(0);
    taken.push(next(&mut consumer).await?);
    consumer.stop();
    for delivery in taken {
        assert_ne!(text(&delivery), "overtaken", "this took too long");
        assert_eq!(delivery.attempt(), 1);
        delivery.release().await?;
    }
    let report = consumer.close(Duration::from_secs(1)).await;
    assert_eq!(report.abandoned, 1, "{report:?}");
    assert_eq!(held.ack().await.err().map(|error| error.kind()), Some(ErrorKind::StaleDelivery));

    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let mut got = BTreeMap::new();
    while got.len() < 4 {
        let delivery = next(&mut consumer).await?;
        // That one stands behind an open one, and comes again.
        if text(&delivery) != "overtakes" {
            got.insert(text(&delivery), delivery.attempt());
        }
        delivery.ack().await?;
    }
    let known = [("held", 2), ("overtaken", 1), ("released", 1), ("released at the end", 1)];
    assert_eq!(got, known.map(|(text, attempt)| (text.to_owned(), attempt)).into());
    Ok(())
}
