//! Registering a consumer: its channel, its queues, and what comes from them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::{BoxStream, SelectAll, once, select_all};
use futures_util::{Stream, StreamExt};
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use messaging_core::{Destination, ErrorKind, Flow, Order, Result, SubjectFilter, TopicName};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::{Consumed, ConsumerContext, Plan};
use crate::connection::Line;
use crate::convert::Reading;
use crate::error::{Call, from_lapin, silent};
use crate::layout::short;
use crate::topology::{Binding, table, text};

/// How long the broker may take to close a channel that is given up; its successor does not wait longer.
const GOODBYE: Duration = Duration::from_secs(1);

/// A consumer that is registered at the broker.
pub(super) struct Attached {
    pub(super) channel: Line,
    pub(super) deliveries: Incoming,
    /// Tells of messages that an ephemeral subscription lost.
    pub(super) gaps: Option<lapin::Consumer>,
    /// What binds an ephemeral subscription.
    pub(super) binding: Option<Binding>,
    /// The queues, in the order of their lanes.
    pub(super) queues: Arc<[ShortString]>,
    /// What the broker calls its consumers; none while nothing is registered.
    pub(super) tags: Vec<ShortString>,
    pub(super) reading: Reading,
}

/// Makes sure of the topology, opens a channel and registers; while deliveries do not flow, all but the last.
pub(super) async fn attach(around: &ConsumerContext, plan: &Plan, member: &str, flow: Flow) -> Result<Attached> {
    let limit = around.topology.config.request_timeout;
    if let Consumed::Source { source, filter } = &plan.what {
        around.topology.source(source, filter.as_ref()).await?;
    }
    let channel = around.link.channel(Instant::now() + limit).await?;
    let mut registering = Registering { line: Some(channel.clone()), tasks: &around.tasks };
    let line = channel.clone();
    let attached = match timeout(limit, line.unless_lost(attach_on(around, plan, member, flow, channel))).await {
        Ok(registered) => registered??,
        // A quorum queue whose node was killed right after it was made answers to everything but this (RabbitMQ 4.0.5).
        Err(_) => return Err(silent("registering a consumer", limit)),
    };
    registering.line = None;
    Ok(attached)
}

/// Gives up the channel of a registration that fails, runs out of time, or is dropped before it is done.
struct Registering<'a> {
    line: Option<Line>,
    tasks: &'a TaskTracker,
}

impl Drop for Registering<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take()
            && let Ok(runtime) = Handle::try_current()
        {
            self.tasks.spawn_on(async move { give_up(&line).await }, &runtime);
        }
    }
}

/// Closes a channel, with all that is registered on it.
///
/// The client closes none of which it believes that it has a consumer (lapin 4.12), as when nobody waits any more for the
/// answer to a registration or a cancel: the consumer would get deliveries that nobody takes, for as long as the connection
/// lives.
pub(super) async fn give_up(line: &Line) {
    if line.status().connected() {
        let _ = timeout(GOODBYE, line.unless_lost(line.close(200, "given up".into()))).await;
    }
}

async fn attach_on(around: &ConsumerContext, plan: &Plan, member: &str, flow: Flow, channel: Line) -> Result<Attached> {
    let (queues, gaps, reading) = match &plan.what {
        Consumed::Source { source, filter: _ } => {
            let names = around.topology.queue_names(source);
            let queues = names.iter().map(|name| short("the name of a queue", name)).collect::<Result<Vec<_>>>()?;
            (queues, None, around.topology.reading(source)?)
        }
        Consumed::Ephemeral { topic, filter } => ephemeral(around, &channel, topic, filter.as_ref()).await?,
    };
    let consumers = match flow {
        Flow::Running => register(&channel, &queues, plan.prefetch, member).await?,
        Flow::Paused | Flow::Stopped => Vec::new(),
    };
    let (gaps, binding) = gaps.unzip();
    let (deliveries, tags) = (Incoming::of(Vec::new()), Vec::new());
    let mut attached = Attached { channel, deliveries, gaps, binding, queues: queues.into(), tags, reading };
    attached.take_over(consumers);
    Ok(attached)
}

/// What comes from one queue or several. A choice among several costs something for each delivery, so that one goes without.
pub(super) enum Incoming {
    One(lapin::Consumer),
    /// Each says when it ends: the choice alone would go on with the others, and a lane would be deaf.
    Several(SelectAll<BoxStream<'static, Option<Arrival>>>),
}

/// What a consumer of the client gives.
pub(super) type Arrival = lapin::Result<lapin::message::Delivery>;

impl Incoming {
    fn of(mut consumers: Vec<lapin::Consumer>) -> Self {
        match consumers.pop() {
            Some(only) if consumers.is_empty() => Self::One(only),
            last => Self::Several(select_all(
                consumers.into_iter().chain(last).map(|consumer| consumer.map(Some).chain(once(ready(None))).boxed()),
            )),
        }
    }
}

impl Stream for Incoming {
    type Item = Arrival;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::One(consumer) => consumer.poll_next_unpin(cx),
            Self::Several(consumers) => consumers.poll_next_unpin(cx).map(Option::flatten),
        }
    }
}

impl Attached {
    /// Deliveries come from these consumers from now on.
    pub(super) fn take_over(&mut self, consumers: Vec<lapin::Consumer>) {
        self.tags = consumers.iter().map(lapin::Consumer::tag).collect();
        self.deliveries = Incoming::of(consumers);
    }
}

/// Registers a consumer of each queue; together they are one.
pub(super) async fn register(
    channel: &Channel,
    queues: &[ShortString],
    prefetch: usize,
    member: &str,
) -> Result<Vec<lapin::Consumer>> {
    let prefetch = prefetch.div_ceil(queues.len().max(1)).min(usize::from(u16::MAX));
    qos(channel, u16::try_from(prefetch).unwrap_or(u16::MAX)).await?;
    let mut consumers = Vec::with_capacity(queues.len());
    for queue in queues {
        let mut arguments = FieldTable::default();
        if queues.len() > 1 {
            arguments.insert("x-priority".into(), AMQPValue::LongInt(rank(member, queue.as_str())));
        }
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(queue.clone(), ShortString::default(), options, arguments)
            .await
            .map_err(|error| from_lapin(&error, Call::Consume))?;
        consumers.push(consumer);
    }
    Ok(consumers)
}

pub(super) async fn qos(channel: &Channel, prefetch: u16) -> Result<()> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(|error| from_lapin(&error, Call::Consume))
}

/// How much a member wants a lane: each lane goes to the member that wants it most, and members want different ones, so that
/// they share the lanes out evenly, and a late member gets its part. RabbitMQ's `consumer_count` would not help: it shows 1
/// with three members (4.0.5).
fn rank(member: &str, queue: &str) -> i32 {
    let digest = Sha256::digest(format!("{member}/{queue}").as_bytes());
    // Below what a flush consumes with stays free.
    i32::from_be_bytes([0, digest[0], digest[1], digest[2]])
}

type Queues = (Vec<ShortString>, Option<(lapin::Consumer, Binding)>, Reading);

/// An exclusive queue that goes with this consumer, bound to the topic. What exceeds its bound falls into a second one, which
/// holds one message: whatever arrives there says that some were lost.
async fn ephemeral(
    around: &ConsumerContext,
    channel: &Channel,
    topic: &TopicName,
    filter: Option<&SubjectFilter>,
) -> Result<Queues> {
    let destination = Destination::Topic(topic.clone());
    around.topology.destination(&destination).await?;
    let options = around.topology.config.destination(&destination);
    let exchange = short("the name of an exchange", &around.topology.exchange_name(topic))?;
    let lost = declare_exclusive(channel, [("x-max-length", AMQPValue::LongLongInt(1))]).await?;
    let bounds = [
        ("x-max-length", AMQPValue::LongLongInt(i64::from(options.ephemeral_lag))),
        ("x-overflow", text("drop-head")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(lost.as_str())),
    ];
    let queue = declare_exclusive(channel, bounds).await?;
    let pattern = filter.map_or(options.key_of_all(), SubjectFilter::as_str);
    let lanes = options.order == Order::ByKey;
    let binding = Binding {
        queue: queue.to_string(),
        exchange: exchange.to_string(),
        key: if lanes { format!("*.{pattern}") } else { pattern.to_owned() },
        arguments: table(&options.binding_arguments)?,
    };
    // On this connection: the queue is exclusive to it.
    around.topology.bind(&around.link, &binding).await?;
    let consume = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let gaps = channel
        .basic_consume(lost, ShortString::default(), consume, FieldTable::default())
        .await
        .map_err(|error| from_lapin(&error, Call::Consume))?;
    Ok((vec![queue], Some((gaps, binding)), Reading { exchange: Some(exchange), lanes, counts: false }))
}

async fn declare_exclusive<const N: usize>(
    channel: &Channel,
    arguments: [(&'static str, AMQPValue); N],
) -> Result<ShortString> {
    let mut all = FieldTable::default();
    for (name, value) in arguments {
        all.insert(name.into(), value);
    }
    // Classic, because quorum queues cannot be exclusive, and RabbitMQ 4.3 refuses transient ones that are not.
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(ShortString::default(), options, all).await;
    declared.map(|queue| queue.name().clone()).map_err(|error| from_lapin(&error, Call::Declare))
}

/// Makes sure that a subscription is bound to its topic's exchange. Returns whether the exchange was gone.
pub(super) async fn bind_again(around: ConsumerContext, what: Consumed, binding: Option<Binding>) -> Result<bool> {
    let topology = &around.topology;
    match (&what, &binding) {
        (Consumed::Source { source, filter }, _) => match topology.rebind(source, filter.as_ref()).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut session = topology.session();
                let there = session.queue(&topology.queue_names(source)[0]).await?.is_some();
                session.close().await;
                // Without its queue the subscription was ended, and must not come back: the broker cancels the consumer.
                if there { topology.source(source, filter.as_ref()).await.map(|_| true) } else { Ok(false) }
            }
            other => other.map(|()| false),
        },
        (Consumed::Ephemeral { topic, .. }, Some(binding)) => match topology.bind(&around.link, binding).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                topology.destination(&Destination::Topic(topic.clone())).await?;
                topology.bind(&around.link, binding).await.map(|()| true)
            }
            other => other.map(|()| false),
        },
        (Consumed::Ephemeral { .. }, None) => Ok(false),
    }
}

/// How long giving back and flushing may take when nobody set a limit.
pub(super) const FINISH_WITHIN: Duration = Duration::from_secs(5);
