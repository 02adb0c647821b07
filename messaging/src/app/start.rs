//! Starting: brokers, checks, publishers, consumers, workers, in this order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use messaging_core::{
    Broker, BrokerName, ConnectOptions, Consumer, Destination, ErrorKind, Feature, Place, Registry, Requirements,
    Result,
};
use tokio::time::Instant;

use super::Listener;
use super::health::ListenerState;
use super::intake::{Counted, Intake, Shared};
use super::ledger::ListenerCounters;
use super::listener::AppLayer;
use super::plan::{Faults, Open, Plan};
use super::publishing::{BindingPublisher, Publishers};
use super::running::{RunningApp, RunningListener};
use super::settling::{Policy, Settling};
use super::stop::{Stop, StopEar};
use super::worker::Worker;
use crate::codec::Codecs;
use crate::config::Config;
use crate::extract::{ListenerContext, States};

/// How a broker comes to be open.
pub(crate) enum OpenBroker {
    /// It is.
    Given(BrokerName, Arc<dyn Broker>),
    /// By connecting.
    Connect(Box<ConnectOptions>, Registry),
}

impl OpenBroker {
    pub(crate) fn name(&self) -> &BrokerName {
        match self {
            Self::Given(name, _) => name,
            Self::Connect(options, _) => &options.name,
        }
    }
}

/// Everything that an application starts with, besides its listeners.
pub(crate) struct Start {
    pub(crate) config: Config,
    pub(crate) opens: Vec<OpenBroker>,
    pub(crate) states: States,
    pub(crate) layers: Vec<AppLayer>,
    pub(crate) codecs: Codecs,
    pub(crate) publishers: Publishers,
    pub(crate) declared: Vec<BindingPublisher>,
    pub(crate) topics: BTreeSet<String>,
}

/// Listeners with what each comes to.
pub(crate) type Planned = Vec<(Plan, Listener)>;

type Brokers = BTreeMap<BrokerName, Arc<dyn Broker>>;

impl Start {
    pub(crate) async fn start(mut self, planned: Planned) -> Result<RunningApp> {
        let brokers = self.connect().await?;
        match self.start_on(&brokers, planned).await {
            Ok((listeners, stop)) => {
                Ok(RunningApp::new(listeners, brokers, self.publishers, stop, self.config.shutdown_timeout()))
            }
            Err(error) => {
                close(&brokers).await;
                Err(error)
            }
        }
    }

    async fn connect(&mut self) -> Result<Brokers> {
        let mut brokers = Brokers::new();
        for open in self.opens.drain(..) {
            let (name, broker) = match open {
                OpenBroker::Given(name, broker) => (name, Ok(broker)),
                OpenBroker::Connect(options, registry) => {
                    let name = options.name.clone();
                    (name, registry.connect(*options).await)
                }
            };
            match broker {
                Ok(broker) => drop(brokers.insert(name, broker)),
                Err(error) => {
                    close(&brokers).await;
                    return Err(error);
                }
            }
        }
        Ok(brokers)
    }

    async fn start_on(&mut self, brokers: &Brokers, mut planned: Planned) -> Result<(Vec<RunningListener>, Arc<Stop>)> {
        self.publishers.open(self.config.clone(), brokers.clone(), std::mem::take(&mut self.topics));
        self.check(brokers, &mut planned)?;
        // Apart, since a listener must not be shared while something is waited for: handlers need not be `Sync`.
        let (plans, mounted): (Vec<Plan>, Vec<Listener>) = planned.into_iter().unzip();
        for declared in &self.declared {
            declared.opened(self.publishers.to(declared.binding()).await?);
        }
        let mut consumers = Vec::with_capacity(plans.len());
        for plan in &plans {
            consumers.push(open(brokers, plan).await.map_err(|error| error.with_context("listener", &plan.id))?);
        }
        // From here on nothing fails: either all listeners run or none.
        let (states, codecs) = (Arc::new(std::mem::take(&mut self.states)), Arc::new(self.codecs.clone()));
        let stop = Arc::new(Stop::default());
        let listeners = plans.into_iter().zip(mounted).zip(consumers).map(|((plan, listener), consumer)| {
            let id: Arc<str> = plan.id.as_str().into();
            let publishers = self.publishers.clone();
            let context = Arc::new(ListenerContext { id, states: states.clone(), publishers, codecs: codecs.clone() });
            run(plan, listener, consumer, context, &self.layers, &stop)
        });
        Ok((listeners.collect(), stop.clone()))
    }

    /// Everything that is needed of the brokers, of all listeners and publishers at once.
    fn check(&self, brokers: &Brokers, planned: &mut [(Plan, Listener)]) -> Result<()> {
        let mut faults = Faults::default();
        for (plan, _) in planned {
            match brokers.get(&plan.broker) {
                Some(broker) => {
                    let capabilities = broker.capabilities(plan.place());
                    plan.check(&capabilities, &mut faults);
                }
                None => faults.add(
                    ErrorKind::NotFound,
                    format!("listener {:?}: its broker {:?} is not configured", plan.id, plan.broker.as_str()),
                ),
            }
        }
        for declared in &self.declared {
            self.check_publisher(declared.binding(), &mut faults);
        }
        faults.into_result()
    }

    fn check_publisher(&self, binding: &str, faults: &mut Faults) {
        let who = format!("publisher to {binding:?}");
        let (broker, destination, options) = match self.publishers.target(binding) {
            Ok(target) => target,
            Err(error) => return faults.add_of(&who, error),
        };
        let capabilities = broker.capabilities(Place::Publish(&destination, &options));
        let kind = match destination {
            Destination::Topic(_) => Feature::Topic,
            _ => Feature::Queue,
        };
        let needs = Requirements::none().with(kind).and(&Requirements::of_publish(&options));
        for why in needs.unmet(&capabilities) {
            faults
                .add(ErrorKind::Unsupported, format!("{who} on broker {:?}: {why}", broker.identity().name().as_str()));
        }
    }
}

async fn open(brokers: &Brokers, plan: &Plan) -> Result<Consumer> {
    // `check` found every broker.
    let Some(broker) = brokers.get(&plan.broker) else {
        return Err(messaging_core::Error::new(ErrorKind::Internal, "a broker went missing between check and use"));
    };
    match &plan.open {
        Open::Queue(queue, options) => broker.consume(queue, options.clone()).await,
        Open::Topic(topic, options) => broker.subscribe(topic, options.clone()).await,
    }
}

/// Starts the workers of one listener.
fn run(
    plan: Plan,
    listener: Listener,
    consumer: Consumer,
    context: Arc<ListenerContext>,
    layers: &[AppLayer],
    stop: &Arc<Stop>,
) -> RunningListener {
    let control = consumer.control();
    let policy = Arc::new(Policy {
        id: context.id.clone(),
        retry: plan.retry,
        dead_letter: plan.dead_letter,
        timeout: plan.timeout,
        longest_retry: consumer.capabilities().longest_retry(),
        state: ListenerState::default(),
    });
    let counters = ListenerCounters::new(plan.concurrency);
    let (shared, intakes) = intakes(consumer, plan.concurrency);
    let workers = intakes.into_iter().enumerate().map(|(index, intake)| Worker {
        intake,
        settling: Settling::new(policy.clone(), counters.worker(index).clone()),
        ear: StopEar::new(stop),
        context: context.clone(),
        ack: plan.ack,
    });
    let tasks = listener.tasks(layers, workers.collect()).into_iter().map(tokio::spawn).collect();
    RunningListener { policy, counters, control, shared, tasks }
}

/// One way to the deliveries for each worker.
fn intakes(consumer: Consumer, workers: usize) -> (Option<Arc<Shared>>, Vec<Intake>) {
    if workers == 1 {
        return (None, vec![Intake::Own(Counted::new(consumer))]);
    }
    let shared = Shared::new(consumer, workers);
    let seats = (0..workers).map(|index| Intake::Shared(shared.seat(index))).collect();
    (Some(shared), seats)
}

/// Gives up on brokers that were opened for nothing.
async fn close(brokers: &Brokers) {
    for broker in brokers.values() {
        let report = broker.close(Instant::now()).await;
        for error in report.errors {
            tracing::debug!(broker = broker.identity().name().as_str(), %error, "closing after a failed start");
        }
    }
}
