//! Topology, inspection and repair with places to step in.

use std::sync::Arc;

use async_trait::async_trait;
use messaging_core::{
    Broker, Browsed, DeadLetter, Declaration, Depth, Inspect, Part, Plan, Redrive, Repair, Result, Source,
    SourcePosition, SubscriptionName, TopicName, Topology,
};

use super::Intercept;

pub(super) struct InterceptedAdmin(pub(super) Arc<dyn Broker>, pub(super) Arc<dyn Intercept>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Topology for InterceptedAdmin {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.1.plan(self.0.topology(), declarations).await
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        self.1.create(self.0.topology(), declarations).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Inspect for InterceptedAdmin {
    async fn depth(&self, source: &Source) -> Result<Depth> {
        self.1.depth(self.0.inspect(), source).await
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        self.1.lag(self.0.inspect(), source).await
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        self.1.positions(self.0.inspect(), source).await
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.1.browse(self.0.inspect(), source, max).await
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        self.1.dead_letters(self.0.inspect(), source, max).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Repair for InterceptedAdmin {
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        self.1.redrive(&self.0, source, which).await
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        self.1.purge(self.0.repair(), source, part).await
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        self.1.unsubscribe(self.0.repair(), topic, name).await
    }
}
