//! What a listener comes to once the configuration has had its say, with everything that is wrong about it.

use std::time::Duration;

use messaging_core::{
    BrokerName, Capabilities, ConsumeOptions, Destination, Error, ErrorKind, Feature, Lease, Need, Order, Place,
    QueueName, Requirements, Result, RetryMode, Start, SubjectFilter, SubscribeOptions, SubscriptionName,
};

use super::listen::ListenSource;
use super::{AckMode, DeadLetterPolicy, Listen, Listener, Retry};
use crate::config::{Config, ListenerConfig, RetryConfig, UsedAs};
use crate::extract::States;

/// The default prefetch where the concurrency does not ask for more.
const PREFETCH: usize = 64;

/// A listener as it will run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) broker: BrokerName,
    pub(crate) destination: Destination,
    pub(crate) open: Open,
    pub(crate) concurrency: usize,
    /// Whether someone chose the prefetch; the default bows to a broker's limit.
    prefetch_chosen: bool,
    pub(crate) retry: Retry,
    pub(crate) dead_letter: DeadLetterPolicy,
    pub(crate) ack: AckMode,
    pub(crate) timeout: Option<Duration>,
}

/// How its consumer is opened.
#[derive(Debug)]
pub(crate) enum Open {
    Queue(QueueName, ConsumeOptions),
    Topic(messaging_core::TopicName, SubscribeOptions),
}

/// Everything that is wrong, with what to do about it.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Error>);

impl Faults {
    pub(crate) fn add(&mut self, kind: ErrorKind, text: String) {
        self.0.push(Error::new(kind, text));
    }

    /// Adds an error, told of one listener.
    pub(crate) fn add_of(&mut self, who: &str, error: Error) {
        self.0.push(Error::new(error.kind(), format!("{who}: {}", error.text())));
    }

    /// One error that tells all faults.
    pub(crate) fn into_result(self) -> Result<()> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let same = self.0.iter().all(|fault| fault.kind() == first.kind());
        let kind = if same { first.kind() } else { ErrorKind::Config };
        let text = match &self.0[..] {
            [only] => format!("the app cannot start: {}", only.text()),
            all => {
                let lines: Vec<String> = all.iter().map(|fault| format!("\n  {}", fault.text())).collect();
                format!("the app cannot start, for {} reasons:{}", all.len(), lines.concat())
            }
        };
        Err(Error::new(kind, text))
    }
}

impl Plan {
    /// Works out what a listener comes to; none if the configuration disables it, or something is wrong with it.
    pub(crate) fn of(listener: &Listener, config: &Config, states: &States, faults: &mut Faults) -> Option<Self> {
        let id = listener.id();
        let overrides = config.listener(&id);
        if overrides.enabled == Some(false) {
            return None;
        }
        let before = faults.0.len();
        let plan = Resolve { id: &id, listen: &listener.listen, overrides, faults }.plan(listener, config, states);
        if faults.0.len() == before { plan } else { None }
    }

    /// The place that the broker is asked about for this listener.
    pub(crate) fn place(&self) -> Place<'_> {
        match &self.open {
            Open::Queue(queue, options) => Place::Consume(queue, options),
            Open::Topic(topic, options) => Place::Subscribe(topic, options),
        }
    }

    /// Adjusts what was not chosen to what the broker can do, and tells every need that is not met.
    pub(crate) fn check(&mut self, capabilities: &Capabilities, faults: &mut Faults) {
        let limit = capabilities.limits.prefetch;
        let chosen = self.prefetch_chosen;
        let concurrency = self.concurrency;
        let consume = self.consume();
        if !chosen && consume.prefetch > limit && limit >= concurrency {
            consume.prefetch = limit;
        }
        let needs = match &self.open {
            Open::Queue(_, options) => {
                Requirements::none().with(Feature::Queue).and(&Requirements::of_consume(options))
            }
            Open::Topic(_, options) => {
                Requirements::none().with(Feature::Topic).and(&Requirements::of_subscribe(options))
            }
        };
        for need in needs.iter() {
            if let Some(why) = need.unmet(capabilities) {
                let next = match need {
                    Need::Feature(Feature::DeadLetter) => {
                        "; say dead_letter = \"discard\" to do without one: what cannot be handled is then lost"
                    }
                    Need::RetryDelay(_) => {
                        "; set retry.initial = \"0s\" to retry without waiting, or a shorter retry.max"
                    }
                    Need::Attempts(_) => "; set retry.attempts to 1 or 2",
                    _ => "",
                };
                faults.add(
                    ErrorKind::Unsupported,
                    format!("listener {:?} on broker {:?}: {why}{next}", self.id, self.broker.as_str()),
                );
            }
        }
    }

    fn consume(&mut self) -> &mut ConsumeOptions {
        match &mut self.open {
            Open::Queue(_, options) => options,
            Open::Topic(_, options) => &mut options.consume,
        }
    }
}

/// One listener being worked out.
struct Resolve<'a> {
    id: &'a str,
    listen: &'a Listen,
    overrides: ListenerConfig,
    faults: &'a mut Faults,
}

impl Resolve<'_> {
    fn plan(mut self, listener: &Listener, config: &Config, states: &States) -> Option<Plan> {
        self.check_id();
        if let Some(contradiction) = self.listen.contradiction {
            self.fault(contradiction.to_owned());
        }
        for state in listener.needs.missing_states(states) {
            self.fault(format!(
                "its handler asks for State<{state}>, and the app has none: give it one with App::state"
            ));
        }
        let ack = self.ack(listener.needs.settles());
        let concurrency = self.overrides.concurrency.or(self.listen.concurrency).unwrap_or(1);
        let prefetch_chosen = self.overrides.prefetch.or(self.listen.prefetch);
        let consume = self.consume(concurrency, prefetch_chosen, listener);
        let retry = self.retry();
        let timeout = self.timeout(consume.lease);
        let dead_letter = self.overrides.dead_letter.unwrap_or(self.listen.dead_letter);
        let mut requires = consume.requires.clone().and(&retry.needs());
        if dead_letter == DeadLetterPolicy::Keep {
            requires = requires.with(Feature::DeadLetter);
        }
        if dead_letter == DeadLetterPolicy::Keep && self.listen.source == ListenSource::Ephemeral {
            self.fault("an ephemeral subscription has no dead letter: say dead_letter = \"discard\", so that what cannot be handled is lost, or give the subscription a name".to_owned());
        }
        let (broker, destination, open) = self.open(config, consume.with_requires(requires))?;
        Some(Plan {
            id: self.id.to_owned(),
            broker,
            destination,
            open,
            concurrency,
            prefetch_chosen: prefetch_chosen.is_some(),
            retry,
            dead_letter,
            ack,
            timeout,
        })
    }

    fn check_id(&mut self) {
        // One that follows from other names is as valid as they are. An id is one name, or several joined as in
        // `weather--dashboard`.
        if self.listen.id.is_some() && !self.id.split("--").all(|part| QueueName::parse(part).is_ok()) {
            self.faults.add(
                ErrorKind::InvalidName,
                format!(
                    "listener {:?}: its id is not valid: use lower-case letters and digits, joined by single \".\" or \"-\", at most 60",
                    self.id
                ),
            );
        }
    }

    fn ack(&mut self, settles: usize) -> AckMode {
        let ack = self.overrides.ack.unwrap_or(self.listen.ack);
        match (ack, settles) {
            (AckMode::Manual, 0) => self.fault(
                "ack = manual leaves settling to its handler, which does not take `Settle`: add that argument, or use ack = on_success".to_owned(),
            ),
            (AckMode::OnSuccess, 1..) => self.fault(
                "its handler takes `Settle`, and ack = on_success settles for it: remove that argument, or use ack = manual".to_owned(),
            ),
            (AckMode::Manual, 2..) => self.fault(format!(
                "its handler takes `Settle` {settles} times, and a delivery is settled once: keep one of those arguments"
            )),
            _ => {}
        }
        ack
    }

    fn consume(&mut self, concurrency: usize, prefetch: Option<usize>, listener: &Listener) -> ConsumeOptions {
        if concurrency == 0 {
            self.fault("concurrency is 0: nothing would be handled; it must be at least 1".to_owned());
        }
        match prefetch {
            Some(0) => self.fault("prefetch is 0: nothing would be delivered; it must be at least 1".to_owned()),
            Some(prefetch) if prefetch < concurrency => self.fault(format!(
                "prefetch is {prefetch} and concurrency {concurrency}: some workers could never have a delivery; raise prefetch to at least {concurrency}, or lower concurrency"
            )),
            _ => {}
        }
        let order = self.overrides.order_by.or(self.listen.order_by).unwrap_or_default();
        let default_mode = if order == Order::ByKey { RetryMode::Hold } else { RetryMode::Requeue };
        let retry_mode = self.overrides.retry_mode.or(self.listen.retry_mode).unwrap_or(default_mode);
        match (order, retry_mode) {
            (Order::ByKey, RetryMode::Requeue) => self.fault(
                "order_by = key with retry_mode = requeue would break the order at the first retry: use retry_mode = hold, or give up the order".to_owned(),
            ),
            (Order::None, RetryMode::Hold) => self.fault(
                "retry_mode = hold keeps the order of a key: set order_by = key too, or use retry_mode = requeue".to_owned(),
            ),
            _ => {}
        }
        let mut requires = self.listen.requires.clone().and(listener.needs.requires());
        for feature in self.overrides.requires.iter().flatten() {
            requires = requires.with(*feature);
        }
        ConsumeOptions::default()
            .with_prefetch(prefetch.unwrap_or_else(|| PREFETCH.max(concurrency.saturating_mul(2))))
            .with_order(order)
            .with_retry_mode(retry_mode)
            .with_requires(requires)
    }

    fn retry(&mut self) -> Retry {
        let mut retry = self.listen.retry.clone();
        if let Some(overrides) = &self.overrides.retry {
            merge(&mut retry, overrides);
        }
        if let Some(fault) = retry.fault() {
            self.fault(fault);
        }
        retry
    }

    fn timeout(&mut self, lease: Lease) -> Option<Duration> {
        let timeout = self.overrides.timeout.or(self.listen.timeout)?;
        if timeout.is_zero() {
            self.fault("timeout is zero: no handler could finish; leave it out for no limit".to_owned());
        }
        if timeout > lease.max {
            self.fault(format!(
                "timeout is {timeout:?}, and a delivery is kept for at most {:?}: after that another would get it too; use a shorter one",
                lease.max
            ));
        }
        Some(timeout)
    }

    fn open(&mut self, config: &Config, consume: ConsumeOptions) -> Option<(BrokerName, Destination, Open)> {
        let used_as = match self.listen.source {
            ListenSource::Queue => UsedAs::Queue,
            _ => UsedAs::Topic,
        };
        let binding = match config.binding(&self.listen.binding, used_as) {
            Ok(binding) => binding,
            Err(error) => {
                self.faults.add_of(&format!("listener {:?}", self.id), error);
                return None;
            }
        };
        let filter = self.filter();
        let start = self.overrides.start.or(self.listen.start);
        let open = match &binding.destination {
            Destination::Queue(queue) => {
                if filter.is_some() {
                    self.fault(format!(
                        "filter selects subjects of a topic, and it listens to {}: remove it",
                        binding.destination
                    ));
                }
                if start.is_some() {
                    self.fault(format!(
                        "start is where a subscription begins, and it listens to {}: remove it",
                        binding.destination
                    ));
                }
                Open::Queue(queue.clone(), consume)
            }
            Destination::Topic(topic) => {
                let mut options = self.subscription(binding.subscription)?.with_consume(consume);
                options.filter = filter;
                options.start = start.unwrap_or_default();
                if self.listen.source == ListenSource::Ephemeral && options.start != Start::New {
                    self.fault("an ephemeral subscription sees only what is published while it is attached: give it a name, or remove start".to_owned());
                }
                Open::Topic(topic.clone(), options)
            }
            Destination::Reply(_) => {
                self.fault("its binding is a reply address, which nobody listens to".to_owned());
                return None;
            }
        };
        Some((binding.broker, binding.destination, open))
    }

    fn subscription(&mut self, bound: Option<SubscriptionName>) -> Option<SubscribeOptions> {
        match (&self.listen.source, bound) {
            (ListenSource::Ephemeral, _) => Some(SubscribeOptions::ephemeral()),
            (ListenSource::Subscription(Some(name)), _) => match SubscriptionName::parse(name) {
                Ok(name) => Some(SubscribeOptions::durable(name)),
                Err(error) => {
                    self.faults.add_of(&format!("listener {:?}", self.id), error);
                    None
                }
            },
            (_, Some(name)) => Some(SubscribeOptions::durable(name)),
            (_, None) => {
                self.fault(format!(
                    "it names no subscription of its topic: say .subscription(\"…\") or .ephemeral() in the code, or subscription = \"…\" under [bindings.{}]",
                    self.listen.binding
                ));
                None
            }
        }
    }

    fn filter(&mut self) -> Option<SubjectFilter> {
        if let Some(filter) = &self.overrides.filter {
            return Some(filter.clone());
        }
        match SubjectFilter::parse(self.listen.filter.as_deref()?) {
            Ok(filter) => Some(filter),
            Err(error) => {
                self.faults.add_of(&format!("listener {:?}", self.id), error);
                None
            }
        }
    }

    fn fault(&mut self, text: String) {
        self.faults.add(ErrorKind::Config, format!("listener {:?}: {text}", self.id));
    }
}

/// What the configuration says of retries wins, field by field.
fn merge(retry: &mut Retry, overrides: &RetryConfig) {
    let RetryConfig { attempts, initial, max, multiplier, jitter } = overrides;
    retry.attempts = attempts.unwrap_or(retry.attempts);
    retry.initial = initial.unwrap_or(retry.initial);
    retry.max = max.unwrap_or(retry.max);
    retry.multiplier = multiplier.unwrap_or(retry.multiplier);
    retry.jitter = jitter.unwrap_or(retry.jitter);
}
