//! A message that was read, on its way to becoming a delivery.

use std::borrow::Cow;
use std::sync::Arc;

use adapter_kit::{DeliveryId, Held, instant_of};
use messaging_core::spi::{Settler, Unsettled};
use messaging_core::{Delivery, Message};
use tokio::time::Instant;

use super::partition::Partition;
use crate::convert::decode;
use crate::records::RecordBatch;
use crate::topology::Role;

/// Records that were read together, and the partitions that they are from.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: RecordBatch,
    /// By the numbers that the records carry.
    pub(super) partitions: Vec<Arc<Partition>>,
}

/// A message that was read.
pub(crate) struct Item {
    pub(super) content: Content,
    pub(super) offset: i64,
    /// Which attempt its next delivery is.
    pub(super) attempt: u32,
    pub(super) redriven: u32,
    /// None for never.
    pub(super) expires: Option<Instant>,
}

/// Form of a message until it is handed out.
pub(super) enum Content {
    /// A record whose headers say nothing to the adapter; the message is made when somebody takes it.
    Read(Arc<Batch>, u32),
    Made(Arc<Partition>, Message),
    /// As `Made`, and not handed out in the order in which it was read: its partition notes when it goes.
    Late(Arc<Partition>, Message),
}

impl Item {
    /// A delivery as it was before it was handed out.
    pub(crate) fn again(partition: &Arc<Partition>, delivery: Unsettled, attempt: u32) -> Self {
        let Unsettled { message, tag, redriven, .. } = delivery;
        let expires = message.ttl().and_then(|ttl| message.timestamp().checked_add(ttl)).map(instant_of);
        let offset = i64::try_from(tag).unwrap_or(i64::MAX);
        Self { content: Content::Late(Arc::clone(partition), message), offset, attempt, redriven, expires }
    }

    pub(super) fn partition(&self) -> &Arc<Partition> {
        match &self.content {
            Content::Read(batch, at) => &batch.partitions[batch.records.get(*at).source() as usize],
            Content::Made(partition, _) | Content::Late(partition, _) => partition,
        }
    }

    /// Notes that it is not handed out from here.
    pub(crate) fn withhold(&self) {
        self.partition().window.lock().withhold(self.offset, self.attempt - 1);
    }
}

impl Held for Item {
    fn id(&self) -> DeliveryId {
        self.partition().id(self.offset)
    }

    fn key(&self) -> Option<Cow<'_, str>> {
        match &self.content {
            Content::Read(batch, at) => batch.records.get(*at).key().map(String::from_utf8_lossy),
            Content::Made(_, message) | Content::Late(_, message) => message.key().map(Cow::Borrowed),
        }
    }

    fn size(&self) -> usize {
        match &self.content {
            Content::Read(batch, at) => batch.records.get(*at).size(),
            Content::Made(_, message) | Content::Late(_, message) => message.size(),
        }
    }

    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    fn is_wanted(&self) -> bool {
        self.partition().is_wanted()
    }

    fn handed_out(items: &[Self]) {
        let is_same = |one: &Self, next: &Self| Arc::ptr_eq(one.partition(), next.partition());
        for run in items.chunk_by(is_same) {
            let Some(first) = run.first() else { continue };
            let late = run.iter().filter(|item| matches!(item.content, Content::Late(..)));
            let next = run.iter().map(|item| item.offset + 1).max().unwrap_or(0);
            first.partition().hand_out(run.len(), next, late.map(|item| item.offset));
        }
    }

    fn expire(self) {
        self.partition().pass_over(self.offset);
    }

    fn into_delivery(self) -> Delivery {
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
