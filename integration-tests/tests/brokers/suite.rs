//! The powers of the harness for real brokers, each seen by a raw client that goes where the adapter under test would.

use std::sync::Arc;
use std::time::Duration;

use integration_tests::Kind;
use integration_tests::raw::{self, RawClient};
use integration_tests::runner::{Case, Verdict};
use integration_tests::suite::RealBroker;
use messaging_conformance::{Harness as _, Line, Power, Stage};
use messaging_core::{Destination, Driver, Error, ErrorKind, QueueName, Source, TopicName, join};
use tokio::time::timeout;

const SURE: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_millis(500);

/// No adapter: these tests look at the harness alone.
const NOBODY: Driver = Driver {
    name: "nobody",
    schemes: &["amqp", "amqps", "kafka", "kafkas"],
    connect: |_| Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "these tests have no adapter")) }),
};

pub(crate) fn cases() -> Vec<Case> {
    [Kind::RabbitMq, Kind::Kafka].into_iter().flat_map(of).collect()
}

fn of(kind: Kind) -> Vec<Case> {
    let broker = Arc::new(RealBroker::new(kind, NOBODY));
    macro_rules! trials {
        ($($name:ident),+ $(,)?) => {
            vec![$({
                let broker = Arc::clone(&broker);
                Case::new(format!("suite::{kind}::{}", stringify!($name)), move || async move { $name(Site { kind, broker }).await })
            }),+]
        };
    }
    trials![
        a_line_is_one_stages_alone,
        an_answer_is_lost_and_the_message_is_there,
        a_foreign_message_goes_and_comes,
        a_queue_is_removed,
        sweeping_takes_the_stages_own_and_no_more,
        a_dead_letter_refuses_while_it_is_told_to,
        a_killed_server_comes_back,
        a_cluster_loses_its_leader,
        a_child_is_led_to_the_same_place,
        wrong_addresses_are_wrong,
        nobody_consumes_what_is_new,
    ]
}

struct Site {
    kind: Kind,
    broker: Arc<RealBroker>,
}

impl Site {
    async fn stage(&self, needs: &[Power]) -> Result<Arc<dyn Stage>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(reason) = self.broker.absent() {
            return Err(integration_tests::Error::missing(reason).into());
        }
        Ok(self.broker.begin(needs).await?)
    }

    /// A raw client where the adapter would connect.
    async fn client(&self, stage: &Arc<dyn Stage>) -> integration_tests::Result<Box<dyn RawClient>> {
        raw::connect(self.kind, &variable(stage, "MESSAGING_CONFORMANCE_URL"), None).await
    }
}

fn variable(stage: &Arc<dyn Stage>, name: &str) -> String {
    stage.environment().into_iter().find(|(known, _)| known == name).unwrap().1
}

fn queue() -> QueueName {
    QueueName::parse("orders").unwrap()
}

/// The queue's name at the broker.
fn full(stage: &Arc<dyn Stage>) -> String {
    join(stage.options().namespace.as_ref(), &["orders"])
}

async fn a_line_is_one_stages_alone(site: Site) -> Verdict {
    let mine = site.stage(&[Power::Cut, Power::Line, Power::SlowLine]).await?;
    let theirs = site.stage(&[Power::Line]).await?;
    let (mut ours, mut others) = (site.client(&mine).await?, site.client(&theirs).await?);
    ours.create(&full(&mine)).await?;
    others.create(&full(&theirs)).await?;
    for line in [Line::BlackHole, Line::Down] {
        mine.set_line(line).await?;
        assert!(timeout(SILENCE, ours.put(&full(&mine), "lost?")).await.is_err_and_or_failed(), "{line:?}");
        timeout(SURE, others.put(&full(&theirs), "through")).await??;
        assert_eq!(timeout(SURE, others.take(&full(&theirs))).await??, "through");
        mine.set_line(Line::Up).await?;
        ours = site.client(&mine).await?;
        timeout(SURE, ours.put(&full(&mine), "healed")).await??;
    }
    mine.set_line(Line::Slow).await?;
    let begun = std::time::Instant::now();
    timeout(SURE, ours.put(&full(&mine), "slow")).await??;
    assert!(begun.elapsed() >= Duration::from_millis(200), "a slow line is slow: {:?}", begun.elapsed());
    mine.set_line(Line::Up).await?;
    mine.cut().await?;
    timeout(SURE, others.put(&full(&theirs), "uncut")).await??;
    let mut again = site.client(&mine).await?;
    timeout(SURE, again.put(&full(&mine), "after the cut")).await??;
    finish([mine, theirs]).await
}

/// Whether a call came to nothing: it did not end, or it failed.
trait CameToNothing {
    fn is_err_and_or_failed(&self) -> bool;
}

impl<T, E, F> CameToNothing for Result<Result<T, E>, F> {
    fn is_err_and_or_failed(&self) -> bool {
        !matches!(self, Ok(Ok(_)))
    }
}

async fn an_answer_is_lost_and_the_message_is_there(site: Site) -> Verdict {
    let stage = site.stage(&[Power::LoseAnswers]).await?;
    let name = full(&stage);
    let mut client = site.client(&stage).await?;
    client.create(&name).await?;
    // Warm: a producer's first request is no publish.
    client.put(&name, "first").await?;
    stage.lose_answers(1).await?;
    let published = timeout(SURE, client.put(&name, "stored")).await;
    if site.kind == Kind::RabbitMq {
        // Kafka's client sends it again by itself, without harm.
        assert!(published.is_err_and_or_failed(), "the confirm came");
    }
    let mut reader = site.client(&stage).await?;
    assert_eq!(timeout(SURE, reader.take(&name)).await??, "first");
    assert_eq!(timeout(SURE, reader.take(&name)).await??, "stored");
    finish([stage]).await
}

async fn a_foreign_message_goes_and_comes(site: Site) -> Verdict {
    let stage = site.stage(&[Power::RawClient]).await?;
    site.client(&stage).await?.create(&full(&stage)).await?;
    let to = Destination::Queue(queue());
    stage.publish_raw(&to, b"\x00from outside\xff", ("tenant", "acme")).await?;
    let seen = stage.receive_raw(&queue(), &messaging_core::Message::new("")).await?;
    assert_eq!(seen.payload, b"\x00from outside\xff");
    assert_eq!(seen.headers, [("tenant".to_owned(), "acme".to_owned())]);
    assert!(!stage.publish_unreadable(&to).await?, "nobody said what cannot be read");
    finish([stage]).await
}

async fn a_queue_is_removed(site: Site) -> Verdict {
    let stage = site.stage(&[Power::RemoveQueue]).await?;
    site.client(&stage).await?.create(&full(&stage)).await?;
    stage.remove_queue(&queue()).await?;
    let gone = stage.publish_raw(&Destination::Queue(queue()), b"lost", ("a", "b")).await;
    assert!(gone.is_err(), "a queue that was removed takes messages");
    finish([stage]).await
}

async fn sweeping_takes_the_stages_own_and_no_more(site: Site) -> Verdict {
    let (mine, theirs) = (site.stage(&[]).await?, site.stage(&[]).await?);
    let (mut ours, mut others) = (site.client(&mine).await?, site.client(&theirs).await?);
    ours.create(&full(&mine)).await?;
    others.create(&full(&theirs)).await?;
    assert_eq!(mine.sweep(&[]).await?, 0, "what is left over");
    assert!(ours.put(&full(&mine), "swept").await.is_err(), "it is still there");
    others.put(&full(&theirs), "kept").await?;
    assert_eq!(others.take(&full(&theirs)).await?, "kept");
    finish([theirs]).await
}

async fn a_dead_letter_refuses_while_it_is_told_to(site: Site) -> Verdict {
    let stage = site.stage(&[Power::FailDeadLetters]).await?;
    let dead = format!("{}--dead", full(&stage));
    let mut client = site.client(&stage).await?;
    if site.kind == Kind::RabbitMq {
        declare_quorum(&stage, &dead).await?;
    } else {
        client.create(&dead).await?;
    }
    for _ in 0..5 {
        stage.fail_dead_letters(&Source::Queue(queue()), true).await?;
        assert!(client.put(&dead, "refused").await.is_err(), "a dead letter was taken that has to be refused");
        stage.fail_dead_letters(&Source::Queue(queue()), false).await?;
        client.put(&dead, "taken").await?;
        assert_eq!(timeout(SURE, client.take(&dead)).await??, "taken");
    }
    finish([stage]).await
}

/// The raw client makes classic queues, and adapters make others.
async fn declare_quorum(stage: &Arc<dyn Stage>, queue: &str) -> Result<(), lapin::Error> {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{Connection, ConnectionProperties};

    let url = variable(stage, "MESSAGING_CONFORMANCE_URL");
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    connection.close(200, "done".into()).await
}

async fn a_killed_server_comes_back(site: Site) -> Verdict {
    let stage = site.stage(&[Power::Kill, Power::Restart]).await?;
    let name = full(&stage);
    for how in [Power::Restart, Power::Kill] {
        let mut client = site.client(&stage).await?;
        if how == Power::Restart {
            client.create(&name).await?;
        }
        client.put(&name, "kept").await?;
        stage.restart(how).await?;
        let mut client = site.client(&stage).await?;
        assert_eq!(timeout(SURE, client.take(&name)).await??, "kept", "{how:?}");
        if site.kind == Kind::Kafka {
            // The raw client reads from the beginning.
            client.remove(&name).await?;
            client.create(&name).await?;
        }
    }
    finish([stage]).await
}

async fn a_cluster_loses_its_leader(site: Site) -> Verdict {
    let stage = site.stage(&[Power::LeaderLoss]).await?;
    let name = full(&stage);
    let mut client = site.client(&stage).await?;
    client.create(&name).await?;
    client.put(&name, "kept").await?;
    stage.lose_leader(&Destination::Queue(queue()), Duration::from_secs(1)).await?;
    let mut client = site.client(&stage).await?;
    assert_eq!(timeout(SURE, client.take(&name)).await??, "kept");
    finish([stage]).await
}

/// In the child the harness is begun in an environment with the parent's variables; here their meaning is looked at.
async fn a_child_is_led_to_the_same_place(site: Site) -> Verdict {
    let stage = site.stage(&[Power::Processes]).await?;
    site.client(&stage).await?.create(&full(&stage)).await?;
    let namespace = variable(&stage, "MESSAGING_CONFORMANCE_NAMESPACE");
    assert_eq!(full(&stage), format!("{namespace}--orders"));
    let mut as_a_child = raw::connect(site.kind, &variable(&stage, "MESSAGING_CONFORMANCE_URL"), None).await?;
    as_a_child.put(&full(&stage), "from a child").await?;
    let seen = stage.receive_raw(&queue(), &messaging_core::Message::new("")).await?;
    assert_eq!(seen.payload, b"from a child");
    finish([stage]).await
}

async fn wrong_addresses_are_wrong(site: Site) -> Verdict {
    let stage = site.stage(&[Power::WrongAddresses]).await?;
    let wrong = stage.wrong_addresses();
    let whats: Vec<_> = wrong.iter().map(|address| address.what).collect();
    for what in ["closed port", "an http server on the port", "wrong password", "encryption at a plain port"] {
        assert!(whats.contains(&what), "{what} is not among {whats:?}");
    }
    for address in wrong {
        // The driver of these tests connects nowhere; that an address is shown without its password is all it can prove.
        let error = stage.connect(address.options).await.unwrap_err().to_string();
        assert!(address.secret.is_none_or(|secret| !error.contains(secret)), "{error}");
    }
    finish([stage]).await
}

async fn nobody_consumes_what_is_new(site: Site) -> Verdict {
    let stage = site.stage(&[Power::CountConsumers]).await?;
    site.client(&stage).await?.create(&full(&stage)).await?;
    assert_eq!(stage.consumers(&Source::Queue(queue())).await?, 0);
    let topic = TopicName::parse("weather").unwrap();
    assert!(Destination::Topic(topic).to_string().contains("weather"));
    finish([stage]).await
}

async fn finish(stages: impl IntoIterator<Item = Arc<dyn Stage>>) -> Verdict {
    for stage in stages {
        assert_eq!(stage.sweep(&[]).await?, 0, "what is left over");
    }
    Ok(())
}
