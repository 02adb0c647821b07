//! Topics: their names, what they should be like, and making or verifying them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use messaging_core::{Destination, Error, ErrorKind, Names, PlanAction, Result, Source, TopologyMode};
use rdkafka::admin::{
    AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::config::{DestinationOptions, PARTITIONS, RECORD_OVERHEAD, Retention};
use crate::connection::Connection;
use crate::error::{code_of, from_code, from_kafka, is_passing};

/// The part that a topic plays for its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The queue or topic itself: settings that the configuration does not name may be anything.
    Main,
    /// The group's own retries and redrives, which wait in it as long as it takes; a queue's delayed messages too.
    Retry,
    /// Messages that were published to a topic for later.
    Delayed,
    /// Dead letters: compacted, with tombstones, so that single ones can be taken out and the rest stays for ever.
    Dead,
}

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

    /// Topics that the members of the group subscribe to.
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

    pub(crate) fn role(&self, topic: &str) -> Role {
        if Some(topic) == self.retry.as_deref() {
            Role::Retry
        } else if Some(topic) == self.delayed.as_deref() {
            Role::Delayed
        } else if Some(topic) == self.dead.as_deref() {
            Role::Dead
        } else {
            Role::Main
        }
    }
}

/// Partitions and copies of a topic that is there.
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
            let metadata = patiently(|| probe.client().fetch_metadata(Some(name), REQUEST_TIMEOUT))
                .map_err(|error| from_kafka("topics cannot be looked up", &error))?;
            let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
            match topic.error().map(Code::from) {
                None => {}
                // A user who may not see it does not learn whether it is there.
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
    blocking("asking for topics", REQUEST_TIMEOUT * 2, ask).await?
}

/// Asks again where a connection was just lost, or is about to be made.
fn patiently<T>(ask: impl Fn() -> std::result::Result<T, KafkaError>) -> std::result::Result<T, KafkaError> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(error) if code_of(&error).is_some_and(is_passing) && begun.elapsed() < REQUEST_TIMEOUT => {
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
    role: Role,
}

/// Compares what is there with what is asked for.
pub(crate) async fn plan(connection: &Connection, topics: &Topics, options: &DestinationOptions) -> Result<Vec<Step>> {
    let names = topics.all();
    let standing = look_up(connection, &names).await?;
    let main = standing.first().copied().flatten().map(|one| one.partitions.abs());
    let of_main = main.unwrap_or_else(|| options.partitions.unwrap_or(PARTITIONS));
    let DestinationOptions { partitions: _, replication: _, retention, compaction, message_bytes, order: _ } = options;
    let is_main_configured = retention.is_some() || compaction.is_some() || message_bytes.is_some();
    // Topics of copies must take what the main topic takes.
    let has_copies = names.iter().zip(&standing).any(|(name, one)| topics.role(name) != Role::Main && one.is_some());
    let is_asked_for = |name: &str| topics.role(name) != Role::Main || is_main_configured || has_copies;
    let there = names.iter().zip(&standing).filter(|(_, one)| one.is_some()).map(|(name, _)| *name);
    let mut configurations = configurations(connection, there.filter(|name| is_asked_for(name)).collect()).await?;
    let takes =
        |values: Option<&Values>| values.and_then(|values| values.get(MAX_BYTES)).and_then(|text| text.parse().ok());
    let largest_of_main: Option<usize> = takes(configurations.get(topics.main.as_str()));
    let steps = names.iter().zip(standing).map(|(name, standing)| {
        let role = topics.role(name);
        let action = match standing {
            None => PlanAction::Create,
            Some(standing) => {
                let values = configurations.remove(*name).unwrap_or_default();
                match differences(role, standing, &values, options, largest_of_main) {
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
fn differences(
    role: Role,
    is: Standing,
    values: &Values,
    options: &DestinationOptions,
    largest_of_main: Option<usize>,
) -> Vec<String> {
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
        Role::Retry | Role::Delayed => (Some(Retention::Forever), Some(false)),
        // Compacted records are never deleted for their age.
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
    let asked = message_bytes.map(|_| largest_record(options));
    let asked = if role == Role::Main { asked } else { asked.max(largest_of_main) };
    // A topic may take more.
    let is = value(MAX_BYTES);
    if let Some(asked) = asked.filter(|asked| is.parse::<usize>().is_ok_and(|is| is < *asked)) {
        differing.push(format!("message_bytes ({MAX_BYTES}) is {is}, asked for are at least {asked}"));
    }
    differing
}

/// The largest record batch that a topic takes.
const MAX_BYTES: &str = "max.message.bytes";
/// The same of a topic that only copies go to: whatever its source takes, now or after an operator has raised the source's.
const MAX_BYTES_OF_COPIES: &str = "2147483647";

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
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
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
        // The first use finds out what is missing.
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
    let admin = connection.admin()?;
    let Some(client) = admin.get() else { return Ok(()) };
    let limits =
        AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT * 2)).operation_timeout(Some(REQUEST_TIMEOUT));
    // Brokers before 3.6 do not know the bounds of times, and refuse them.
    for bounds_times in [true, false] {
        let configurations: Vec<_> =
            missing.iter().map(|step| configuration(step.role, options, bounds_times)).collect();
        let topics: Vec<NewTopic<'_>> = missing
            .iter()
            .zip(&configurations)
            .map(|(step, configuration)| {
                let copies = TopicReplication::Fixed(options.replication.unwrap_or(-1));
                let topic = NewTopic::new(&step.name, step.wanted, copies);
                configuration.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let made = client.create_topics(&topics, &limits).await;
        let mut is_too_old = false;
        for result in made.map_err(|error| from_kafka("topics cannot be created", &error))? {
            match result {
                // Another client was quicker.
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, Code::InvalidConfig)) if bounds_times => is_too_old = true,
                Err((name, code)) => return Err(from_code(&format!("topic {name:?} cannot be created"), code)),
            }
        }
        if !is_too_old {
            break;
        }
    }
    Ok(())
}

/// The configuration of a topic that is made.
fn configuration(role: Role, options: &DestinationOptions, bounds_times: bool) -> Vec<(&'static str, String)> {
    if role == Role::Main {
        let retention = retention_ms(options.retention.unwrap_or(Retention::Forever));
        return vec![
            (MAX_BYTES, largest_record(options).to_string()),
            ("retention.ms", retention.to_string()),
            ("cleanup.policy", policy(options.compaction == Some(true)).to_owned()),
        ];
    }
    let mut values = vec![
        (MAX_BYTES, MAX_BYTES_OF_COPIES.to_owned()),
        ("cleanup.policy", policy(role == Role::Dead).to_owned()),
        // Copies keep the times of their originals, whatever those are.
        ("message.timestamp.type", "CreateTime".to_owned()),
    ];
    if bounds_times {
        values.push(("message.timestamp.before.max.ms", i64::MAX.to_string()));
        values.push(("message.timestamp.after.max.ms", i64::MAX.to_string()));
    }
    if role != Role::Dead {
        values.push(("retention.ms", "-1".to_owned()));
    }
    values
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
        if begun.elapsed() > REQUEST_TIMEOUT * 2 {
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
