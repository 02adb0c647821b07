//! What only Kafka has: committed offsets, groups that rebalance, copies in sync.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use integration_tests::{Error, Kind, Result, raw, until};
use messaging_conformance::history::Mark;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::address::Address;
use crate::committed::{self, Standing};
use crate::length::Length;
use crate::real::Real;
use crate::run::{Demand, Run};
use crate::shared::{NOTICED, close, healthy, slack};
use crate::stage::{Fault, Stage};
use crate::traffic::{self, Consuming, Load, Manner, PATIENCE, Publishing};
use integration_tests::runner::Verdict;

const ANSWER: Duration = Duration::from_secs(10);

/// How many members the group has, by Kafka's own command line: a client cannot ask for groups of the new protocol.
pub(crate) async fn members(stage: &Real, at: &Address) -> Result<usize> {
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let group = group(at);
    let listed = stage.node().administer(&[class, "--describe", "--members", "--group", &group]).await?;
    Ok(listed.lines().filter(|line| line.trim_start().starts_with(&group)).count())
}

/// The group of a queue or subscription.
fn group(at: &Address) -> String {
    at.subscription.as_ref().map_or_else(|| at.name.clone(), |subscription| format!("{}--{subscription}", at.name))
}

/// An offset committed past what is settled is found out, by what the broker itself says.
pub(crate) async fn a_skipping_commit_is_found_out() -> Verdict {
    let stage = Real::one(Kind::Kafka).await?;
    let at = stage.queue();
    let mut client = raw::connect(Kind::Kafka, &stage.url(), None).await?;
    client.create(&at.name).await?;
    for mark in 0..10 {
        client.put(&at.name, &mark.to_string()).await?;
    }
    let (config, topic) = (config(&stage.url(), &group(&at)), at.name.clone());
    let committing = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(5))?;
        consumer.commit(&offsets, CommitMode::Sync)
    });
    committing.await??;

    let run = Run::new("kafka with a commit that skips");
    run.acking([0, 1, 2, 7]);
    let skipped = committed::nothing_is_skipped(&stage, &run, &at).await;
    let skipped_by_now = committed::all_is_committed(&stage, &run, &at).await;
    let found = stage.committed(&at).await?.unwrap_or_default();
    let standings = [vec![0, 1, 2, 7], vec![0, 1, 2, 3, 4, 7], vec![0, 1, 2, 3, 4], vec![]]
        .map(|acked| Standing::of(&found, &acked.into_iter().collect()));
    let (nobody, coordinator) = (members(&stage, &at).await?, coordinator(&stage.url(), &at).await?);
    delete(&stage.url(), &at).await?;
    let gone = committed(&stage.url(), &at).await;

    let past = |count, first| format!("{count} messages below the committed offset are not settled, such as {first}");
    let told = [skipped, skipped_by_now].map(|verdict| verdict.err().map(|error| error.to_string()));
    if told != [Some(past(2, 3)), Some(past(2, 3))] {
        return Err(format!("this is found: {told:?}").into());
    }
    let behind = "of the acknowledged messages 1 are not committed, such as 7".to_owned();
    let right = [Standing::Past(past(2, 3)), Standing::Behind(behind), Standing::Even(5), Standing::Past(past(5, 0))];
    if standings != right || Standing::of(&[], &HashSet::new()) != Standing::Even(0) {
        return Err(format!("{found:?} stands so: {standings:?}").into());
    }
    if gone.is_ok() || (nobody, coordinator) != (0, 0) {
        return Err(format!("{gone:?} is committed, {nobody} members, coordinator {coordinator}").into());
    }
    Ok(())
}

/// The node that coordinates the group: it leads the group's partition of Kafka's own topic, which is found by the hash of
/// its name.
pub(crate) async fn coordinator(url: &str, at: &Address) -> Result<usize> {
    let (config, group) = (config(url, "asking"), group(at));
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some("__consumer_offsets"), ANSWER)?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX).max(1);
        let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
        let wanted = (hash & i32::MAX) % count;
        Ok(partitions.iter().find(|partition| partition.id() == wanted).map(|partition| partition.leader()))
    });
    let leader: Result<_, KafkaError> =
        asked.await.map_err(|error| Error::caused("asking for a coordinator was given up", error))?;
    let leader = leader.map_err(|error| Error::caused("kafka does not tell a coordinator", error))?;
    // Ids begin at 1.
    let node = leader.and_then(|id| usize::try_from(id).ok()?.checked_sub(1));
    node.ok_or_else(|| Error::failed(format!("the group of {} has no coordinator now", at.name)))
}

/// With fewer copies in sync than are asked for, publishes fail and say so, and nothing is claimed; then all goes on.
pub(crate) async fn below_min_in_sync() -> Verdict {
    let stage = Real::cluster(Kind::Kafka).await?;
    let messages = Length::chosen().messages();
    let at = stage.queue();
    let run = Arc::new(Run::new("kafka ×3 fewer in sync than asked for"));
    let broker = at.open().await?;
    let consuming = Consuming::start(&run, &broker, &at, Manner::default()).await?;
    // All three, so that one that is gone is one too few, and the controllers are still a majority.
    let alter = ["kafka.admin.ConfigCommand", "--alter", "--entity-type", "topics", "--entity-name", &at.name];
    let alter = [&alter[..], &["--add-config", "min.insync.replicas=3"]].concat();
    stage.node().administer(&alter).await?;
    let load = Load { timeout: Duration::from_secs(5), ..Load::default() };
    let publishing = Publishing::start(&run, &broker, &at, load).await?;
    traffic::confirmed(&run, messages / 2).await?;

    let cluster = stage.of_nodes()?;
    let follower = (cluster.leader(&at.name).await? + 1) % cluster.len();
    run.fault_began();
    cluster.node(follower).kill().await?;
    // Until the controller has taken it out of the set, the leader waits for it, and what it has in the end is a matter of luck.
    let settled = until("no more confirms", PATIENCE, || async {
        let before = run.confirmed();
        tokio::time::sleep(Duration::from_secs(2)).await;
        if run.confirmed() == before { Ok(before) } else { Err(Error::failed("some are confirmed")) }
    })
    .await;
    let during = tokio::time::sleep(load.timeout + Duration::from_secs(2));
    during.await;
    let claimed = run.confirmed();
    let failed = run.failed();
    cluster.node(follower).start().await?;
    run.fault_ended();

    if claimed != settled? {
        return Err("publishes were confirmed while too few copies were in sync".into());
    }
    if failed == 0 {
        return Err(format!("no publish failed within its time limit of {:?}", load.timeout).into());
    }
    run.remark(format!("{failed} failed meanwhile"));
    traffic::back(&run, true, true).await?;
    traffic::confirmed(&run, messages).await?;
    publishing.stop().await?;
    traffic::received(&run).await?;
    healthy(&*broker).await?;
    committed::all_is_committed(&stage, &run, &at).await?;
    consuming.stop().await?;
    close(&*broker).await?;
    committed::nothing_is_skipped(&stage, &run, &at).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;
    run.judge(Demand::of(messages))
}

/// The leader of all that a process reads stands still. The process publishes nothing that would fail, and its health says all
/// the same that it hears nothing; once another leads, or the same again, all goes on.
pub(crate) async fn paused_leader_of_a_reader() -> Verdict {
    let stage = Real::cluster(Kind::Kafka).await?;
    let messages = Length::chosen().messages();
    let run = Arc::new(Run::new("kafka ×3 LeaderPaused while only reading from it"));
    let at = stage.queue().with("partitions", "1");
    let (writer, reader) = (at.open().await?, at.open().await?);
    let slack = slack(&*reader, &at)?;
    let consuming = Consuming::start(&run, &reader, &at, Manner::default()).await?;
    let publishing = Publishing::start(&run, &writer, &at, Load::default()).await?;
    traffic::confirmed(&run, messages / 2).await?;
    traffic::received(&run).await?;

    run.fault_began();
    stage.begin(Fault::LeaderPaused, &at).await?;
    let noticed = run.notice(&*reader, NOTICED).await;
    stage.end(Fault::LeaderPaused, &at).await?;
    run.fault_ended();
    noticed.ok_or("health of a process that only reads says up while the leader stands still")?;
    committed::nothing_is_skipped(&stage, &run, &at).await?;

    traffic::back(&run, true, true).await?;
    traffic::confirmed(&run, messages).await?;
    publishing.stop().await?;
    traffic::received(&run).await?;
    healthy(&*reader).await?;
    committed::all_is_committed(&stage, &run, &at).await?;
    consuming.stop().await?;
    close(&*reader).await?;
    close(&*writer).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;
    run.judge(Demand::of(messages).with_slack(slack))
}

/// The messages before the group's committed offsets.
pub(crate) async fn committed(url: &str, at: &Address) -> Result<Vec<Mark>> {
    let (config, topic) = (config(url, &group(at)), at.name.clone());
    let read = tokio::task::spawn_blocking(move || read_committed(&config, &topic));
    read.await.map_err(|error| Error::caused("reading what is committed was given up", error))?
}

fn read_committed(config: &ClientConfig, topic: &str) -> Result<Vec<Mark>> {
    let cannot = |error: KafkaError| Error::caused("kafka does not tell what is committed", error);
    let consumer: BaseConsumer = config.create().map_err(cannot)?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(cannot)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if partitions == 0 {
        return Err(Error::failed(format!("kafka knows no partition of {topic}")));
    }
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(topic, i32::try_from(partition).unwrap_or(i32::MAX));
    }
    let mut ends = Vec::new();
    // Dropped while such a list lives, the consumer would hang.
    for element in consumer.committed_offsets(asked, ANSWER).map_err(cannot)?.elements() {
        element.error().map_err(cannot)?;
        if let Offset::Offset(end) = element.offset() {
            ends.push((element.partition(), end));
        }
    }
    let mut marks = Vec::new();
    for (partition, end) in ends {
        let (low, _) = consumer.fetch_watermarks(topic, partition, ANSWER).map_err(cannot)?;
        read_until(&consumer, topic, partition, low..end, &mut marks)?;
    }
    Ok(marks)
}

fn read_until(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    offsets: std::ops::Range<i64>,
    marks: &mut Vec<Mark>,
) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let cannot = |error: KafkaError| Error::caused("kafka does not give what is committed", error);
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, partition, Offset::Offset(offsets.start)).map_err(cannot)?;
    consumer.assign(&from).map_err(cannot)?;
    let mut next = offsets.start;
    while next < offsets.end {
        let Some(message) = consumer.poll(ANSWER) else {
            let rest = offsets.end - next;
            return Err(Error::failed(format!(
                "of partition {partition} the last {rest} committed records do not come"
            )));
        };
        let message = message.map_err(cannot)?;
        next = message.offset() + 1;
        if message.offset() < offsets.end {
            let text = message.payload().and_then(|payload| std::str::from_utf8(payload).ok());
            let mark = text.and_then(|text| text.parse::<Mark>().ok());
            marks.push(mark.ok_or_else(|| Error::failed("a committed record is none of this run's"))?);
        }
    }
    consumer.assign(&TopicPartitionList::new()).map_err(cannot)
}

/// Deletes the topic.
pub(crate) async fn delete(url: &str, at: &Address) -> Result<()> {
    let cannot = |error: KafkaError| Error::caused(format!("topic {} cannot be deleted", at.name), error);
    let admin: AdminClient<DefaultClientContext> = config(url, "deleting").create().map_err(cannot)?;
    let deleted = admin.delete_topics(&[&at.name], &AdminOptions::new()).await.map_err(cannot)?;
    match deleted.into_iter().next() {
        Some(Err((_, code))) => Err(cannot(KafkaError::AdminOp(code))),
        _ => Ok(()),
    }
}

fn config(url: &str, group: &str) -> ClientConfig {
    let hosts = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", hosts).set("broker.address.family", "v4").set("group.id", group);
    config.set("enable.auto.commit", "false").set("reconnect.backoff.max.ms", "500");
    config
}
