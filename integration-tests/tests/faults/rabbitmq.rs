//! What only RabbitMQ has: alarms, young queues, and acknowledgements that it forgets.

use std::sync::Arc;
use std::time::Duration;

use integration_tests::{Error, Kind, Result, until};
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use messaging::{Delivery, HealthState};

use crate::address::Address;
use crate::length::Length;
use crate::real::Real;
use crate::run::{Demand, Run};
use crate::shared::{close, healthy, one_consumer, slack};
use crate::stage::Stage;
use crate::traffic::{self, Consuming, Load, Manner, PATIENCE, Publishing};
use integration_tests::runner::Verdict;

/// An alarm that stops publishers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Alarm {
    Memory,
    Disk,
}

impl Alarm {
    fn on(self) -> [&'static str; 2] {
        match self {
            Self::Memory => ["set_vm_memory_high_watermark", "0.00001"],
            Self::Disk => ["set_disk_free_limit", "100000GB"],
        }
    }

    fn off(self) -> [&'static str; 2] {
        match self {
            Self::Memory => ["set_vm_memory_high_watermark", "0.6"],
            // As it was: see the server's configuration.
            Self::Disk => ["set_disk_free_limit", "50MB"],
        }
    }
}

/// Out of memory or disk, publishes come to their time limit and health says why; consumers go on. Afterwards all does.
pub(crate) async fn blocked(alarm: Alarm) -> Verdict {
    let stage = Real::one(Kind::RabbitMq).await?;
    let messages = Length::chosen().messages();
    let at = stage.queue();
    let run = Arc::new(Run::new(format!("rabbitmq {alarm:?} alarm")));
    let broker = at.open().await?;
    // One at a time, so that something waits to be consumed while publishers are blocked.
    let manner = Manner { prefetch: 50, hold_each: 2, hold: Duration::from_millis(100) };
    let consuming = Consuming::start(&run, &broker, &at, manner).await?;
    let load = Load { timeout: Duration::from_secs(3), ..Load::default() };
    let publishing = Publishing::start(&run, &broker, &at, load).await?;
    traffic::confirmed(&run, messages / 2).await?;

    run.fault_began();
    stage.node().administer(&alarm.on()).await?;
    let noticed = run.notice(&*broker, Duration::from_secs(10)).await;
    let said = broker.health().to_string();
    let waiting = run.missing();
    let went_on = until("consuming while publishers are blocked", PATIENCE, || async {
        if run.missing() == 0 { Ok(()) } else { Err(Error::failed(format!("{} wait", run.missing()))) }
    })
    .await;
    // Longer than a publish may take.
    tokio::time::sleep(load.timeout + Duration::from_secs(1)).await;
    stage.node().administer(&alarm.off()).await?;
    run.fault_ended();

    noticed.ok_or("health says up while publishers are blocked")?;
    if !said.contains(&format!("{alarm:?}").to_lowercase()) {
        return Err(format!("health does not say what is the matter: {said}").into());
    }
    run.remark(format!("{waiting} consumed meanwhile"));
    went_on?;
    traffic::back(&run, true, true).await?;
    traffic::confirmed(&run, messages).await?;
    publishing.stop().await?;
    traffic::received(&run).await?;
    one_consumer(&stage, &run, &at).await?;
    healthy(&*broker).await?;
    consuming.stop().await?;
    close(&*broker).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;
    run.judge(Demand::of(messages))
}

/// A node killed within two seconds of a queue's creation forgets what came to that queue: nothing of it was confirmed.
pub(crate) async fn young_queue() -> Verdict {
    let stage = Real::one(Kind::RabbitMq).await?;
    for after in Length::chosen().pick(vec![300, 1_400], vec![50, 300, 700, 1_000, 1_400, 1_900]) {
        young(&stage, Duration::from_millis(after)).await?;
    }
    Ok(())
}

async fn young(stage: &Real, after: Duration) -> Verdict {
    let at = stage.queue();
    let run = Arc::new(Run::new(format!("rabbitmq killed {after:?} after a queue's creation")));
    let broker = at.open().await?;
    let opening = {
        let (run, broker, at) = (Arc::clone(&run), Arc::clone(&broker), at.clone());
        tokio::spawn(async move { Publishing::start(&run, &broker, &at, Load::default()).await })
    };
    let url = stage.url();
    until("the queue", PATIENCE, || consumers(&url, &at)).await?;
    tokio::time::sleep(after).await;
    run.fault_began();
    stage.node().kill().await?;
    stage.node().start().await?;
    run.fault_ended();

    let publishing = match opening.await? {
        Ok(publishing) => publishing,
        Err(error) if error.is_retryable() => Publishing::start(&run, &broker, &at, Load::default()).await?,
        Err(error) => return Err(error.into()),
    };
    let consuming = match Consuming::start(&run, &broker, &at, Manner::default()).await {
        Err(error) if error.is_retryable() => {
            // The node has kept the queue's name and not the queue, and answers nothing about it (RabbitMQ 4.0.5): then nothing
            // may have been confirmed either, neither before nor now.
            run.remark(format!("the queue died with the node: {}", error.kind()));
            publishing.stop().await?;
            let _ = broker.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
            return run.judge(Demand::of(0).without_end());
        }
        started => started?,
    };
    traffic::confirmed(&run, 2_000).await?;
    publishing.stop().await?;
    traffic::received(&run).await?;
    consuming.stop().await?;
    close(&*broker).await?;
    run.judge(Demand::of(2_000).without_end())
}

/// A clean close right after 15,000 acknowledgements: none of them comes back.
pub(crate) async fn acks_before_a_clean_close() -> Verdict {
    const MESSAGES: usize = 15_000;
    let stage = Real::one(Kind::RabbitMq).await?;
    for round in 0..Length::chosen().pick(3, 20) {
        let at = stage.queue();
        let run = Arc::new(Run::new(format!("rabbitmq clean close after {MESSAGES} acks, round {round}")));
        let broker = at.open().await?;
        let load = Load { messages: MESSAGES, backlog: usize::MAX, ..Load::default() };
        Publishing::start(&run, &broker, &at, load).await?.ended().await?;
        let mut consumer = traffic::consumer(&*broker, &at, 1_000).await?;
        while run.missing() > 0 {
            let deliveries = consumer.next_many(256).await?;
            for delivery in deliveries {
                run.receipt(&delivery, 0);
                // Takes effect at the call.
                drop(delivery.ack());
            }
        }
        let report = broker.close(tokio::time::Instant::now() + Duration::from_secs(15)).await;
        if report.unconfirmed > 0 || !report.errors.is_empty() {
            return Err(format!("a clean close reports {report:?}").into());
        }
        drop(consumer);
        traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;
        run.judge(Demand::of(MESSAGES).with_slack(Duration::ZERO).without_end())?;
    }
    Ok(())
}

/// What is held when the connection dies is settled in vain, and comes again.
pub(crate) async fn settled_in_vain() -> Verdict {
    const HELD: usize = 200;
    let stage = Real::one(Kind::RabbitMq).await?;
    let at = stage.queue();
    let run = Arc::new(Run::new("rabbitmq settled after a cut"));
    let broker = at.open().await?;
    Publishing::start(&run, &broker, &at, Load { messages: HELD, ..Load::default() }).await?.ended().await?;
    let mut consumer = traffic::consumer(&*broker, &at, HELD).await?;
    let mut held = Vec::new();
    while held.len() < HELD {
        for delivery in consumer.next_many(HELD).await? {
            run.receipt(&delivery, 0);
            held.push(delivery);
        }
    }
    run.fault_began();
    stage.begin(crate::stage::Fault::Cut, &at).await?;
    until("a connection that is known to be lost", PATIENCE, || async {
        if broker.health().state == HealthState::Up { Err(Error::failed("health says up")) } else { Ok(()) }
    })
    .await
    .or_else(|error| if run.elapsed() > PATIENCE { Err(error) } else { Ok(()) })?;
    run.fault_ended();
    let acked = Delivery::ack_all(held).await?;
    let mut again = 0;
    while again < HELD {
        let deliveries = consumer.next_many(HELD).await?;
        for delivery in deliveries {
            run.receipt(&delivery, 0);
            if delivery.attempt() != 2 {
                return Err(format!("after one connection died, attempt {} is next", delivery.attempt()).into());
            }
            again += 1;
            drop(delivery.ack());
        }
    }
    run.remark(format!("{} stale, {} settled", acked.stale, acked.acked));
    drop(consumer);
    close(&*broker).await?;
    traffic::nothing_comes_back(&run, &stage.beside(&at)).await?;
    let slack = slack(&*stage.beside(&at).open().await?, &at)?;
    run.judge(Demand::of(HELD).with_slack(slack).without_end())
}

/// How many consumers a queue has, by a passive declaration: the management interface tells it seconds later.
pub(crate) async fn consumers(url: &str, at: &Address) -> Result<usize> {
    let (_connection, channel) = channel(url).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(physical(at).as_str().into(), passive, FieldTable::default()).await;
    let queue = declared.map_err(|error| Error::caused(format!("queue {} is not there", at.name), error))?;
    Ok(queue.consumer_count() as usize)
}

/// Deletes the queue or the exchange.
pub(crate) async fn delete(url: &str, at: &Address) -> Result<()> {
    let (_connection, channel) = channel(url).await?;
    let deleted = if at.subscription.is_none() {
        channel.queue_delete(at.name.as_str().into(), QueueDeleteOptions::default()).await.map(drop)
    } else {
        channel.exchange_delete(at.name.as_str().into(), ExchangeDeleteOptions::default()).await
    };
    deleted.map_err(|error| Error::caused(format!("{} cannot be deleted", at.name), error))
}

fn physical(at: &Address) -> String {
    at.subscription.as_ref().map_or_else(|| at.name.clone(), |subscription| format!("{}--{subscription}", at.name))
}

/// Of the first node that answers.
async fn channel(url: &str) -> Result<(Connection, Channel)> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| Error::failed("a url without a scheme"))?;
    let (login, rest) = rest.rsplit_once('@').ok_or_else(|| Error::failed("a url without a login"))?;
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut last = Error::failed("a url without a host");
    for host in hosts.split(',') {
        let uri = format!("{scheme}://{login}@{host}/{path}");
        let opened = async {
            let connection = Connection::connect(uri.as_str(), ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            lapin::Result::Ok((connection, channel))
        };
        match tokio::time::timeout(Duration::from_secs(5), opened).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) => last = Error::caused("rabbitmq cannot be asked", error),
            Err(_) => last = Error::failed("rabbitmq does not answer"),
        }
    }
    Err(last)
}
