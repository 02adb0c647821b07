//! What is declared at the broker: made, verified or assumed, and never changed or deleted.

mod declarations;
mod session;

use std::collections::HashMap;
use std::sync::Arc;

use messaging_core::{
    Destination, Error, ErrorKind, Names, Order, Result, Source, SubjectFilter, TopicName, TopologyMode,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::declarations::{Binding, QueueDeclaration, at_least_once, table, text};
use self::declarations::{dead_letter_declaration, live_declaration};
pub(crate) use self::session::Session;
use crate::config::{Config, DestinationOptions, QueueType};
use crate::connection::Link;
use crate::convert::Reading;
use crate::layout::{exchange_name, filter_marker, lane_count_marker, lane_name, lanes_marker, short};

/// Declares what destinations and sources need.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) link: Arc<Link>,
    pub(crate) config: Arc<Config>,
    pub(crate) names: Names,
    pub(crate) mode: TopologyMode,
    /// Until when quorum queues made here are too young to be trusted.
    provisional: Mutex<HashMap<String, Instant>>,
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
        Self { link, config, names, mode, provisional: Mutex::default() }
    }

    /// Calls to the broker, on channels of their own: a refused call ends its channel.
    pub(crate) fn session(&self) -> Session<'_> {
        Session { topology: self, link: &self.link, channel: None }
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
        self.await_age().await;
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
        self.await_age().await;
        Ok(queues)
    }

    /// The names of a source's queues.
    pub(crate) fn queue_names(&self, source: &Source) -> Vec<String> {
        let base = self.names.source(source);
        let options = self.options_of(source);
        match options.order {
            Order::ByKey => (0..options.lanes).map(|lane| lane_name(&base, lane)).collect(),
            Order::None => vec![base],
        }
    }

    /// The name of a topic's exchange.
    pub(crate) fn exchange_name(&self, topic: &TopicName) -> String {
        let options = self.config.destination(&Destination::Topic(topic.clone()));
        exchange_name(&self.names, topic, options.order)
    }

    pub(crate) fn options_of(&self, source: &Source) -> &DestinationOptions {
        self.config.destination(&match source {
            Source::Queue(queue) => Destination::Queue(queue.clone()),
            Source::Subscription(topic, _) => Destination::Topic(topic.clone()),
        })
    }

    /// How deliveries of a source are read.
    pub(crate) fn reading(&self, source: &Source) -> Result<Reading> {
        let options = self.options_of(source);
        let exchange = match source {
            Source::Subscription(topic, _) => Some(short("the name of an exchange", &self.exchange_name(topic))?),
            Source::Queue(_) => None,
        };
        Ok(Reading { exchange, lanes: options.order == Order::ByKey, counts: options.queue_type == QueueType::Quorum })
    }

    /// The queues of a source and its dead letter, as they should be; the dead letter first.
    pub(crate) fn declarations(&self, source: &Source) -> Result<Vec<QueueDeclaration>> {
        let options = self.options_of(source);
        let dead = self.names.dead(source);
        let mut all = vec![dead_letter_declaration(&dead, options.queue_type)];
        for name in self.queue_names(source) {
            all.push(live_declaration(name, &dead, options)?);
        }
        Ok(all)
    }

    /// What binds a subscription's queues to its topic.
    fn bindings(&self, source: &Source, topic: &TopicName, filter: Option<&SubjectFilter>) -> Result<Vec<Binding>> {
        let options = self.options_of(source);
        let pattern = filter.map_or(options.key_of_all(), SubjectFilter::as_str);
        let exchange = self.exchange_name(topic);
        let queues = self.queue_names(source).into_iter().enumerate();
        queues
            .map(|(lane, queue)| {
                let key = match options.order {
                    Order::ByKey => format!("{lane}.{pattern}"),
                    Order::None => pattern.to_owned(),
                };
                Ok(Binding { queue, exchange: exchange.clone(), key, arguments: table(&options.binding_arguments)? })
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
        for binding in self.bindings(source, topic, filter)? {
            session.bind_queue(&binding).await?;
        }
        session.close().await;
        Ok(())
    }

    /// Binds a queue to an exchange, on a connection that may use the queue.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one of them is gone.
    pub(crate) async fn bind(&self, link: &Link, binding: &Binding) -> Result<()> {
        let mut session = Session { topology: self, link, channel: None };
        session.bind_queue(binding).await?;
        session.close().await;
        Ok(())
    }

    /// Makes sure of the dead letter of a source.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] that names it where the topology mode is not to create; the broker's refusal otherwise.
    pub(crate) async fn dead_letter(&self, source: &Source) -> Result<()> {
        let name = self.names.dead(source);
        if self.mode != TopologyMode::Create {
            return Err(Error::missing(format_args!("the dead letter of {source}"), &name));
        }
        let mut session = self.session();
        session.ensure(&[dead_letter_declaration(&name, self.options_of(source).queue_type)]).await?;
        session.close().await;
        self.await_age().await;
        Ok(())
    }

    async fn queues(&self, session: &mut Session<'_>, source: &Source) -> Result<()> {
        let options = self.options_of(source);
        if let Source::Queue(queue) = source
            && let Some(native) = self.names.native(&Destination::Queue(queue.clone()))
        {
            session.must_exist(native).await?;
            // Ours all the same: without it a dead letter would have nowhere to go, and its message would come again for ever.
            let dead = dead_letter_declaration(&self.names.dead(source), options.queue_type);
            return session.ensure(&[dead]).await;
        }
        let base = self.names.source(source);
        self.layout(session, &base, options, &source.to_string()).await?;
        session.ensure(&self.declarations(source)?).await
    }

    async fn subscription(
        &self,
        session: &mut Session<'_>,
        source: &Source,
        topic: &TopicName,
        filter: Option<&SubjectFilter>,
    ) -> Result<()> {
        let options = self.options_of(source);
        let base = self.names.source(source);
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
        session.ensure(&self.declarations(source)?).await?;
        if self.mode == TopologyMode::Create {
            // Goes with the queue: an exchange that deletes itself with its last binding.
            session.bind_queue(&Binding::of_all(first, &marker)).await?;
            for binding in self.bindings(source, topic, filter)? {
                session.bind_queue(&binding).await?;
            }
        }
        Ok(())
    }

    async fn exchange(&self, session: &mut Session<'_>, topic: &TopicName) -> Result<Found> {
        let destination = Destination::Topic(topic.clone());
        let options = self.config.destination(&destination);
        if let Some(native) = self.names.native(&destination) {
            return if session.exchange_exists(native).await? {
                Ok(Found::There)
            } else {
                Err(Error::missing(&destination, native))
            };
        }
        let base = self.names.destination(&destination);
        if options.order == Order::ByKey && session.exchange_exists(&base).await? {
            return Err(other_layout(&destination.to_string(), "leave out order_by = \"key\""));
        }
        self.layout(session, &base, options, &destination.to_string()).await?;
        let name = self.exchange_name(topic);
        let kind = if options.order == Order::ByKey { "topic" } else { options.exchange_type.as_str() };
        let there = session.exchange_exists(&name).await?;
        if !there && self.mode == TopologyMode::Verify {
            return Err(Error::missing(&destination, &name));
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
    async fn await_age(&self) {
        let last = {
            let mut provisional = self.provisional.lock();
            let now = Instant::now();
            provisional.retain(|_, until| *until > now);
            provisional.values().max().copied()
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
