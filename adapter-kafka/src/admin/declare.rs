//! Plans: what would have to be made, and making it.

use messaging_core::{Declaration, Destination, Error, ErrorKind, Plan, PlanAction, PlanStep, Result, Source, Start};

use super::reader::observer;
use crate::blocking::{REQUEST_TIMEOUT, blocking};
use crate::broker::KafkaBroker;
use crate::consumer::fix_start;
use crate::topology::{Step, Topics, create, ensure, places, plan};

/// One declaration, and what it needs.
pub(super) struct Planned {
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
    pub(super) fn plan(&self) -> Plan {
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
        // A topic and its subscriptions name the same topics; each is told once.
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

impl KafkaBroker {
    pub(super) async fn planned(&self, declarations: &[Declaration]) -> Result<Planned> {
        let mut parts = Vec::with_capacity(declarations.len());
        for declaration in declarations {
            parts.push(self.part(declaration).await?);
        }
        Ok(Planned { parts })
    }

    async fn part(&self, declaration: &Declaration) -> Result<Part> {
        let (destination, topics, group) = match declaration {
            Declaration::Destination(destination) => {
                if matches!(destination, Destination::Reply(_)) {
                    return Err(Error::new(ErrorKind::Unsupported, "a reply address is made by its requester"));
                }
                (destination.clone(), Topics::of_destination(self.names(), destination), None)
            }
            // A filter is each consumer's own here: there is nothing to declare of it.
            Declaration::Subscription { topic, name, start, filter: _ } => {
                let source = Source::Subscription(topic.clone(), name.clone());
                let exists = match self.standing(&source).await {
                    Ok(_) => true,
                    Err(error) if error.kind() == ErrorKind::NotFound => false,
                    Err(error) => return Err(error),
                };
                let name = self.names().source(&source);
                let topics = Topics::of_source(self.names(), &source);
                let group = Group { source, name, exists, start: *start };
                (Destination::Topic(topic.clone()), topics, Some(group))
            }
        };
        let steps = plan(self.connection(), &topics, self.options(&destination)).await?;
        Ok(Part { what: destination.to_string(), destination, topics, steps, group })
    }

    pub(super) async fn create_missing(&self, declarations: &[Declaration]) -> Result<()> {
        let planned = self.planned(declarations).await?;
        for part in planned.parts {
            let options = self.options(&part.destination);
            create(self.connection(), &part.steps, options).await?;
            let mode = messaging_core::TopologyMode::Create;
            let counts = ensure(self.connection(), mode, &part.what, &part.topics, options).await?;
            if let Some(group) = part.group.filter(|group| !group.exists) {
                self.begin_group(group, &part.topics, &counts).await?;
            }
        }
        Ok(())
    }

    /// Fixes where a subscription begins.
    async fn begin_group(&self, group: Group, topics: &Topics, counts: &[i32]) -> Result<()> {
        let all = places(&topics.subscribed(), counts);
        let retry = topics.retry.clone();
        let (retries, main): (Vec<_>, Vec<_>) = all.into_iter().partition(|(topic, _)| Some(topic) == retry.as_ref());
        let connection = self.connection().clone();
        let (name, start) = (group.name, group.start);
        let fix = move || fix_start(&observer(&connection.options, &name)?, &main, &retries, start).map(drop);
        blocking("making a subscription", REQUEST_TIMEOUT * 3, fix).await?
    }
}
