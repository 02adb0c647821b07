//! Topics: their names, what they should be like, and making or verifying them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use messaging_core::{Destination, Error, ErrorKind, Names, PlanAction, Result, Source, TopologyMode};
use rdkafka::admin::{
    AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
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

impl Topics {
    /// The topics of a queue or a durable subscription.
    pub(crate) fn of_source(names: &Names, source: &Source) -> Self {
        let shared = match source {
            Source::Queue(queue) => Self::of_ephemeral(names, &Destination::Queue(queue.clone())),
            Source::Subscription(topic, _) => Self::of_ephemeral(names, &Destination::Topic(topic.clone())),
        };
        // Messages for later wait with a queue's retries: they have one reader.
        let delayed = shared.delayed.filter(|_| matches!(source, Source::Subscription(..)));
        Self { retry: Some(names.part(source, "retry")), delayed, dead: Some(names.dead(source)), ..shared }
    }

    /// The topics that a publisher to a queue or topic writes to.
    pub(crate) fn of_destination(names: &Names, destination: &Destination) -> Self {
        match destination {
            Destination::Queue(queue) => Self::of_source(names, &Source::Queue(queue.clone())),
            Destination::Topic(_) | Destination::Reply(_) => Self::of_ephemeral(names, destination),
        }
    }

    /// The topics that an ephemeral subscription reads.
    pub(crate) fn of_ephemeral(names: &Names, destination: &Destination) -> Self {
        let delayed = Some(names.part_of_destination(destination, "delayed"));
        Self { retry: None, delayed, dead: None, main: names.destination(destination), retry_partitions: 0 }
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

/// What is known of a topic that is there.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// How many partitions it has; less than 0 while one of them has no leader.
    partitions: i32,
    /// How many copies the partition with the fewest has.
    copies: usize,
}

/// How many partitions a topic has; none if it is not there.
pub(crate) async fn partitions(connection: &Connection, topics: &[&str]) -> Result<Vec<Option<i32>>> {
    let standing = look_up(connection, topics).await?;
    Ok(standing.into_iter().map(|one| one.map(|one| one.partitions)).collect())
}

async fn look_up(connection: &Connection, topics: &[&str]) -> Result<Vec<Option<Standing>>> {
    connection.check_open()?;
    let (probe, names) = (connection.probe(), topics.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let ask = move || {
        let Some(probe) = probe.get() else { return Err(Error::closed("the broker")) };
        let one = |name: &String| {
            let metadata = patiently(|| probe.client().fetch_metadata(Some(name), ASK))
                .map_err(|error| from_kafka("topics cannot be looked up", &error))?;
            let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
            match topic.error().map(Code::from) {
                None => {}
                // Whoever may not see it is not told whether it is there.
                Some(code @ Code::TopicAuthorizationFailed) => {
                    return Err(from_code(&format!("topic {name:?} cannot be looked up"), code));
                }
                Some(_) => return Ok(None),
            }
            let is_led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            let copies = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
            let standing = Standing { partitions: if is_led { count } else { -count }, copies };
            Ok(Some(standing).filter(|standing| standing.partitions != 0))
        };
        names.iter().map(one).collect()
    };
    blocking("asking for topics", ASK * 2, ask).await?
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

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// The queue or topic itself: what the configuration does not say of it may be anything.
    Main,
    /// Retries or delayed messages, which wait in it as long as it takes.
    Waiting,
    /// Dead letters: compacted, with tombstones, so that single ones can be taken out and the rest stays for ever.
    Dead,
}

/// A topic and what applying does about it.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) action: PlanAction,
    wanted: i32,
    role: Role,
}

/// Compares what is there with what is asked for.
pub(crate) async fn plan(connection: &Connection, topics: &Topics, options: &DestinationOptions) -> Result<Vec<Step>> {
    let names = topics.all();
    let standing = look_up(connection, &names).await?;
    let main = standing.first().copied().flatten().map(|one| one.partitions.abs());
    let of_main = main.unwrap_or_else(|| options.partitions.unwrap_or(PARTITIONS));
    let role = |name: &str| match name {
        name if name == topics.main => Role::Main,
        name if topics.is_dead(name) => Role::Dead,
        _ => Role::Waiting,
    };
    let DestinationOptions { partitions: _, replication: _, retention, compaction, message_bytes, order: _ } = options;
    let is_main_configured = retention.is_some() || compaction.is_some() || message_bytes.is_some();
    let is_asked_for = |name: &str| role(name) != Role::Main || is_main_configured;
    let there = names.iter().zip(&standing).filter(|(_, one)| one.is_some()).map(|(name, _)| *name);
    let mut configurations = configurations(connection, there.filter(|name| is_asked_for(name)).collect()).await?;
    let steps = names.iter().zip(standing).map(|(name, standing)| {
        let role = role(name);
        let action = match standing {
            None => PlanAction::Create,
            Some(standing) => {
                let values = configurations.remove(*name).unwrap_or_default();
                match differences(role, standing, &values, options) {
                    differences if differences.is_empty() => PlanAction::Keep,
                    differences => PlanAction::Differs(differences),
                }
            }
        };
        let wanted = if role == Role::Dead { 1 } else { of_main };
        Step { name: (*name).to_owned(), action, wanted, role }
    });
    Ok(steps.collect())
}

/// A topic's own values, and the broker's where it has none.
type Values = HashMap<String, String>;

/// In what a topic differs from what the configuration says of it, or from what the adapter needs.
fn differences(role: Role, is: Standing, values: &Values, options: &DestinationOptions) -> Vec<String> {
    let DestinationOptions { partitions, replication, retention, compaction, message_bytes, order: _ } = options;
    let value = |key: &str| values.get(key).cloned().unwrap_or_default();
    let mut pairs: Vec<(&str, String, String)> = Vec::new();
    if let Some(asked) = partitions.filter(|_| role != Role::Dead) {
        pairs.push(("partitions", is.partitions.abs().to_string(), asked.to_string()));
    }
    if let Some(asked) = replication {
        pairs.push(("replication", is.copies.to_string(), asked.to_string()));
    }
    let (retention, compaction) = match role {
        Role::Main => (*retention, *compaction),
        Role::Waiting => (Some(Retention::Forever), Some(false)),
        // What is compacted is never deleted for its age.
        Role::Dead => (None, Some(true)),
    };
    if let Some(asked) = retention {
        pairs.push(("retention (retention.ms)", value("retention.ms"), retention_ms(asked).to_string()));
    }
    if let Some(asked) = compaction {
        pairs.push(("compaction (cleanup.policy)", value("cleanup.policy"), policy(asked).to_owned()));
    }
    let mut differing: Vec<String> = pairs
        .into_iter()
        .filter(|(_, is, asked)| is != asked)
        .map(|(key, is, asked)| format!("{key} is {is}, asked for is {asked}"))
        .collect();
    if message_bytes.is_some() {
        let (is, asked) = (value("max.message.bytes"), largest_record(options));
        // A topic may take more.
        if is.parse::<usize>().is_ok_and(|is| is < asked) {
            differing.push(format!("message_bytes (max.message.bytes) is {is}, asked for are at least {asked}"));
        }
    }
    differing
}

/// The largest record: a message of the largest size with all that goes beside it.
fn largest_record(options: &DestinationOptions) -> usize {
    options.largest().saturating_add(RECORD_OVERHEAD)
}

async fn configurations(connection: &Connection, names: Vec<&str>) -> Result<HashMap<String, Values>> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let admin = connection.admin()?;
    let Some(client) = admin.get() else { return Err(Error::closed("the broker")) };
    let asked: Vec<ResourceSpecifier<'_>> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK));
    let what = format!("the configuration of topics {names:?} cannot be read");
    let answer = client.describe_configs(&asked, &options).await.map_err(|error| from_kafka(&what, &error))?;
    let mut found = HashMap::new();
    for resource in answer {
        let ConfigResource { specifier, entries } = resource.map_err(|code| from_code(&what, code))?;
        let values = entries.into_iter().map(|entry| (entry.name, entry.value.unwrap_or_default())).collect();
        if let OwnedResourceSpecifier::Topic(name) = specifier {
            found.insert(name, values);
        }
    }
    Ok(found)
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
    let missing = steps.iter().filter(|step| step.action == PlanAction::Create && mode == TopologyMode::Verify);
    let missing: Vec<String> = missing.map(|step| format!("{:?}", step.name)).collect();
    let differing = steps.iter().filter_map(|step| match &step.action {
        PlanAction::Differs(differences) => Some(format!("topic {:?} differs: {}", step.name, differences.join(", "))),
        _ => None,
    });
    let differing: Vec<String> = differing.collect();
    let mut texts = Vec::new();
    if !missing.is_empty() {
        let topics = missing.join(", ");
        texts.push(format!("{what} needs what does not exist, topic {topics}: create it, or use topology = create"));
    }
    if !differing.is_empty() {
        let differing = differing.join("; ");
        texts.push(format!(
            "{what} is there, but {differing}; change the configuration or the name; nothing was changed"
        ));
    }
    let kind = if differing.is_empty() { ErrorKind::NotFound } else { ErrorKind::Mismatch };
    if texts.is_empty() { Ok(()) } else { Err(Error::new(kind, texts.join("; "))) }
}

/// Makes what a plan says is missing.
pub(crate) async fn create(connection: &Connection, steps: &[Step], options: &DestinationOptions) -> Result<()> {
    let missing: Vec<&Step> = steps.iter().filter(|step| step.action == PlanAction::Create).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let largest = largest_record(options).to_string();
    let retention = retention_ms(options.retention.unwrap_or(Retention::Forever)).to_string();
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|step| {
            let copies = TopicReplication::Fixed(options.replication.unwrap_or(-1));
            let topic = NewTopic::new(&step.name, step.wanted, copies).set("max.message.bytes", &largest);
            match step.role {
                Role::Main => topic
                    .set("retention.ms", &retention)
                    .set("cleanup.policy", policy(options.compaction == Some(true))),
                Role::Waiting => topic.set("retention.ms", "-1").set("cleanup.policy", policy(false)),
                Role::Dead => topic.set("cleanup.policy", policy(true)),
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
