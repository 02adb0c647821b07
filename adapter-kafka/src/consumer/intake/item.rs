//! A message that was read, on its way to becoming a delivery.

use std::borrow::Cow;
use std::sync::Arc;

use messaging_core::wire::to_millis;
use messaging_core::{Delivery, Message, Settler, Unsettled};

use crate::consumer::partition::Partition;
use crate::convert::decode;
use crate::records::RecordBatch;
use crate::topology::Role;

/// RecordBatch that were read together, and the partitions that they are from.
#[derive(Debug)]
pub(in crate::consumer) struct Batch {
    pub(in crate::consumer) records: RecordBatch,
    /// By the numbers that the records carry.
    pub(in crate::consumer) partitions: Vec<Arc<Partition>>,
}

/// A message that was read.
pub(crate) struct Item {
    pub(in crate::consumer) content: Content,
    pub(in crate::consumer) offset: i64,
    /// Which attempt its next delivery is.
    pub(in crate::consumer) attempt: u32,
    pub(in crate::consumer) redriven: u32,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub(in crate::consumer) expires: u64,
}

/// What a message is until it is handed out.
pub(in crate::consumer) enum Content {
    /// A record whose headers say nothing to the adapter; the message is made when somebody takes it.
    Read(Arc<Batch>, u32),
    Made(Arc<Partition>, Message),
    /// As `Made`, and not handed out in the order in which it was read: its partition is told when it goes.
    Late(Arc<Partition>, Message),
}

impl Item {
    /// A delivery as it was before it was handed out.
    pub(crate) fn again(partition: &Arc<Partition>, delivery: Unsettled, attempt: u32) -> Self {
        let Unsettled { message, tag, redriven, .. } = delivery;
        let expires = message.ttl().map_or(0, |ttl| {
            to_millis(message.timestamp()).saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
        });
        let offset = i64::try_from(tag).unwrap_or(i64::MAX);
        Self { content: Content::Late(Arc::clone(partition), message), offset, attempt, redriven, expires }
    }

    pub(in crate::consumer) fn partition(&self) -> &Arc<Partition> {
        match &self.content {
            Content::Read(batch, at) => &batch.partitions[batch.records.get(*at).source() as usize],
            Content::Made(partition, _) | Content::Late(partition, _) => partition,
        }
    }

    /// What it weighs while it waits, in bytes.
    pub(in crate::consumer) fn size(&self) -> usize {
        match &self.content {
            Content::Read(batch, at) => batch.records.get(*at).size(),
            Content::Made(_, message) | Content::Late(_, message) => message.size(),
        }
    }

    pub(in crate::consumer) fn key(&self) -> Option<Cow<'_, str>> {
        match &self.content {
            Content::Read(batch, at) => batch.records.get(*at).key().map(String::from_utf8_lossy),
            Content::Made(_, message) | Content::Late(_, message) => message.key().map(Cow::Borrowed),
        }
    }

    /// It is not handed out from here. Gives the key that it held up.
    pub(super) fn withhold(&self) -> Option<Box<str>> {
        self.partition().window.lock().withhold(self.offset, self.attempt - 1)
    }

    pub(super) fn into_delivery(self) -> Delivery {
        let Self { content, offset, attempt, redriven, .. } = self;
        let (partition, message) = match content {
            Content::Read(batch, at) => {
                let record = batch.records.get(at);
                let partition = &batch.partitions[record.source() as usize];
                (Arc::clone(partition), decode(record, &partition.topic, partition.number).message)
            }
            Content::Made(partition, message) | Content::Late(partition, message) => (partition, message),
        };
        let position = match partition.role {
            Role::Main => crate::reports::position(partition.number, offset),
            _ => None,
        };
        // Offsets are never negative.
        let tag = u64::try_from(offset).unwrap_or(0);
        Delivery::new(Unsettled { message, tag, attempt, redriven, position }, partition as Arc<dyn Settler>)
    }
}
