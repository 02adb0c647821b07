//! The broker that both sides use, and the runtime that both run on.

use std::future::Future;
use std::sync::Arc;

use integration_tests::Kind;
use messaging::{Broker, BrokerUrl, ConnectOptions};
use tokio::runtime::Runtime;

use crate::flavour::Flavour;

/// One broker for the whole run.
pub(crate) struct Site {
    runtime: Runtime,
    pub(crate) url: String,
    /// Ends the broker with the run, if it is ours.
    _broker: Option<Arc<dyn integration_tests::Broker>>,
}

impl Site {
    /// The broker at the address; without one that of the environment, or one of our own.
    pub(crate) fn find(kind: Kind, url: Option<&str>) -> Self {
        let runtime = Flavour::TwoThreads.runtime();
        if let Some(url) = url {
            return Self { runtime, url: url.to_owned(), _broker: None };
        }
        let broker = runtime.block_on(integration_tests::shared(kind)).unwrap();
        eprintln!("{kind}: {}", broker.way());
        Self { runtime, url: broker.url(), _broker: Some(broker) }
    }

    /// Runs it as a task, on the runtime's own threads, as an application's tasks run.
    pub(crate) fn run<T: Send + 'static>(&self, act: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.block_on(self.runtime.spawn(act)).unwrap()
    }

    /// Opens a broker of ours there, by the drivers of this build.
    pub(crate) async fn open(options: ConnectOptions) -> Arc<dyn Broker> {
        messaging::Registry::new().with(adapter_rabbitmq::DRIVER).unwrap().connect(options).await.unwrap()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::new(BrokerUrl::parse(&self.url).unwrap())
    }
}
