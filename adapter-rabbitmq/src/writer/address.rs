//! Where a parcel goes, and what stands on it.

use std::time::{Duration, SystemTime};

use lapin::BasicProperties;
use lapin::types::ShortString;
use messaging_core::wire::Facts;
use messaging_core::{Error, ErrorKind, Message};
use tokio::time::Instant;

use super::{CopyPlace, Envelope, Parcel, Purpose};
use crate::convert::{write, write_copy};
use crate::delay::{Delays, Due};
use crate::layout::{Route, Target};

/// What stands on a parcel.
pub(super) struct Address {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) mandatory: bool,
    pub(super) young_until: Option<Instant>,
}

/// Why a parcel has no address.
pub(super) enum Unaddressed {
    /// This bucket is to be made first.
    Bucket(Due, Duration),
    Nowhere(Error),
}

/// Says where a parcel goes, and writes what stands on it.
pub(super) fn address(parcel: &Parcel, purpose: &Purpose, delays: &Delays) -> Result<Address, Unaddressed> {
    let message = &parcel.message;
    match (&parcel.envelope, purpose) {
        (Envelope::Fresh, Purpose::Destination(target)) => fresh(message, target, delays),
        (Envelope::To(target), _) => fresh(message, target, delays),
        (Envelope::Fresh, _) => {
            let error = Error::new(ErrorKind::Internal, "a writer without a destination was given a message");
            Err(Unaddressed::Nowhere(error))
        }
        (Envelope::Copy(to), _) => match &to.place {
            CopyPlace::Queue(queue) => Ok(Address {
                exchange: ShortString::default(),
                routing_key: queue.clone(),
                properties: write_copy(message, &to.facts),
                mandatory: to.mandatory,
                young_until: None,
            }),
            CopyPlace::Later(due, delay) => {
                let key = match due {
                    Due::Queue(queue) => queue.clone(),
                    Due::Exchange(_) => ShortString::default(),
                };
                later(message, due, *delay, to.facts.clone(), key, delays)
            }
        },
    }
}

fn fresh(message: &Message, target: &Target, delays: &Delays) -> Result<Address, Unaddressed> {
    let Some(delay) = message.delay().filter(|delay| !delay.is_zero()) else {
        let in_key = matches!(target.route, Route::Subject | Route::LanesAndSubject(_));
        return Ok(Address {
            exchange: target.exchange.clone(),
            routing_key: target.routing_key(message),
            properties: write(message, !in_key),
            mandatory: target.mandatory,
            young_until: None,
        });
    };
    let key = target.routing_key(message);
    let due = if target.exchange.as_str().is_empty() {
        Due::Queue(key.clone())
    } else {
        Due::Exchange(target.exchange.clone())
    };
    let expires = message.ttl().map(|ttl| SystemTime::now() + ttl);
    later(message, &due, delay, Facts { expires, ..Facts::default() }, key, delays)
}

fn later(
    message: &Message,
    due: &Due,
    delay: Duration,
    mut facts: Facts,
    key: ShortString,
    delays: &Delays,
) -> Result<Address, Unaddressed> {
    let Some(bucket) = delays.known(due, delay) else { return Err(Unaddressed::Bucket(due.clone(), delay)) };
    facts.due = (!bucket.is_last).then(|| SystemTime::now() + delay);
    Ok(Address {
        mandatory: bucket.routing_key.is_some(),
        exchange: bucket.exchange,
        routing_key: bucket.routing_key.unwrap_or(key),
        properties: write_copy(message, &facts),
        young_until: bucket.young_until,
    })
}
