//! Topology and purging.

use async_trait::async_trait;
use messaging_core::*;

use crate::Tiny;

#[async_trait]
impl Topology for Tiny {
    async fn plan(&self, declarations: &[Declaration]) -> Result<Plan> {
        self.check_open()?;
        let steps = declarations.iter().map(|declaration| {
            let name = queue_of(declaration)?;
            let action = if self.server.0.lock().contains_key(name) { PlanAction::Keep } else { PlanAction::Create };
            Ok(PlanStep { what: format!("queue {name}"), physical_name: name.to_string(), action })
        });
        Ok(Plan { steps: steps.collect::<Result<_>>()? })
    }

    async fn create(&self, declarations: &[Declaration]) -> Result<()> {
        declarations.iter().try_for_each(|declaration| self.queue(queue_of(declaration)?).map(drop))
    }
}

fn queue_of(declaration: &Declaration) -> Result<&QueueName> {
    match declaration {
        Declaration::Destination(Destination::Queue(name)) => Ok(name),
        _ => Err(Error::new(ErrorKind::Unsupported, "the tiny broker has queues alone")),
    }
}

#[async_trait]
impl Repair for Tiny {
    async fn purge(&self, source: &Source, part: Part) -> Result<Option<u64>> {
        match (source, part) {
            (Source::Queue(name), Part::Live) => {
                Ok(Some(self.queue(name)?.change(|state| state.ready.drain(..).count() as u64)))
            }
            _ => Ok(Some(0)),
        }
    }
}
