//! Planning, inspecting and repairing.

use async_trait::async_trait;
use messaging_core::{
    Admin, Browsed, DeadLetter, Declaration, Depth, Error, ErrorKind, Part, Plan, Redrive, Result, Source,
    SourcePosition, SubscriptionName, TopicName,
};

use crate::broker::KafkaBroker;

fn later<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "later"))
}

#[async_trait]
impl Admin for KafkaBroker {
    async fn plan(&self, _declarations: &[Declaration]) -> Result<Plan> {
        later()
    }
    async fn apply(&self, _declarations: &[Declaration]) -> Result<Plan> {
        later()
    }
    async fn depth(&self, _source: &Source) -> Result<Depth> {
        later()
    }
    async fn lag(&self, _source: &Source) -> Result<u64> {
        later()
    }
    async fn positions(&self, _source: &Source) -> Result<Vec<SourcePosition>> {
        later()
    }
    async fn browse(&self, _source: &Source, _max: usize) -> Result<Vec<Browsed>> {
        later()
    }
    async fn dead_letters(&self, _source: &Source, _max: usize) -> Result<Vec<DeadLetter>> {
        later()
    }
    async fn redrive(&self, _source: &Source, _which: Redrive) -> Result<u64> {
        later()
    }
    async fn purge(&self, _source: &Source, _part: Part) -> Result<Option<u64>> {
        later()
    }
    async fn unsubscribe(&self, _topic: &TopicName, _name: &SubscriptionName) -> Result<()> {
        later()
    }
}
