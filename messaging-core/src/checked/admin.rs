//! Checks on administration.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Admin, Broker, Browsed, ConsumeOptions, DeadLetter, Declaration, Depth, Destination, Feature, Part, Plan, Redrive,
    Result, Scope, Source, SourcePosition, SubscribeOptions, SubscriptionName, TopicName, Usage,
};

/// An admin that refuses what was not declared before the adapter sees it.
pub(super) struct CheckedAdmin(Arc<dyn Broker>);

impl CheckedAdmin {
    pub(super) fn around(broker: Arc<dyn Broker>) -> Self {
        Self(broker)
    }

    fn scope(&self, place: impl fmt::Display) -> Scope {
        Scope::new(self.0.name().clone(), self.0.driver(), place)
    }

    fn check(&self, source: &Source, feature: Feature) -> Result<()> {
        let capabilities = match source {
            Source::Queue(queue) => {
                self.0.capabilities(&Destination::Queue(queue.clone()), Usage::Consume(&ConsumeOptions::default()))
            }
            Source::Subscription(topic, name) => self.0.capabilities(
                &Destination::Topic(topic.clone()),
                Usage::Subscribe(&SubscribeOptions::durable(name.clone())),
            ),
        };
        capabilities.check(feature).map_err(|error| self.scope(source).explain(error))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Admin for CheckedAdmin {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.0.admin().plan(declarations).await.map_err(|error| self.scope("plan").explain(error))
    }

    async fn apply(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.0.admin().apply(declarations).await.map_err(|error| self.scope("plan").explain(error))
    }

    async fn depth(&self, source: &Source) -> Result<Depth> {
        self.check(source, Feature::Depth)?;
        self.0.admin().depth(source).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn lag(&self, source: &Source) -> Result<u64> {
        self.check(source, Feature::Lag)?;
        self.0.admin().lag(source).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn positions(&self, source: &Source) -> Result<Vec<SourcePosition>> {
        self.check(source, Feature::Positions)?;
        self.0.admin().positions(source).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn browse(&self, source: &Source, max: usize) -> Result<Vec<Browsed>> {
        self.check(source, Feature::Browse)?;
        self.0.admin().browse(source, max).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn dead_letters(&self, source: &Source, max: usize) -> Result<Vec<DeadLetter>> {
        self.check(source, Feature::DeadLetter)?;
        self.0.admin().dead_letters(source, max).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn redrive(&self, source: &Source, which: Redrive) -> Result<u64> {
        self.check(source, Feature::Redrive)?;
        self.0.admin().redrive(source, which).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        self.0.admin().purge(source, part).await.map_err(|error| self.scope(source).explain(error))
    }

    async fn unsubscribe(&self, topic: &TopicName, name: &SubscriptionName) -> Result<()> {
        let source = Source::Subscription(topic.clone(), name.clone());
        self.check(&source, Feature::DurableSubscription)?;
        self.0.admin().unsubscribe(topic, name).await.map_err(|error| self.scope(source).explain(error))
    }
}
