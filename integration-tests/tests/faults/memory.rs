//! The scenarios on the memory broker: they prove the scenarios, and that the checker fails when something is lost.

use std::sync::Arc;
use std::time::Duration;

use adapter_memory::{Data, Link, MemoryServer};
use async_trait::async_trait;
use integration_tests::raw::fresh_name;
use integration_tests::{Error, Result};

use crate::address::Address;
use crate::members::{PUBLISHER, Part, Troupe};
use crate::run::{Demand, Phase, Run};
use crate::shared;
use crate::stage::{Fault, Stage};
use crate::traffic::{self, Consuming, Load, Manner, Publishing};
use integration_tests::runner::Verdict;

/// A memory server, by its name in this process.
pub(crate) struct Memory {
    name: String,
    server: MemoryServer,
    data: Data,
}

impl Memory {
    /// One that keeps its data through a restart, or forgets it.
    pub(crate) fn new(data: Data) -> Self {
        let name = fresh_name("faults");
        Self { server: MemoryServer::named(&name), name, data }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        MemoryServer::forget(&self.name);
    }
}

#[async_trait]
impl Stage for Memory {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn queue(&self) -> Address {
        Address::queue(format!("memory://{}", self.name), fresh_name("queue"))
    }

    fn beside(&self, at: &Address) -> Address {
        at.clone()
    }

    async fn begin(&self, fault: Fault, _at: &Address) -> Result<()> {
        match fault {
            Fault::Killed => {
                self.server.restart(self.data);
                self.server.set_link(Link::Down);
            }
            Fault::Cut => self.server.cut_consumers(),
            Fault::BlackHole => self.server.set_link(Link::BlackHole),
            other => return Err(Error::unsupported(format!("the memory broker knows no fault {other:?}"))),
        }
        Ok(())
    }

    async fn end(&self, _fault: Fault, _at: &Address) -> Result<()> {
        self.server.set_link(Link::Up);
        Ok(())
    }

    async fn consumers(&self, at: &Address) -> Result<Option<usize>> {
        let source = at.source().map_err(|error| Error::caused("no source", error))?;
        let counted = self.server.consumers(&source);
        counted.map(Some).map_err(|error| Error::caused("consumers cannot be counted", error))
    }

    async fn delete(&self, at: &Address) -> Result<()> {
        let queue = at.name.parse().map_err(|error: messaging::Error| Error::caused("no queue", error))?;
        self.server.remove_queue(&queue).map_err(|error| Error::caused("cannot delete", error))
    }
}

/// A server that forgets what it confirmed is found out.
pub(crate) async fn a_forgetful_server_is_found_out() -> Verdict {
    let stage = Memory::new(Data::Lose);
    let at = stage.queue();
    let run = Arc::new(Run::new("memory that forgets (has to fail)"));
    let broker = at.open().await?;
    // Nobody consumes: what is confirmed waits, and is lost.
    let publishing = Publishing::start(&run, &broker, &at, Load { messages: 1_000, ..Load::default() }).await?;
    publishing.ended().await?;
    run.fault_began();
    stage.begin(Fault::Killed, &at).await?;
    stage.end(Fault::Killed, &at).await?;
    run.fault_ended();
    let publishing = Publishing::start(&run, &broker, &at, Load { messages: 10, ..Load::default() }).await?;
    let consuming = Consuming::start(&run, &broker, &at, Manner::default()).await?;
    publishing.ended().await?;
    traffic::back(&run, true, true).await?;
    consuming.stop().await?;

    let verdict = run.judge(Demand::of(1_000)).map_err(|error| error.to_string());
    match verdict {
        Err(text) if text.contains("1000 lost") => Ok(()),
        other => Err(format!("a thousand lost messages make the verdict {other:?}").into()),
    }
}

/// A message that comes twice at a time when nothing is broken is found out.
pub(crate) async fn a_stray_duplicate_is_found_out() -> Verdict {
    let stage = Memory::new(Data::Keep);
    let at = stage.queue();
    let run = Arc::new(Run::new("memory with a duplicate (has to fail)"));
    let broker = at.open().await?;
    let publishing = Publishing::start(&run, &broker, &at, Load { messages: 10, ..Load::default() }).await?;
    publishing.ended().await?;
    let mut consumer = traffic::consumer(&*broker, &at, 10).await?;
    for _ in 0..11 {
        let Some(delivery) = consumer.next().await? else { return Err("the consumer ended".into()) };
        // The first is given back behind the recorder's back.
        let mark = run.receipt(&delivery, 0);
        if mark == 0 && delivery.attempt() == 1 { delivery.retry().await? } else { delivery.ack().await? }
    }

    let verdict = run.judge(Demand::of(10).without_end().with_slack(Duration::ZERO)).map_err(|error| error.to_string());
    match verdict {
        Err(text) if text.contains("1 came twice that no fault explains") => Ok(()),
        other => Err(format!("a duplicate out of nothing makes the verdict {other:?}").into()),
    }
}

/// What a killed process was told is confirmed counts: here nobody receives it, because each process has a memory server of
/// its own.
pub(crate) async fn what_a_killed_process_lost_is_found_out() -> Verdict {
    let stage = Memory::new(Data::Keep);
    let run = Arc::new(Run::new("memory of another process (has to fail)"));
    let mut troupe = Troupe::new(&run);
    troupe.start(PUBLISHER, &Part { work: Duration::from_millis(1), ..Part::of(&stage.queue()) })?;
    troupe.until("a process that publishes", |_| run.confirmed() >= 500).await?;
    troupe.kill_one()?;
    let lost = format!("{} lost", run.confirmed());

    match run.judge(Demand::of(500).without_end()).map_err(|error| error.to_string()) {
        Err(text) if text.contains(&lost) => Ok(()),
        other => Err(format!("{lost} in a process that was killed make the verdict {other:?}").into()),
    }
}

/// A recovery that takes too long is found out.
pub(crate) async fn a_slow_recovery_is_found_out() -> Verdict {
    let stage = Memory::new(Data::Keep);
    let at = stage.queue();
    let run = Arc::new(Run::new("memory that comes back late (has to fail)"));
    let broker = at.open().await?;
    run.fault_began();
    run.fault_ended();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let consuming = Consuming::start(&run, &broker, &at, Manner::default()).await?;
    Publishing::start(&run, &broker, &at, Load { messages: 10, ..Load::default() }).await?.ended().await?;
    traffic::received(&run).await?;
    consuming.stop().await?;

    let demand = Demand { back: Some(Duration::from_millis(200)), ..Demand::of(10) };
    match run.judge(demand).map_err(|error| error.to_string()) {
        Err(text) if text.contains("after the fault, not within") => Ok(()),
        other => Err(format!("a late recovery makes the verdict {other:?}").into()),
    }
}

pub(crate) async fn through(fault: Fault, phase: Phase) -> Verdict {
    shared::through(&Memory::new(Data::Keep), fault, phase).await
}

pub(crate) async fn deleted() -> Verdict {
    let stage = Memory::new(Data::Keep);
    shared::deleted_under_us(&stage, stage.queue()).await
}

pub(crate) async fn closed_with_a_dead_broker() -> Verdict {
    shared::closed_with_a_dead_broker(&Memory::new(Data::Keep), Fault::BlackHole).await
}
