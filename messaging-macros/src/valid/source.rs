//! Where a listener listens: a queue, or a topic by a subscription.

use messaging_core::{QueueName, Start, SubjectFilter, SubscriptionName, TopicName};
use proc_macro2::Span;

use super::values::{parsed, word};
use super::{Faults, Given};
use crate::ast::{Arg, Value};

/// Where a listener listens, by binding name.
#[derive(Debug)]
pub(crate) enum Source {
    Queue(String),
    Topic { name: String, membership: Membership, filter: Option<String>, start: Option<Start> },
}

/// By which subscription a listener takes part in a topic.
#[derive(Debug)]
pub(crate) enum Membership {
    /// The binding in the configuration names it.
    Bound,
    Durable(String),
    Ephemeral,
}

const START_WORDS: [(&str, Start); 2] = [("new", Start::New), ("earliest", Start::Earliest)];

/// Arguments that only a topic has.
struct OfTopic {
    subscription: Option<Arg>,
    ephemeral: Option<Arg>,
    filter: Option<Arg>,
    start: Option<Arg>,
}

pub(super) fn read(given: &mut Given, faults: &mut Faults) -> Option<Source> {
    let queue = given.take("queue");
    let topic = given.take("topic");
    let of_topic = OfTopic {
        subscription: given.take("subscription"),
        ephemeral: given.take("ephemeral"),
        filter: given.take("filter"),
        start: given.take("start"),
    };
    match (queue, topic) {
        (Some(queue), None) => {
            of_topic.refuse(faults, "this listener has a queue; leave it out, or write `topic` instead of `queue`");
            parsed::<QueueName>(&queue, "orders", faults).map(|name| Source::Queue(name.value))
        }
        (None, Some(topic)) => of_topic.read(&topic, faults),
        (Some(_), Some(topic)) => {
            faults.add(topic.name.span(), "`queue` and `topic` exclude each other: a listener has one of them");
            None
        }
        (None, None) if of_topic.is_empty() => {
            faults.add(
                Span::call_site(),
                "a listener says where it listens: write `queue = \"orders\"`, or `topic = \"weather\"` with \
                 `subscription = \"dashboard\"` or `ephemeral`",
            );
            None
        }
        (None, None) => {
            of_topic.refuse(faults, "add `topic = \"…\"`");
            None
        }
    }
}

impl OfTopic {
    fn is_empty(&self) -> bool {
        let Self { subscription, ephemeral, filter, start } = self;
        [subscription, ephemeral, filter, start].iter().all(|arg| arg.is_none())
    }

    fn refuse(&self, faults: &mut Faults, next_step: &str) {
        let Self { subscription, ephemeral, filter, start } = self;
        for arg in [subscription, ephemeral, filter, start].into_iter().flatten() {
            let name = &arg.name;
            faults.add(name.span(), format!("`{name}` belongs to a topic: {next_step}"));
        }
    }

    fn read(self, topic: &Arg, faults: &mut Faults) -> Option<Source> {
        let Self { subscription, ephemeral, filter, start } = self;
        let name = parsed::<TopicName>(topic, "weather", faults);
        let filter = filter.and_then(|arg| parsed::<SubjectFilter>(&arg, "stock.*", faults));
        if let (Some(_), Some(start)) = (&ephemeral, &start) {
            faults.add(
                start.name.span(),
                "`start` belongs to a durable subscription: an ephemeral one sees only what is published while it is \
                 attached; leave `start` out, or write `subscription = \"…\"` instead of `ephemeral`",
            );
        }
        let start = start.and_then(|arg| word(&arg, &START_WORDS, faults));
        let membership = membership(subscription.as_ref(), ephemeral.as_ref(), faults)?;
        Some(Source::Topic {
            name: name?.value,
            membership,
            filter: filter.map(|at| at.value),
            start: start.map(|at| at.value),
        })
    }
}

fn membership(subscription: Option<&Arg>, ephemeral: Option<&Arg>, faults: &mut Faults) -> Option<Membership> {
    if let Some(arg) = ephemeral
        && !matches!(arg.value, Value::Absent)
    {
        faults.add(arg.value_span(), "`ephemeral` is written alone, without a value");
    }
    match (subscription, ephemeral) {
        (None, None) => Some(Membership::Bound),
        (None, Some(_)) => Some(Membership::Ephemeral),
        (Some(arg), None) => {
            let name = parsed::<SubscriptionName>(arg, "dashboard", faults)?;
            Some(Membership::Durable(name.value))
        }
        (Some(_), Some(arg)) => {
            faults.add(
                arg.name.span(),
                "`subscription` and `ephemeral` exclude each other: a durable subscription has a name, an ephemeral one \
                 has none",
            );
            None
        }
    }
}
