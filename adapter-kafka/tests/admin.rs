//! Looking at queues and repairing them while others write: what is asked for ends, and nothing is lost.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use messaging_core::wire::{DEAD_ORIGIN, DUE, to_millis};
use messaging_core::{
    Broker, ConsumeOptions, Destination, Message, Part, PublishOptions, PublisherExt, QueueName, Redrive, Source,
};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer as _};
use support::{connect, fresh, run, server};
use tokio::time::{sleep, timeout};

fn main() -> ExitCode {
    run(&[
        ("what_fails_again_while_it_is_redriven_is_not_lost", || Box::pin(failing_again())),
        ("asking_ends_while_others_write", || Box::pin(asking_while_others_write())),
        ("asking_ends_behind_transactions", || Box::pin(asking_behind_transactions())),
        ("two_records_of_one_id_are_two_letters", || Box::pin(letters_of_one_id())),
        ("nothing_lags_when_all_that_can_be_delivered_was", || Box::pin(lag_behind_transactions())),
    ])
}

type Checked = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How long anything here may take that is not slow by nature.
const SOON: Duration = Duration::from_secs(10);

fn config(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", url.trim_start_matches("kafka://"));
    config
}

/// A consumer whose handler fails at once, for good; counts what it has let fail.
async fn failing(broker: &Arc<dyn Broker>, queue: &QueueName) -> Result<Arc<AtomicUsize>, messaging_core::Error> {
    let mut consumer = broker.consume(queue, ConsumeOptions::default()).await?;
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    tokio::spawn(async move {
        while let Ok(Some(delivery)) = consumer.next().await {
            let count = Arc::clone(&count);
            let outcome = delivery.dead_letter("rejected");
            tokio::spawn(async move {
                if outcome.await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    Ok(failed)
}

async fn until(count: &AtomicUsize, wanted: usize) -> Checked {
    let reached = async {
        while count.load(Ordering::SeqCst) < wanted {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(Duration::from_secs(60), reached).await;
    waited.map_err(|_| format!("{} of {wanted} have failed", count.load(Ordering::SeqCst)).into())
}

async fn failing_again() -> Checked {
    const MESSAGES: usize = 100;
    let server = server().await?;
    let broker = connect(&server.url(), []).await?;
    let queue = QueueName::parse(fresh("fails-again"))?;
    let source = Source::Queue(queue.clone());
    let failed = failing(&broker, &queue).await?;
    let publisher = broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?;
    let mut ids = BTreeSet::new();
    for number in 0..MESSAGES {
        let message = Message::from(number.to_string());
        ids.insert(message.id().to_string());
        publisher.publish(message).await?;
    }
    for round in 0..6 {
        until(&failed, MESSAGES * (round + 1)).await?;
        let letters = broker.inspect().dead_letters(&source, 10 * MESSAGES).await?;
        let there: BTreeSet<String> = letters.iter().map(|letter| letter.message.id().to_string()).collect();
        let lost = ids.difference(&there).count();
        assert_eq!(lost, 0, "round {round}: so many of {MESSAGES} are lost");
        assert_eq!(letters.len(), MESSAGES, "round {round}: a letter that was redriven is still there");
        let wanted = u32::try_from(round)?;
        assert!(letters.iter().all(|letter| letter.redriven == wanted && letter.message.key().is_none()));
        assert_eq!(broker.repair().redrive(&source, Redrive::All).await?, MESSAGES as u64);
    }
    until(&failed, MESSAGES * 7).await?;
    assert_eq!(broker.repair().purge(&source, Part::Dead).await?, Some(MESSAGES as u64));

    // What earlier versions wrote has the id alone as its key, and goes the same way.
    let dead = format!("{}--dead", queue.as_str());
    let origin = format!("queue:{}", queue.as_str());
    let headers = OwnedHeaders::new()
        .insert(Header { key: "ce_id", value: Some("old/1") })
        .insert(Header { key: DEAD_ORIGIN, value: Some(origin.as_str()) });
    let old = FutureRecord::to(&dead).key("old/1").payload("old").headers(headers);
    let producer: FutureProducer = config(&server.url()).create()?;
    producer.send(old, SOON).await.map_err(|(error, _)| error)?;
    assert_eq!(broker.repair().redrive(&source, Redrive::Ids(vec!["old/1".into()])).await?, 1);
    until(&failed, MESSAGES * 7 + 1).await?;
    let letters = broker.inspect().dead_letters(&source, 10).await?;
    let found: Vec<_> = letters.iter().map(|letter| (letter.message.id().to_string(), letter.redriven)).collect();
    assert_eq!(found, [("old/1".to_owned(), 1)]);
    Ok(())
}

async fn asking_while_others_write() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "2")]).await?;
    let queue = QueueName::parse(fresh("busy"))?;
    let source = Source::Queue(queue.clone());
    let publisher = broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?;
    for number in 0..20 {
        publisher.publish(number.to_string()).await?;
    }
    let producer: BaseProducer = config(&server.url()).set("linger.ms", "0").create()?;
    let (written, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, end, name) = (Arc::clone(&written), Arc::clone(&is_over), queue.as_str().to_owned());
    let due = (to_millis(SystemTime::now()) + 3_600_000).to_string();
    // To each partition so often that nobody who reads along ever comes to an end.
    let writing = std::thread::spawn(move || {
        while !end.load(Ordering::SeqCst) {
            let key = (count.load(Ordering::SeqCst) % 20).to_string();
            for (part, partition) in [("", 0), ("", 1), ("--retry", 0), ("--retry", 1), ("--dead", 0)] {
                let topic = format!("{name}{part}");
                let headers = OwnedHeaders::new().insert(Header { key: DUE, value: Some(due.as_str()) });
                let record = BaseRecord::to(&topic).key(&key).payload("more").headers(headers).partition(partition);
                if producer.send(record).is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
            producer.poll(Duration::from_millis(2));
        }
    });
    until(&written, 100).await?;
    let inspect = broker.inspect();
    for _ in 0..3 {
        let before = written.load(Ordering::SeqCst);
        let browsed = timeout(SOON, inspect.browse(&source, 5)).await??;
        assert_eq!(browsed.len(), 5);
        let depth = timeout(SOON, inspect.depth(&source)).await??;
        assert!(depth.ready >= 20 && depth.delayed.is_some_and(|delayed| delayed > 0), "{depth:?}");
        assert!(!timeout(SOON, inspect.dead_letters(&source, 10)).await??.is_empty());
        // They did write all the time, or this shows nothing.
        assert!(written.load(Ordering::SeqCst) > before + 100, "too little was written meanwhile");
    }
    is_over.store(true, Ordering::SeqCst);
    writing.join().map_err(|_| "the writer panicked")?;
    Ok(())
}

async fn asking_behind_transactions() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("transacted"))?;
    let source = Source::Queue(queue.clone());
    drop(broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?);
    write_transactions(&server.url(), queue.as_str()).await?;
    let browsed = timeout(SOON, broker.inspect().browse(&source, 10)).await??;
    let texts: Vec<_> = browsed.iter().map(|one| one.message.payload().as_ref()).collect();
    assert_eq!(texts, [b"kept"]);
    Ok(())
}

/// Writes a transaction that is committed and one that is aborted.
async fn write_transactions(url: &str, topic: &str) -> Checked {
    let producer: FutureProducer = config(url).set("transactional.id", topic).create()?;
    producer.init_transactions(SOON)?;
    for (text, is_kept) in [("kept", true), ("taken back", false)] {
        producer.begin_transaction()?;
        let record = FutureRecord::<str, str>::to(topic).payload(text);
        producer.send(record, SOON).await.map_err(|(error, _)| error)?;
        if is_kept { producer.commit_transaction(SOON)? } else { producer.abort_transaction(SOON)? }
    }
    Ok(())
}

async fn lag_behind_transactions() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("marked"))?;
    let source = Source::Queue(queue.clone());
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    write_transactions(&server.url(), queue.as_str()).await?;
    let admin = broker.inspect();
    assert_eq!((admin.lag(&source).await?, admin.depth(&source).await?.ready), (1, 1));
    timeout(SOON, consumer.next()).await??.ok_or("a delivery")?.ack().await?;
    consumer.control().flush(tokio::time::Instant::now() + SOON).await?;
    let depth = admin.depth(&source).await?;
    assert_eq!((admin.lag(&source).await?, depth.ready, depth.approximate), (0, 0, false));
    // What is committed passes the ends of transactions too, so that other programs see no lag either.
    let caught_up = async {
        loop {
            let positions = admin.positions(&source).await?;
            if positions.iter().all(|one| one.committed == one.end) {
                return Ok::<_, messaging_core::Error>(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, caught_up).await??;
    Ok(())
}

async fn letters_of_one_id() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = QueueName::parse(fresh("same"))?;
    let source = Source::Queue(queue.clone());
    let failed = failing(&broker, &queue).await?;
    let producer: FutureProducer = config(&server.url()).create()?;
    for from in ["one", "other"] {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "ce_id", value: Some("1") })
            .insert(Header { key: "ce_source", value: Some(from) });
        let record = FutureRecord::<str, str>::to(queue.as_str()).payload(from).headers(headers);
        producer.send(record, SOON).await.map_err(|(error, _)| error)?;
    }
    until(&failed, 2).await?;
    let payloads = |letters: Vec<messaging_core::DeadLetter>| {
        letters.iter().map(|one| String::from_utf8_lossy(one.message.payload()).into_owned()).collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from(["one".to_owned(), "other".to_owned()]);
    assert_eq!(payloads(broker.inspect().dead_letters(&source, 10).await?), both);
    // All that carry the id go back.
    assert_eq!(broker.repair().redrive(&source, Redrive::Ids(vec!["1".into()])).await?, 2);
    until(&failed, 4).await?;
    let again = broker.inspect().dead_letters(&source, 10).await?;
    assert!(again.iter().all(|one| one.redriven == 1));
    assert_eq!(payloads(again), both);
    Ok(())
}
