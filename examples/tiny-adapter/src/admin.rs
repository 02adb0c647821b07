//! Administration: a plan, and nothing else.

use async_trait::async_trait;
use messaging_core::*;

use crate::{Tiny, unsupported};

#[async_trait]
impl Admin for Tiny {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.check_open()?;
        let steps = declarations.iter().map(|declaration| {
            let Declaration::Destination(Destination::Queue(name)) = declaration else { return unsupported() };
            let action = if self.server.0.lock().contains_key(name) { PlanAction::Keep } else { PlanAction::Create };
            Ok(PlanStep { what: format!("queue {name}"), physical_name: name.to_string(), action })
        });
        Ok(Plan { steps: steps.collect::<Result<_>>()? })
    }

    async fn apply(&self, declarations: &[Declaration]) -> Result<Plan> {
        let plan = self.plan(declarations).await?;
        for step in &plan.steps {
            self.queue(&QueueName::parse(&step.physical_name)?)?;
        }
        Ok(plan)
    }

    async fn depth(&self, _source: &Source) -> Result<Depth> {
        unsupported()
    }

    async fn lag(&self, _source: &Source) -> Result<u64> {
        unsupported()
    }

    async fn positions(&self, _source: &Source) -> Result<Vec<SourcePosition>> {
        unsupported()
    }

    async fn browse(&self, _source: &Source, _max: usize) -> Result<Vec<Browsed>> {
        unsupported()
    }

    async fn dead_letters(&self, _source: &Source, _max: usize) -> Result<Vec<DeadLetter>> {
        unsupported()
    }

    async fn redrive(&self, _source: &Source, _which: Redrive) -> Result<u64> {
        unsupported()
    }

    async fn purge(&self, source: &Source, _part: Part) -> Result<Option<u64>> {
        let Source::Queue(name) = source else { return unsupported() };
        Ok(Some(self.queue(name)?.change(|state| state.ready.drain(..).count() as u64)))
    }

    async fn unsubscribe(&self, _topic: &TopicName, _name: &SubscriptionName) -> Result<()> {
        unsupported()
    }
}
