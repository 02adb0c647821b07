//! Topics: their names, what they should be like, and making or verifying them.

use std::time::{Duration, Instant};

use messaging_core::{Error, ErrorKind, PlanAction, Result, TopologyMode};
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use crate::config::{DestinationOptions, PARTITIONS, RECORD_OVERHEAD, Retention};
use crate::connection::{ASK, Connection, blocking};
use crate::consumer::Lane;
use crate::error::{code_of, from_code, from_kafka, is_passing};

/// The topics that one source reads and writes.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    /// The queue or topic itself.
    pub(crate) main: String,
    /// The group's own retries and redrives; a queue's delayed messages too.
    pub(crate) retry: Option<String>,
    /// Messages that were published for later, of a topic.
    pub(crate) delayed: Option<String>,
    /// The dead letter.
    pub(crate) dead: Option<String>,
    pub(crate) retry_partitions: i32,
}

/// Joins a name and what it is for. `--` cannot occur in a logical name.
pub(crate) fn derived(main: &str, part: &str) -> String {
    format!("{main}{}{part}", messaging_core::JOINT)
}

impl Topics {
    pub(crate) fn of_queue(main: &str) -> Self {
        Self {
            retry: Some(derived(main, "retry")),
            delayed: None,
            dead: Some(derived(main, "dead")),
            main: main.to_owned(),
            retry_partitions: 0,
        }
    }

    pub(crate) fn of_subscription(main: &str, group: &str) -> Self {
        Self {
            retry: Some(derived(group, "retry")),
            delayed: Some(derived(main, "delayed")),
            dead: Some(derived(group, "dead")),
            main: main.to_owned(),
            retry_partitions: 0,
        }
    }

    pub(crate) fn of_ephemeral(main: &str) -> Self {
        let delayed = Some(derived(main, "delayed"));
        Self { retry: None, delayed, dead: None, main: main.to_owned(), retry_partitions: 0 }
    }

    /// What the members of the group subscribe to.
    pub(crate) fn subscribed(&self) -> Vec<&str> {
        [Some(&self.main), self.retry.as_ref(), self.delayed.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    /// Everything, the dead letter too.
    pub(crate) fn all(&self) -> Vec<&str> {
        self.subscribed().into_iter().chain(self.dead.as_deref()).collect()
    }

    pub(crate) fn lane(&self, topic: &str) -> Lane {
        if Some(topic) == self.retry.as_deref() {
            Lane::Retry
        } else if Some(topic) == self.delayed.as_deref() {
            Lane::Delayed
        } else {
            Lane::Main
        }
    }

    fn is_dead(&self, topic: &str) -> bool {
        Some(topic) == self.dead.as_deref()
    }
}

/// How many partitions a topic has; none if it is not there.
pub(crate) async fn partitions(connection: &Connection, topics: &[&str]) -> Result<Vec<Option<i32>>> {
    connection.check_open()?;
    let (probe, names) = (connection.probe(), topics.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let ask = move || {
        let Some(probe) = probe.get() else { return Err(KafkaError::Canceled) };
        let one = |name: &String| {
            let metadata = patiently(|| probe.client().fetch_metadata(Some(name), ASK))?;
            let topic = metadata.topics().iter().find(|topic| topic.name() == name);
            let Some(topic) = topic.filter(|topic| topic.error().is_none()) else { return Ok(None) };
            let is_led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            Ok(Some(if is_led { count } else { -count }).filter(|count| *count != 0))
        };
        names.iter().map(one).collect::<std::result::Result<Vec<_>, KafkaError>>()
    };
    let counts = blocking("asking for topics", ASK * 2, ask).await?;
    let counts = counts.map_err(|error| from_kafka("topics cannot be looked up", &error))?;
    Ok(counts)
}

/// Asks again where a connection was just lost, or is about to be made.
fn patiently<T>(ask: impl Fn() -> std::result::Result<T, KafkaError>) -> std::result::Result<T, KafkaError> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(error) if code_of(&error).is_some_and(is_passing) && begun.elapsed() < ASK => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// A topic and what applying does about it.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) action: PlanAction,
    wanted: i32,
    is_dead: bool,
    is_main: bool,
}

/// Compares what is there with what is asked for.
pub(crate) async fn plan(connection: &Connection, topics: &Topics, options: &DestinationOptions) -> Result<Vec<Step>> {
    let names = topics.all();
    let counts = partitions(connection, &names).await?;
    let main = counts.first().copied().flatten().map(i32::abs);
    let of_main = main.unwrap_or_else(|| options.partitions.unwrap_or(PARTITIONS));
    let mut steps = Vec::with_capacity(names.len());
    for (name, count) in names.iter().zip(counts) {
        let is_main = *name == topics.main;
        let action = match count {
            None => PlanAction::Create,
            Some(count) if is_main => match differences(connection, name, count.abs(), options).await? {
                differences if differences.is_empty() => PlanAction::Keep,
                differences => PlanAction::Differs(differences),
            },
            Some(_) => PlanAction::Keep,
        };
        let is_dead = topics.is_dead(name);
        let wanted = if is_dead { 1 } else { of_main };
        steps.push(Step { name: (*name).to_owned(), action, wanted, is_dead, is_main });
    }
    Ok(steps)
}

/// In what a topic differs from what the configuration says of it; what it does not say may be anything.
async fn differences(
    connection: &Connection,
    name: &str,
    is: i32,
    options: &DestinationOptions,
) -> Result<Vec<String>> {
    let DestinationOptions { partitions, replication, retention, compaction, message_bytes: _, order: _ } = options;
    let mut pairs: Vec<(&str, String, String)> = Vec::new();
    if let Some(asked) = partitions {
        pairs.push(("partitions", is.to_string(), asked.to_string()));
    }
    if let Some(asked) = replication {
        pairs.push(("replication", copies(connection, name).await?.to_string(), asked.to_string()));
    }
    if retention.is_some() || compaction.is_some() {
        let values = configuration(connection, name).await?;
        let value = |key: &str| values.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value).to_owned();
        if let Some(asked) = retention {
            pairs.push(("retention (retention.ms)", value("retention.ms"), retention_ms(*asked).to_string()));
        }
        if let Some(asked) = compaction {
            pairs.push(("compaction (cleanup.policy)", value("cleanup.policy"), policy(*asked).to_owned()));
        }
    }
    let differing = pairs.into_iter().filter(|(_, is, asked)| is != asked);
    Ok(differing.map(|(key, is, asked)| format!("{key} is {is}, asked for is {asked}")).collect())
}

async fn copies(connection: &Connection, name: &str) -> Result<usize> {
    let (probe, topic) = (connection.probe(), name.to_owned());
    let ask = move || {
        let probe = probe.get()?;
        let metadata = probe.client().fetch_metadata(Some(&topic), ASK).ok()?;
        metadata.topics().first()?.partitions().iter().map(|partition| partition.replicas().len()).min()
    };
    Ok(blocking("asking for replicas", ASK * 2, ask).await?.unwrap_or(0))
}

async fn configuration(connection: &Connection, name: &str) -> Result<Vec<(String, String)>> {
    let admin = connection.admin()?;
    let Some(client) = admin.get() else { return Ok(Vec::new()) };
    let asked = [ResourceSpecifier::Topic(name)];
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let cannot = |error: &KafkaError| from_kafka("the configuration of a topic cannot be read", error);
    let answer = client.describe_configs(&asked, &options).await.map_err(|error| cannot(&error))?;
    let mut values = Vec::new();
    for resource in answer {
        let resource = resource.map_err(|code| from_code("the configuration of a topic cannot be read", code))?;
        values.extend(resource.entries.into_iter().map(|entry| (entry.name, entry.value.unwrap_or_default())));
    }
    Ok(values)
}

fn retention_ms(retention: Retention) -> i64 {
    match retention {
        Retention::Forever => -1,
        Retention::For(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
    }
}

fn policy(is_compacted: bool) -> &'static str {
    if is_compacted { "compact" } else { "delete" }
}

/// Has the topics there as the mode wants them; returns how many partitions each has, in the order of [`Topics::all`].
pub(crate) async fn ensure(
    connection: &Connection,
    mode: TopologyMode,
    what: &str,
    topics: &Topics,
    options: &DestinationOptions,
) -> Result<Vec<i32>> {
    if mode == TopologyMode::Assume {
        // Whatever is not there is found out by the first use.
        let counts = partitions(connection, &topics.all()).await?;
        return Ok(counts.into_iter().map(|count| count.unwrap_or(0).abs()).collect());
    }
    let steps = plan(connection, topics, options).await?;
    check(what, &steps, mode)?;
    create(connection, &steps, options).await?;
    await_leaders(connection, &steps).await
}

fn check(what: &str, steps: &[Step], mode: TopologyMode) -> Result<()> {
    for step in steps {
        match &step.action {
            PlanAction::Differs(differences) => {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!(
                        "{what} exists as topic {:?} and differs: {}; change the configuration or the name; nothing was changed",
                        step.name,
                        differences.join(", ")
                    ),
                ));
            }
            PlanAction::Create if mode == TopologyMode::Verify => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "{what} needs topic {:?}, which does not exist: create it, or use topology = create",
                        step.name
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes what a plan says is missing.
pub(crate) async fn create(connection: &Connection, steps: &[Step], options: &DestinationOptions) -> Result<()> {
    let missing: Vec<&Step> = steps.iter().filter(|step| step.action == PlanAction::Create).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let largest = (options.message_bytes + RECORD_OVERHEAD).to_string();
    let retention = retention_ms(options.retention.unwrap_or(Retention::Forever)).to_string();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|step| {
            let copies = TopicReplication::Fixed(options.replication.unwrap_or(-1));
            let topic = NewTopic::new(&step.name, step.wanted, copies).set("max.message.bytes", &largest);
            match (step.is_dead, step.is_main) {
                // Compacted by message id, with tombstones: single dead letters can be taken out.
                (true, _) => topic.set("cleanup.policy", "compact"),
                (false, true) => topic
                    .set("retention.ms", &retention)
                    .set("cleanup.policy", policy(options.compaction == Some(true))),
                (false, false) => topic.set("retention.ms", "-1"),
            }
        })
        .collect();
    let admin = connection.admin()?;
    let Some(client) = admin.get() else { return Ok(()) };
    let limits = AdminOptions::new().request_timeout(Some(ASK * 2)).operation_timeout(Some(ASK));
    let made = client.create_topics(&topics, &limits).await;
    for result in made.map_err(|error| from_kafka("topics cannot be created", &error))? {
        match result {
            // Someone else was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(from_code(&format!("topic {name:?} cannot be created"), code)),
        }
    }
    Ok(())
}

/// Waits until every partition has a leader: before that nothing can be read or written.
async fn await_leaders(connection: &Connection, steps: &[Step]) -> Result<Vec<i32>> {
    let begun = Instant::now();
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    loop {
        let counts = partitions(connection, &names).await?;
        if counts.iter().all(|count| count.is_some_and(|count| count > 0)) {
            return Ok(counts.into_iter().flatten().collect());
        }
        if begun.elapsed() > ASK * 2 {
            let text = format!("topics {names:?} have no leaders after {:?}: check the brokers", begun.elapsed());
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every partition of some topics, by name and number.
pub(crate) fn places(topics: &[&str], counts: &[i32]) -> Vec<(String, i32)> {
    let each =
        topics.iter().zip(counts).flat_map(|(topic, count)| (0..*count).map(|number| ((*topic).to_owned(), number)));
    each.collect()
}
