//! What is declared at the broker: made, verified or assumed, and never changed or deleted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};
use messaging_core::{Destination, Error, ErrorKind, Order, Result, Source, SubjectFilter, TopicName, TopologyMode};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::config::{Config, DestinationOptions, QueueType};
use crate::connection::{Line, Link};
use crate::convert::Reading;
use crate::error::{Call, from_lapin, silent};
use crate::layout::{Names, filter_marker, lane_count_marker, lane_name, lanes_marker, short};

/// How long to wait before a call is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// Declares what destinations and sources need.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) link: Arc<Link>,
    pub(crate) config: Arc<Config>,
    pub(crate) names: Names,
    pub(crate) mode: TopologyMode,
    /// Until when quorum queues made here are too young to be trusted.
    young: Mutex<HashMap<String, Instant>>,
}

/// A queue as it should be.
#[derive(Clone, Debug)]
pub(crate) struct QueueDeclaration {
    pub(crate) name: String,
    pub(crate) arguments: FieldTable,
    pub(crate) queue_type: QueueType,
}

/// What binds a queue to an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) queue: String,
    pub(crate) exchange: String,
    pub(crate) key: String,
    pub(crate) arguments: FieldTable,
}

impl Binding {
    /// Of an exchange that looks at no key.
    pub(crate) fn of_all(queue: &str, exchange: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            exchange: exchange.to_owned(),
            key: String::new(),
            arguments: FieldTable::default(),
        }
    }
}

/// What making sure of something came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was there.
    There,
    /// It was made.
    Made,
}

impl Topology {
    pub(crate) fn new(link: Arc<Link>, config: Arc<Config>, names: Names, mode: TopologyMode) -> Self {
        Self { link, config, names, mode, young: Mutex::default() }
    }

    /// Calls to the broker, on channels of their own: a refused call ends its channel.
    pub(crate) fn session(&self) -> Session<'_> {
        Session { topology: self, channel: None }
    }

    /// Makes sure of what publishers to a destination need. Returns whether a topic's exchange had to be made.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Mismatch`] by the topology mode; what kept the broker from answering.
    pub(crate) async fn destination(&self, destination: &Destination) -> Result<Found> {
        if self.mode == TopologyMode::Assume {
            return Ok(Found::There);
        }
        let mut session = self.session();
        let found = match destination {
            Destination::Queue(queue) => {
                self.queues(&mut session, &Source::Queue(queue.clone())).await?;
                Found::There
            }
            Destination::Topic(topic) => self.exchange(&mut session, topic).await?,
            Destination::Reply(_) => Found::There,
        };
        session.close().await;
        self.grown_up().await;
        Ok(found)
    }

    /// Makes sure of a queue or a durable subscription, and returns the names of its queues.
    ///
    /// # Errors
    /// As for [`destination`](Self::destination).
    pub(crate) async fn source(&self, source: &Source, filter: Option<&SubjectFilter>) -> Result<Vec<String>> {
        let queues = self.queue_names(source);
        if self.mode == TopologyMode::Assume {
            return Ok(queues);
        }
        let mut session = self.session();
        match source {
            Source::Queue(_) => self.queues(&mut session, source).await?,
            Source::Subscription(topic, _) => {
                self.exchange(&mut session, topic).await?;
                self.subscription(&mut session, source, topic, filter).await?;
            }
        }
        session.close().await;
        self.grown_up().await;
        Ok(queues)
    }

    /// The names of a source's queues.
    pub(crate) fn queue_names(&self, source: &Source) -> Vec<String> {
        let base = self.names.source(source, &self.config);
        let options = self.options_of(source);
        match options.order {
            Order::ByKey => (0..options.lanes).map(|lane| lane_name(&base, lane)).collect(),
            Order::None => vec![base],
        }
    }

    pub(crate) fn options_of(&self, source: &Source) -> &DestinationOptions {
        self.config.destination(&match source {
            Source::Queue(queue) => Destination::Queue(queue.clone()),
            Source::Subscription(topic, _) => Destination::Topic(topic.clone()),
        })
    }

    /// How deliveries of a source are read.
    pub(crate) fn reading(&self, source: &Source) -> Reading {
        let options = self.options_of(source);
        let exchange = match source {
            Source::Subscription(topic, _) => Some(short(&self.names.exchange(topic, options))),
            Source::Queue(_) => None,
        };
        Reading { exchange, lanes: options.order == Order::ByKey, counts: options.queue_type == QueueType::Quorum }
    }

    /// The queues of a source and its dead letter, as they should be; the dead letter first.
    pub(crate) fn declarations(&self, source: &Source) -> Vec<QueueDeclaration> {
        let options = self.options_of(source);
        let dead = self.names.dead(source);
        let mut all = vec![dead_letter_declaration(&dead, options.queue_type)];
        for name in self.queue_names(source) {
            all.push(live_declaration(name, &dead, options));
        }
        all
    }

    /// What binds a subscription's queues to its topic.
    fn bindings(&self, source: &Source, topic: &TopicName, filter: Option<&SubjectFilter>) -> Vec<Binding> {
        let options = self.options_of(source);
        let pattern = filter.map_or(options.key_of_all(), SubjectFilter::as_str);
        let exchange = self.names.exchange(topic, options);
        let queues = self.queue_names(source).into_iter().enumerate();
        queues
            .map(|(lane, queue)| Binding {
                queue,
                exchange: exchange.clone(),
                key: match options.order {
                    Order::ByKey => format!("{lane}.{pattern}"),
                    Order::None => pattern.to_owned(),
                },
                arguments: table(&options.binding_arguments),
            })
            .collect()
    }

    /// Binds a subscription again: whoever deleted and made the exchange anew took the bindings with it. Changes nothing where
    /// all is well.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the exchange is gone.
    pub(crate) async fn rebind(&self, source: &Source, filter: Option<&SubjectFilter>) -> Result<()> {
        let Source::Subscription(topic, _) = source else { return Ok(()) };
        if self.mode != TopologyMode::Create {
            return Ok(());
        }
        let mut session = self.session();
        for binding in self.bindings(source, topic, filter) {
            session.bind_queue(&binding).await?;
        }
        session.close().await;
        Ok(())
    }

    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one of them is gone.
    pub(crate) async fn bind(&self, binding: &Binding) -> Result<()> {
        let mut session = self.session();
        session.bind_queue(binding).await?;
        session.close().await;
        Ok(())
    }

    async fn queues(&self, session: &mut Session<'_>, source: &Source) -> Result<()> {
        let options = self.options_of(source);
        if let Some(native) = &options.native {
            session.must_exist(native).await?;
            // Ours all the same: without it a dead letter would have nowhere to go, and its message would come again for ever.
            let dead = dead_letter_declaration(&self.names.dead(source), options.queue_type);
            return session.ensure(&[dead]).await;
        }
        let base = self.names.source(source, &self.config);
        self.layout(session, &base, options, &source.to_string()).await?;
        session.ensure(&self.declarations(source)).await
    }

    async fn subscription(
        &self,
        session: &mut Session<'_>,
        source: &Source,
        topic: &TopicName,
        filter: Option<&SubjectFilter>,
    ) -> Result<()> {
        let options = self.options_of(source);
        let base = self.names.source(source, &self.config);
        self.layout(session, &base, options, &source.to_string()).await?;
        let marker = filter_marker(&base, filter);
        let first = &self.queue_names(source)[0];
        let marked = session.exchange_exists(&marker).await?;
        if !marked && session.queue(first).await?.is_some() {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "{source} exists with another filter than {:?}: subscribe with the same, use another name, or unsubscribe first; nothing was changed",
                    filter.map_or("#", SubjectFilter::as_str)
                ),
            ));
        }
        if !marked && self.mode == TopologyMode::Create {
            session.declare_exchange(&marker, "fanout", true).await?;
        }
        session.ensure(&self.declarations(source)).await?;
        if self.mode == TopologyMode::Create {
            // Goes with the queue: an exchange that deletes itself with its last binding.
            session.bind_queue(&Binding::of_all(first, &marker)).await?;
            for binding in self.bindings(source, topic, filter) {
                session.bind_queue(&binding).await?;
            }
        }
        Ok(())
    }

    async fn exchange(&self, session: &mut Session<'_>, topic: &TopicName) -> Result<Found> {
        let destination = Destination::Topic(topic.clone());
        let options = self.config.destination(&destination);
        if let Some(native) = &options.native {
            return if session.exchange_exists(native).await? {
                Ok(Found::There)
            } else {
                Err(missing("exchange", native))
            };
        }
        let plain = DestinationOptions { order: Order::None, ..options.clone() };
        let base = self.names.exchange(topic, &plain);
        if options.order == Order::ByKey && session.exchange_exists(&base).await? {
            return Err(other_layout(&destination.to_string(), "leave out order_by = \"key\""));
        }
        self.layout(session, &base, options, &destination.to_string()).await?;
        let name = self.names.exchange(topic, options);
        let kind = if options.order == Order::ByKey { "topic" } else { options.exchange_type.as_str() };
        let there = session.exchange_exists(&name).await?;
        if !there && self.mode == TopologyMode::Verify {
            return Err(missing("exchange", &name));
        }
        session.declare_exchange(&name, kind, false).await?;
        Ok(if there { Found::There } else { Found::Made })
    }

    /// Keeps the two layouts of one name apart: over lanes, and not. A publisher of the one would not be heard by the other.
    async fn layout(
        &self,
        session: &mut Session<'_>,
        base: &str,
        options: &DestinationOptions,
        what: &str,
    ) -> Result<()> {
        let marker = lanes_marker(base);
        let over_lanes = session.exchange_exists(&marker).await?;
        if options.order == Order::None {
            return if over_lanes { Err(other_layout(what, "set order_by = \"key\" for it")) } else { Ok(()) };
        }
        let count = lane_count_marker(base, options.lanes);
        if over_lanes && !session.exchange_exists(&count).await? {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "{what} is spread over another number of lanes than {}: set lanes as it was; nothing was changed",
                    options.lanes
                ),
            ));
        }
        if !over_lanes && session.queue(base).await?.is_some() {
            return Err(other_layout(what, "leave out order_by = \"key\""));
        }
        if !over_lanes && self.mode == TopologyMode::Create {
            // The count first: whoever sees the marker sees the count too.
            session.declare_exchange(&count, "fanout", false).await?;
            session.declare_exchange(&marker, "topic", false).await?;
        }
        Ok(())
    }

    /// Waits until every quorum queue made here is old enough.
    ///
    /// One younger than about two seconds is lost with all it holds if its node is killed (RabbitMQ 4.0.5, measured).
    async fn grown_up(&self) {
        let last = {
            let mut young = self.young.lock();
            let now = Instant::now();
            young.retain(|_, until| *until > now);
            young.values().max().copied()
        };
        if let Some(last) = last {
            sleep_until(last).await;
        }
    }
}

fn other_layout(what: &str, next: &str) -> Error {
    Error::new(
        ErrorKind::Mismatch,
        format!("{what} exists and is laid out in another way, with or without key order: {next}; nothing was changed"),
    )
}

fn missing(what: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("there is no {what} {name:?}: make it, or set topology = \"create\" to have it made"),
    )
}

fn live_declaration(name: String, dead: &str, options: &DestinationOptions) -> QueueDeclaration {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(options.queue_type.as_str()));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(dead));
    if options.queue_type == QueueType::Quorum {
        let limit = options.delivery_limit.map_or(-1, i64::from);
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        at_least_once(&mut arguments);
    }
    if options.order == Order::ByKey {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    for (key, value) in &options.arguments {
        arguments.insert(short(key), value_of(value));
    }
    QueueDeclaration { name, arguments, queue_type: options.queue_type }
}

fn dead_letter_declaration(name: &str, queue_type: QueueType) -> QueueDeclaration {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(queue_type.as_str()));
    if queue_type == QueueType::Quorum {
        // Looking at dead letters counts as delivering them: with a limit they would vanish for being looked at.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    QueueDeclaration { name: name.to_owned(), arguments, queue_type }
}

/// The broker's own dead-lettering loses messages unless a quorum queue does it in this way.
pub(crate) fn at_least_once(arguments: &mut FieldTable) {
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

pub(crate) fn table(values: &BTreeMap<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in values {
        table.insert(short(key), value_of(value));
    }
    table
}

fn value_of(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(value) => text(value),
        Value::Array(values) => {
            let mut array = FieldArray::default();
            values.iter().for_each(|value| array.push(value_of(value)));
            AMQPValue::FieldArray(array)
        }
        Value::Object(values) => {
            let mut table = FieldTable::default();
            for (key, value) in values {
                table.insert(short(key), value_of(value));
            }
            AMQPValue::FieldTable(table)
        }
    }
}

/// How many messages a queue has ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueState {
    pub(crate) ready: u64,
}

/// Calls in a row, on one channel until a refused call ends it.
pub(crate) struct Session<'a> {
    topology: &'a Topology,
    channel: Option<Line>,
}

impl Session<'_> {
    /// Runs one call, again if the connection is lost meanwhile: every call here comes to the same when it is repeated.
    pub(crate) async fn call<T, F: Future<Output = lapin::Result<T>> + Send>(
        &mut self,
        what: &str,
        call: Call,
        run: impl Fn(Channel) -> F,
    ) -> Result<T> {
        let limit = self.topology.config.request_timeout;
        let by = Instant::now() + limit;
        loop {
            let error = match timeout_at(by, self.call_once(by, call, &run)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(silent(what, limit)),
            };
            if error.kind() != ErrorKind::Disconnected || Instant::now() + PAUSE > by {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    async fn call_once<T, F: Future<Output = lapin::Result<T>> + Send>(
        &mut self,
        by: Instant,
        call: Call,
        run: impl Fn(Channel) -> F,
    ) -> Result<T> {
        let channel = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.topology.link.channel(by).await?,
        };
        let answered = channel.unless_lost(run(Channel::clone(&channel))).await?;
        let answer = answered.map_err(|error| from_lapin(&error, call))?;
        self.channel = Some(channel);
        Ok(answer)
    }

    /// What is known of a queue; none if it is not there.
    pub(crate) async fn queue(&mut self, name: &str) -> Result<Option<QueueState>> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self
            .call("looking for a queue", Call::Declare, |channel| {
                let name = short(name);
                async move { channel.queue_declare(name, options, FieldTable::default()).await }
            })
            .await;
        match declared {
            Ok(queue) => Ok(Some(QueueState { ready: u64::from(queue.message_count()) })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn must_exist(&mut self, name: &str) -> Result<()> {
        match self.queue(name).await? {
            Some(_) => Ok(()),
            None => Err(missing("queue", name)),
        }
    }

    pub(crate) async fn exchange_exists(&mut self, name: &str) -> Result<bool> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let declared = self
            .call("looking for an exchange", Call::Declare, |channel| {
                let name = short(name);
                async move { channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await }
            })
            .await;
        match declared {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes sure of queues by the topology mode, and compares their arguments.
    pub(crate) async fn ensure(&mut self, declarations: &[QueueDeclaration]) -> Result<()> {
        // What is there is compared before anything is made: a difference leaves nothing behind.
        let mut absent = Vec::new();
        for declaration in declarations {
            match self.queue(&declaration.name).await? {
                Some(_) => self.declare(declaration).await?,
                None => absent.push(declaration),
            }
        }
        for declaration in absent {
            if self.topology.mode == TopologyMode::Verify {
                return Err(missing("queue", &declaration.name));
            }
            self.declare(declaration).await?;
            if declaration.queue_type == QueueType::Quorum {
                let until = Instant::now() + self.topology.config.new_queue_wait;
                self.topology.young.lock().insert(declaration.name.clone(), until);
            }
        }
        Ok(())
    }

    /// Declares a queue: makes it, or compares its arguments with those of the one that is there.
    pub(crate) async fn declare(&mut self, declaration: &QueueDeclaration) -> Result<()> {
        let QueueDeclaration { name, arguments, queue_type: _ } = declaration;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.call("declaring a queue", Call::Declare, |channel| {
            let (name, arguments) = (short(name), arguments.clone());
            async move { channel.queue_declare(name, options, arguments).await }
        })
        .await
        .map(drop)
        .map_err(|error| mismatch(error, "queue", name))
    }

    pub(crate) async fn declare_exchange(&mut self, name: &str, kind: &str, auto_delete: bool) -> Result<()> {
        let options = ExchangeDeclareOptions { durable: true, auto_delete, ..ExchangeDeclareOptions::default() };
        let kind = match kind {
            "topic" => ExchangeKind::Topic,
            "fanout" => ExchangeKind::Fanout,
            "direct" => ExchangeKind::Direct,
            "headers" => ExchangeKind::Headers,
            other => ExchangeKind::Custom(other.to_owned()),
        };
        self.call("declaring an exchange", Call::Declare, |channel| {
            let (name, kind) = (short(name), kind.clone());
            async move { channel.exchange_declare(name, kind, options, FieldTable::default()).await }
        })
        .await
        .map_err(|error| mismatch(error, "exchange", name))
    }

    pub(crate) async fn bind_queue(&mut self, binding: &Binding) -> Result<()> {
        let Binding { queue, exchange, key, arguments } = binding;
        self.call("binding a queue", Call::Declare, |channel| {
            let (queue, exchange, key, arguments) = (short(queue), short(exchange), short(key), arguments.clone());
            async move { channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments).await }
        })
        .await
    }

    /// Lets what one exchange gets go to another too.
    pub(crate) async fn bind_exchange(&mut self, to: &str, from: &str) -> Result<()> {
        self.call("binding an exchange", Call::Declare, |channel| {
            let (to, from) = (short(to), short(from));
            async move {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to, from, short(""), options, FieldTable::default()).await
            }
        })
        .await
    }

    pub(crate) async fn delete_queue(&mut self, name: &str) -> Result<u64> {
        self.call("deleting a queue", Call::Other, |channel| {
            let name = short(name);
            async move { channel.queue_delete(name, QueueDeleteOptions::default()).await }
        })
        .await
        .map(u64::from)
    }

    /// Gives the channel back to the broker.
    pub(crate) async fn close(self) {
        if let Some(channel) = self.channel {
            let _ = timeout(Duration::from_secs(1), channel.close(200, "done".into())).await;
        }
    }
}

/// Says which argument differs, and both values, from the broker's words.
fn mismatch(error: Error, what: &str, name: &str) -> Error {
    if error.kind() != ErrorKind::Mismatch {
        return error;
    }
    let said = error.text();
    let between = |from: &str, to: &str| {
        let start = said.find(from)? + from.len();
        let end = if to.is_empty() { said.len() } else { start + said[start..].find(to)? };
        Some(said[start..end].trim().to_owned())
    };
    let parts =
        (between("inequivalent arg '", "'"), between("received ", " but current is "), between(" but current is ", ""));
    let text = match parts {
        (Some(argument), Some(asked), Some(is)) => format!(
            "{what} {name:?} exists with {argument} {is}, the configuration asks for {asked}: set it as it is, or choose another name; nothing was changed"
        ),
        _ => format!("{what} {name:?} exists and differs: {said}; nothing was changed"),
    };
    Error::new(ErrorKind::Mismatch, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_both_values() {
        let said = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/': received 'quorum' but current is 'classic'";
        let error = mismatch(Error::new(ErrorKind::Mismatch, said), "queue", "orders");
        assert_eq!(
            error.text(),
            "queue \"orders\" exists with x-queue-type 'classic', the configuration asks for 'quorum': set it as it is, or choose another name; nothing was changed"
        );
    }
}
