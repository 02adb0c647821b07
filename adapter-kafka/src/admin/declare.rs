//! Plans: what would have to be made, and making it.

use async_trait::async_trait;
use messaging_core::{
    Declaration, Destination, Error, ErrorKind, Plan, PlanAction, PlanStep, Result, Source, Start, Topology,
    TopologyMode,
};

use super::reader::observer;
use super::standing::standing;
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::fix_start;
use crate::topology::{Step, Topics, create, ensure, places, plan};

/// One declaration, and what it needs.
struct Planned {
    parts: Vec<Part>,
}

struct Part {
    what: String,
    destination: Destination,
    topics: Topics,
    steps: Vec<Step>,
    group: Option<Group>,
}

/// A subscription's group.
struct Group {
    source: Source,
    name: String,
    exists: bool,
    start: Start,
}

impl Planned {
    async fn of(broker: &KafkaBroker, declarations: &[Declaration]) -> Result<Self> {
        let mut parts = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            parts.push(part_of(broker, declaration).await?);
        }
        Ok(Self { parts })
    }

    fn plan(&self) -> Plan {
        let mut steps = Vec::new();
        for part in &self.parts {
            steps.extend(part.steps.iter().map(|step| PlanStep {
                what: part.what.clone(),
                physical_name: step.name.clone(),
                action: step.action.clone(),
            }));
            steps.extend(part.group.iter().map(|group| PlanStep {
                what: group.source.to_string(),
                physical_name: group.name.clone(),
                action: if group.exists { PlanAction::Keep } else { PlanAction::Create },
            }));
        }
        // A topic and its subscriptions name the same topics; each is listed once.
        let mut known: Vec<(String, String)> = Vec::new();
        steps.retain(|step: &PlanStep| {
            let key = (step.what.clone(), step.physical_name.clone());
            let is_new = !known.contains(&key);
            known.push(key);
            is_new
        });
        Plan { steps }
    }
}

#[async_trait]
impl Topology for KafkaBroker {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.connection().check_open()?;
        Ok(Planned::of(self, declarations).await?.plan())
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        self.connection().check_open()?;
        for part in Planned::of(self, declarations).await?.parts {
            let options = self.options(&part.destination);
            create(self.connection(), &part.steps, options).await?;
            let counts = ensure(self.connection(), TopologyMode::Create, &part.what, &part.topics, options).await?;
            if let Some(group) = part.group.filter(|group| !group.exists) {
                begin_group(self, group, &part.topics, &counts).await?;
            }
        }
        Ok(())
    }
}

async fn part_of(broker: &KafkaBroker, declaration: &Declaration) -> Result<Part> {
    let (destination, topics, group) = match declaration {
        Declaration::Destination(destination) => {
            if matches!(destination, Destination::Reply(_)) {
                return Err(Error::new(ErrorKind::Unsupported, "a reply address is made by its requester"));
            }
            (destination.clone(), Topics::of_destination(broker.names(), destination), None)
        }
        // A filter is each consumer's own here: there is nothing to declare of it.
        Declaration::Subscription { topic, name, start, filter: _ } => {
            let source = Source::Subscription(topic.clone(), name.clone());
            let exists = match standing(broker, &source).await {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            let name = broker.names().source(&source);
            let topics = Topics::of_source(broker.names(), &source);
            let group = Group { source, name, exists, start: *start };
            (Destination::Topic(topic.clone()), topics, Some(group))
        }
    };
    let steps = plan(broker.connection(), &topics, broker.options(&destination)).await?;
    Ok(Part { what: destination.to_string(), destination, topics, steps, group })
}

/// Fixes where a subscription begins.
async fn begin_group(broker: &KafkaBroker, group: Group, topics: &Topics, counts: &[i32]) -> Result<()> {
    let all = places(&topics.subscribed(), counts);
    let retry = topics.retry.clone();
    let (retries, main): (Vec<_>, Vec<_>) = all.into_iter().partition(|(topic, _)| Some(topic) == retry.as_ref());
    let connection = broker.connection().clone();
    let (name, start) = (group.name, group.start);
    let fix = move || fix_start(&observer(&connection.options, &name)?, &main, &retries, start).map(drop);
    blocking("making a subscription", REQUEST_TIMEOUT * 3, fix).await?
}
