//! Route and properties of one publish.

use std::time::{Duration, SystemTime};

use lapin::BasicProperties;
use lapin::types::ShortString;
use messaging_core::wire::Facts;
use messaging_core::{Error, ErrorKind, Message, Result};
use tokio::time::Instant;

use super::{CopyPlace, PendingPublish, Purpose, Recipient};
use crate::convert::{write, write_copy};
use crate::delay::{Delays, Due};
use crate::layout::Target;

/// Way of one publish to its queues.
pub(super) struct Route {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) mandatory: bool,
    /// Time until which the queue is too young to be trusted with a message that exists nowhere else.
    pub(super) trusted_from: Option<Instant>,
    form: Form,
}

/// Form in which the message is written.
enum Form {
    /// As the application made it; `subject` says whether the routing key does not carry the subject.
    Fresh { subject: bool },
    /// As a copy with facts.
    Copy(Facts),
}

/// Reason for which there is no route.
pub(super) enum NoRoute {
    /// This delay queue has to be declared first.
    Bucket(Due, Duration),
    Refused(Error),
}

impl From<Error> for NoRoute {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Finds the route of a publish.
pub(super) fn route(publish: &PendingPublish, purpose: &Purpose, delays: &Delays) -> Result<Route, NoRoute> {
    let message = &publish.message;
    match (&publish.recipient, purpose) {
        (Recipient::Own, Purpose::Destination(target)) => to_target(message, target, delays),
        (Recipient::Other(target), _) => to_target(message, target, delays),
        (Recipient::Own, Purpose::Copies | Purpose::Requests(_)) => {
            Err(Error::new(ErrorKind::Internal, "a writer without a destination was given a message").into())
        }
        (Recipient::Copy(copy), _) => {
            let facts = copy.facts.clone();
            match &copy.place {
                CopyPlace::Queue(queue) => Ok(Route {
                    exchange: ShortString::default(),
                    routing_key: queue.clone(),
                    mandatory: copy.mandatory,
                    trusted_from: None,
                    form: Form::Copy(facts),
                }),
                CopyPlace::Later(due, delay) => delayed(due, *delay, ShortString::default(), facts, delays),
            }
        }
    }
}

fn to_target(message: &Message, target: &Target, delays: &Delays) -> Result<Route, NoRoute> {
    let routing_key = target.routing_key(message)?;
    let Some(delay) = message.delay().filter(|delay| !delay.is_zero()) else {
        return Ok(Route {
            exchange: target.exchange.clone(),
            routing_key,
            mandatory: target.mandatory,
            trusted_from: None,
            form: Form::Fresh { subject: !target.key_has_subject() },
        });
    };
    let due = if target.exchange.as_str().is_empty() {
        Due::Queue(routing_key.clone())
    } else {
        Due::Exchange(target.exchange.clone())
    };
    let expires = message.ttl().map(|ttl| SystemTime::now() + ttl);
    delayed(&due, delay, routing_key, Facts { expires, ..Facts::default() }, delays)
}

/// Into a delay queue. `key` is the routing key under which an exchange gets the message in the end.
fn delayed(due: &Due, delay: Duration, key: ShortString, facts: Facts, delays: &Delays) -> Result<Route, NoRoute> {
    let Some(bucket) = delays.known(due, delay) else { return Err(NoRoute::Bucket(due.clone(), delay)) };
    let due = (!bucket.is_last).then(|| SystemTime::now() + delay);
    Ok(Route {
        mandatory: bucket.routing_key.is_some(),
        exchange: bucket.exchange,
        routing_key: bucket.routing_key.unwrap_or(key),
        trusted_from: bucket.trusted_from,
        form: Form::Copy(Facts { due, ..facts }),
    })
}

/// Writes the properties that a publish has on its route.
///
/// # Errors
/// As for [`write`] and [`write_copy`].
pub(super) fn properties(publish: &PendingPublish, route: &Route, frame_max: usize) -> Result<BasicProperties> {
    match &route.form {
        Form::Fresh { subject } => write(&publish.message, *subject),
        Form::Copy(facts) => write_copy(&publish.message, facts, frame_max),
    }
}
