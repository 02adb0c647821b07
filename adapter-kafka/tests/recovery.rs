//! What a member comes back from: a log that was cut off, commits of others, members that died, groups that refuse.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "librdkafka's own list: its wrapper writes text alone")]

mod support;

use std::collections::HashSet;
use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use integration_tests::{Kind, Way, own_by};
use messaging_core::{
    Broker, ConsumeOptions, Consumer, Control, Delivery, Destination, ErrorKind, Event, Flow, Part, PublishOptions,
    QueueName, Source,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::bindings;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use support::{connect, fresh, run, server};

fn main() -> ExitCode {
    run(&[
        ("past_a_trimmed_log_it_goes_on_by_the_new_protocol", || Box::pin(trimmed("auto"))),
        ("past_a_trimmed_log_it_goes_on_by_the_classic_protocol", || Box::pin(trimmed("classic"))),
        ("before_the_end_of_a_log_that_got_shorter_it_goes_on", || Box::pin(shortened())),
        ("what_may_have_killed_a_member_does_not_wait_behind_a_backlog", || Box::pin(suspects_first())),
        ("what_may_have_killed_a_member_is_purged_too", || Box::pin(suspects_purged())),
        ("a_purge_is_of_all_that_waits_or_refused", || Box::pin(purged_whole())),
        ("a_member_that_is_put_out_while_it_joins_comes_back", || Box::pin(put_out())),
        ("a_flush_is_answered_while_settlements_go_on", || Box::pin(flushed_under_load())),
        ("what_others_committed_with_an_offset_need_not_be_text", || Box::pin(foreign_metadata())),
    ])
}

type Checked = Result<(), Box<dyn std::error::Error + Send + Sync>>;
type Found<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a case waits for, at most.
const LIMIT: Duration = Duration::from_secs(30);

/// A client of the broker's own, for what the adapter does not do.
fn raw(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", url.trim_start_matches("kafka://"));
    config
}

/// Writes texts into one partition.
fn write(url: &str, topic: &str, partition: i32, texts: impl Iterator<Item = String>) -> Checked {
    let producer: BaseProducer = raw(url).set("queue.buffering.max.messages", "1000000").create()?;
    for text in texts {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(partition).payload(text.as_str());
        producer.send(record).map_err(|(error, _)| error)?;
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(LIMIT)?)
}

/// Deletes what lies below an offset.
async fn trim(url: &str, topic: &str, partition: i32, below: i64) -> Checked {
    let admin: AdminClient<DefaultClientContext> = raw(url).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(below))?;
    let deleted = admin.delete_records(&list, &AdminOptions::new()).await?;
    deleted.elements().iter().try_for_each(|one| one.error())?;
    Ok(())
}

/// Commits for partition 0 of a queue that has no members.
fn commit(url: &str, queue: &QueueName, offset: i64, metadata: &str) -> Checked {
    let other: BaseConsumer = raw(url).set("group.id", queue.as_str()).create()?;
    let mut list = TopicPartitionList::new();
    let mut one = list.add_partition(queue.as_str(), 0);
    one.set_offset(Offset::Offset(offset))?;
    one.set_metadata(metadata);
    Ok(other.commit(&list, CommitMode::Sync)?)
}

/// Where a queue with one partition is committed.
async fn committed(broker: &dyn Broker, queue: &QueueName) -> Found<u64> {
    let positions = broker.inspect().positions(&Source::Queue(queue.clone())).await?;
    Ok(positions.first().ok_or("a position")?.committed)
}

/// A queue that is there.
async fn queue(broker: &dyn Broker, stem: &str) -> Found<QueueName> {
    let queue = QueueName::parse(fresh(stem))?;
    drop(broker.publisher(&Destination::Queue(queue.clone()), PublishOptions::default()).await?);
    Ok(queue)
}

async fn next(consumer: &mut Consumer) -> Found<Delivery> {
    Ok(tokio::time::timeout(LIMIT, consumer.next()).await??.ok_or("the consumer has ended")?)
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.message().payload()).into_owned()
}

async fn flush(control: Arc<dyn Control>) -> Checked {
    Ok(control.flush(tokio::time::Instant::now() + LIMIT).await?)
}

/// How many messages were missed, once a gap is told.
async fn gap(consumer: &mut Consumer) -> Found<Option<u64>> {
    let told = async {
        loop {
            if let Event::Gap { missed } = poll_fn(|cx| consumer.poll_event(cx)).await {
                return missed;
            }
        }
    };
    Ok(tokio::time::timeout(LIMIT, told).await?)
}

async fn trimmed(protocol: &str) -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("group_protocol", protocol), ("partitions", "2")]).await?;
    let queue = queue(&*broker, "trimmed").await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    for partition in 0..2 {
        write(&url, queue.as_str(), partition, (0..10).map(|number| format!("{partition}/{number}")))?;
    }
    // One of partition 0 stays open, below what will be left of it.
    let mut open = None;
    let mut got = HashSet::new();
    for _ in 0..20 {
        let delivery = next(&mut consumer).await?;
        assert!(got.insert(text(&delivery)), "{} came twice", text(&delivery));
        if text(&delivery) == "0/0" { open = Some(delivery) } else { delivery.ack().await? }
    }

    // Partition 1 is cut off past where it was read, partition 0 is not: the client has not fetched what is large.
    consumer.control().set_flow(Flow::Paused);
    write(&url, queue.as_str(), 1, (10..610).map(|number| format!("1/{number}/{}", "x".repeat(100_000))))?;
    write(&url, queue.as_str(), 0, (10..30).map(|number| format!("0/{number}")))?;
    trim(&url, queue.as_str(), 0, 5).await?;
    trim(&url, queue.as_str(), 1, 610).await?;
    write(&url, queue.as_str(), 1, (610..620).map(|number| format!("1/{number}")))?;
    consumer.control().set_flow(Flow::Running);
    let rest: HashSet<_> =
        (10..30).map(|number| format!("0/{number}")).chain((610..620).map(|number| format!("1/{number}"))).collect();
    while !rest.is_subset(&got) {
        let delivery = next(&mut consumer).await?;
        let name = text(&delivery).trim_end_matches('x').trim_end_matches('/').to_owned();
        assert!(got.insert(name.clone()), "{name} came twice");
        delivery.ack().await?;
    }
    let missed = gap(&mut consumer).await?.ok_or("how many were missed")?;
    assert!(missed > 0 && usize::try_from(missed)? + got.len() == 30 + 620, "{missed} were missed, {} came", got.len());
    open.ok_or("0/0 has come")?.ack().await?;
    flush(consumer.control()).await?;
    Ok(())
}

/// As after an unclean election: what is committed lies past the end.
async fn shortened() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = queue(&*broker, "shorter").await?;
    write(&url, queue.as_str(), 0, (0..10).map(|number| number.to_string()))?;
    commit(&url, &queue, 100, "")?;

    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    assert_eq!(gap(&mut consumer).await?, None);
    write(&url, queue.as_str(), 0, (10..20).map(|number| number.to_string()))?;
    for number in 10..20 {
        let delivery = next(&mut consumer).await?;
        assert_eq!(text(&delivery), number.to_string());
        delivery.ack().await?;
    }
    flush(consumer.control()).await?;
    assert_eq!(committed(&*broker, &queue).await?, 20);
    Ok(())
}

/// A queue whose last member died, as its last commit says.
async fn orphaned(url: &str, broker: &dyn Broker, messages: u32) -> Found<QueueName> {
    let queue = queue(broker, "orphaned").await?;
    write(url, queue.as_str(), 0, (0..messages).map(|number| number.to_string()))?;
    commit(url, &queue, 0, "m1o")?;
    Ok(queue)
}

async fn suspects_first() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = orphaned(&server.url(), &*broker, 5_000).await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default().with_prefetch(10)).await?;
    let mut got = HashSet::new();
    for _ in 0..1_500 {
        let delivery = next(&mut consumer).await?;
        got.insert(text(&delivery));
        // An application at work.
        tokio::time::sleep(Duration::from_millis(1)).await;
        delivery.ack().await?;
    }
    let late: Vec<_> = (0..100).filter(|number: &u32| !got.contains(&number.to_string())).collect();
    assert!(late.is_empty(), "{late:?} wait behind later ones");
    Ok(())
}

async fn suspects_purged() -> Checked {
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = orphaned(&server.url(), &*broker, 50).await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default().with_prefetch(1)).await?;
    let held = next(&mut consumer).await?;
    assert_eq!(text(&held), "0");
    broker.repair().purge(&Source::Queue(queue.clone()), Part::Live).await?;
    held.ack().await?;
    flush(consumer.control()).await?;
    assert_eq!(committed(&*broker, &queue).await?, 50);
    write(&server.url(), queue.as_str(), 0, std::iter::once("later".to_owned()))?;
    assert_eq!(text(&next(&mut consumer).await?), "later");
    Ok(())
}

async fn purged_whole() -> Checked {
    let server = server().await?;
    let here = connect(&server.url(), [("partitions", "2")]).await?;
    let elsewhere = connect(&server.url(), [("partitions", "2")]).await?;
    let queue = queue(&*here, "purged").await?;
    let source = Source::Queue(queue.clone());
    let _ours = here.consume(&queue, ConsumeOptions::default()).await?;
    let theirs = elsewhere.consume(&queue, ConsumeOptions::default()).await?;
    // As soon as each has its partition, a part cannot stand for the whole.
    purge_until(&*here, &source, |purged| purged.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict))
        .await?;

    drop(theirs);
    for partition in 0..2 {
        write(&server.url(), queue.as_str(), partition, (0..10).map(|number| number.to_string()))?;
    }
    purge_until(&*here, &source, Result::is_ok).await?;
    // Nobody has to commit it any more.
    assert_eq!(elsewhere.inspect().depth(&source).await?.ready, 0);
    Ok(())
}

/// Purges again and again until it comes to what is waited for.
async fn purge_until(
    broker: &dyn Broker,
    source: &Source,
    is_it: impl Fn(&messaging_core::Result<Option<u64>>) -> bool,
) -> Checked {
    let begun = Instant::now();
    loop {
        let purged = broker.repair().purge(source, Part::Live).await;
        if is_it(&purged) {
            return Ok(());
        }
        assert!(begun.elapsed() < LIMIT, "{purged:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A member of the classic protocol is put out of its group between being assigned partitions and committing that it has them.
async fn put_out() -> Checked {
    // Its command line puts members out.
    let server = own_by(Kind::Kafka, Way::Native).await?;
    let url = server.url();
    let settings = [("group_protocol", "classic"), ("partitions", "1"), ("commit_interval", "5min")];
    let broker = connect(&url, settings).await?;
    let queue = queue(&*broker, "put-out").await?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    write(&url, queue.as_str(), 0, std::iter::once("first".to_owned()))?;
    next(&mut consumer).await?.ack().await?;
    flush(consumer.control()).await?;

    // A transaction of somebody's holds the group's offsets back: the member cannot read where it goes on.
    let group = |config: &mut ClientConfig| config.set("group.id", queue.as_str()).set("client.id", "zz").clone();
    let outsider: BaseConsumer = group(&mut raw(&url)).create()?;
    let transaction: BaseProducer = raw(&url).set("transactional.id", fresh("holds")).create()?;
    transaction.init_transactions(LIMIT)?;
    transaction.begin_transaction()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(queue.as_str(), 0, Offset::Offset(1))?;
    let members = outsider.group_metadata().ok_or("a group")?;
    transaction.send_offsets_to_transaction(&list, &members, LIMIT)?;

    // Somebody joins, so that all partitions are given out anew, and all are put out.
    let second: BaseConsumer = group(raw(&url).set("partition.assignment.strategy", "range")).create()?;
    second.subscribe(&[queue.as_str()])?;
    let begun = Instant::now();
    while !matches!(second.rebalance_protocol(), RebalanceProtocol::Eager) {
        second.poll(Duration::from_millis(100));
        assert!(begun.elapsed() < LIMIT, "nobody else can join");
    }
    let resetter = "org.apache.kafka.tools.StreamsResetter";
    server.administer(&[resetter, "--application-id", queue.as_str(), "--force"]).await?;
    drop(second);
    transaction.abort_transaction(LIMIT)?;

    write(&url, queue.as_str(), 0, std::iter::once("second".to_owned()))?;
    let delivery = next(&mut consumer).await?;
    assert_eq!(text(&delivery), "second");
    delivery.ack().await?;
    flush(consumer.control()).await?;

    // Put out again, with a settlement that is not committed: it comes again, and the next flush says so.
    write(&url, queue.as_str(), 0, std::iter::once("third".to_owned()))?;
    next(&mut consumer).await?.ack().await?;
    server.administer(&[resetter, "--application-id", queue.as_str(), "--force"]).await?;
    let again = next(&mut consumer).await?;
    assert_eq!(text(&again), "third");
    let told = consumer.control().flush(tokio::time::Instant::now() + LIMIT).await;
    assert_eq!(told.map_err(|error| error.kind()), Err(ErrorKind::StaleDelivery));
    again.ack().await?;
    flush(consumer.control()).await
}

async fn flushed_under_load() -> Checked {
    const MESSAGES: u32 = 300_000;
    let server = server().await?;
    let broker = connect(&server.url(), [("partitions", "1")]).await?;
    let queue = queue(&*broker, "loaded").await?;
    write(&server.url(), queue.as_str(), 0, (0..MESSAGES).map(|number| number.to_string()))?;
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    let control = consumer.control();
    let reader = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            let Ok(Some(delivery)) = consumer.next().await else { return };
            // Not awaited: settlements go on while a flush is under way.
            drop(delivery.ack());
        }
    });
    // No flush waits for the end of it all.
    for _ in 0..3 {
        flush(Arc::clone(&control)).await?;
    }
    assert!(!reader.is_finished(), "the flushes waited until all was settled");
    reader.abort();
    Ok(())
}

async fn foreign_metadata() -> Checked {
    let server = server().await?;
    let url = server.url();
    let broker = connect(&url, [("partitions", "1")]).await?;
    let queue = queue(&*broker, "foreign").await?;
    write(&url, queue.as_str(), 0, (0..3).map(|number| number.to_string()))?;
    let other: BaseConsumer = raw(&url).set("group.id", queue.as_str()).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(queue.as_str(), 0, Offset::Offset(1))?;
    // SAFETY: the list is alive and has one element, which owns its metadata and frees it as the client's memory that it is.
    unsafe {
        let bytes = bindings::rd_kafka_mem_malloc(std::ptr::null_mut(), 1);
        bytes.cast::<u8>().write(0xff);
        let one = &mut *(*list.ptr()).elems;
        (one.metadata, one.metadata_size) = (bytes, 1);
    }
    other.commit(&list, CommitMode::Sync)?;

    assert_eq!(committed(&*broker, &queue).await?, 1);
    let mut consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
    for number in 1..3 {
        let delivery = next(&mut consumer).await?;
        assert_eq!((text(&delivery), delivery.attempt()), (number.to_string(), 1));
        delivery.ack().await?;
    }
    flush(consumer.control()).await
}
