//! Checks on topology, inspection and repair.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::broker::Broker;
use crate::capabilities::{Feature, Place};
use crate::consume::{ConsumeOptions, SubscribeOptions};
use crate::error::{Error, Result};
use crate::inspect::{Browsed, Depth, Inspect, SourcePosition};
use crate::name::{Source, SubscriptionName, TopicName};
use crate::repair::{Part, Redrive, Repair};
use crate::scope::Scope;
use crate::settlement::DeadLetter;
use crate::topology::{Declaration, Plan, Topology};

/// Topology, inspection and repair that refuse what was not declared before the adapter sees it.
pub(super) struct CheckedAdmin(Arc<dyn Broker>);

impl CheckedAdmin {
    pub(super) fn around(broker: Arc<dyn Broker>) -> Self {
        Self(broker)
    }

    fn scope(&self, place: impl fmt::Display) -> Scope {
        self.0.identity().scope(place)
    }

    fn explain(&self, place: impl fmt::Display) -> impl FnOnce(Error) -> Error {
        move |error| self.scope(place).explain(error)
    }

    fn check(&self, source: &Source, feature: Feature) -> Result<()> {
        let capabilities = match source {
            Source::Queue(queue) => self.0.capabilities(Place::Consume(queue, &ConsumeOptions::default())),
            Source::Subscription(topic, name) => {
                self.0.capabilities(Place::Subscribe(topic, &SubscribeOptions::durable(name.clone())))
            }
        };
        capabilities.check(feature).map_err(self.explain(source))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Topology for CheckedAdmin {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.0.topology().plan(declarations).await.map_err(self.explain("plan"))
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        self.0.topology().create(declarations).await.map_err(self.explain("plan"))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Inspect for CheckedAdmin {
    async fn depth(&self, source: &Source) -> Result<Depth> {
        self.check(source, Feature::Depth)?;
        self.0.inspect().depth(source).await.map_err(self.explain(source))
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        self.check(source, Feature::Lag)?;
        self.0.inspect().lag(source).await.map_err(self.explain(source))
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        self.check(source, Feature::Positions)?;
        self.0.inspect().positions(source).await.map_err(self.explain(source))
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.check(source, Feature::Browse)?;
        self.0.inspect().browse(source, max).await.map_err(self.explain(source))
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        self.check(source, Feature::DeadLetter)?;
        self.0.inspect().dead_letters(source, max).await.map_err(self.explain(source))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Repair for CheckedAdmin {
    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        self.check(source, Feature::Redrive)?;
        self.0.repair().redrive(source, which).await.map_err(self.explain(source))
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        self.check(source, Feature::Purge)?;
        self.0.repair().purge(source, part).await.map_err(self.explain(source))
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        let source = Source::Subscription(topic.clone(), name.clone());
        self.check(&source, Feature::DurableSubscription)?;
        self.0.repair().unsubscribe(topic, name).await.map_err(self.explain(&source))
    }
}
