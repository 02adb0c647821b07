//! What the tests of the adapter's own share: a broker, names, and cases that end as ignored where there is no broker.

#![allow(dead_code, reason = "each test program uses its part")]

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use integration_tests::{Broker as Server, Kind};
use lapin::{Channel, Connection, ConnectionProperties};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, MessageId, Registry, Settings};
use serde_json::{Value, json};

pub(crate) type Checked<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
pub(crate) type Case = fn() -> Pin<Box<dyn Future<Output = Checked> + Send>>;

/// No case takes a third of this; one that hangs must not hang the run.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs cases, each on a runtime of its own.
pub(crate) fn run(cases: &'static [(&'static str, Case)]) -> ExitCode {
    let trials = cases.iter().map(|(name, case)| {
        Trial::ignorable_test(*name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let limited = async { tokio::time::timeout(LIMIT, case()).await };
            match runtime.block_on(limited) {
                Ok(Ok(())) => Ok(Completion::Completed),
                Ok(Err(error)) => match error.downcast_ref::<integration_tests::Error>() {
                    Some(missing) if missing.may_be_ignored() => Ok(Completion::ignored_with(missing.to_string())),
                    _ => Err(Failed::from(error)),
                },
                Err(_) => Err(Failed::from(format!("still at it after {LIMIT:?}"))),
            }
        })
    });
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    conclusion.exit_code()
}

/// The server that all cases of a program share.
pub(crate) async fn server() -> Result<Arc<dyn Server>, integration_tests::Error> {
    integration_tests::shared(Kind::RabbitMq).await
}

/// A name that nobody has used.
pub(crate) fn fresh(stem: &str) -> String {
    format!("{stem}-{}", MessageId::generate())
}

/// Options for an address, which wait for no queue to grow old: no node is killed here.
pub(crate) fn options(url: &str) -> Checked<ConnectOptions> {
    options_with(url, [])
}

/// The same, with more of the adapter's keys.
pub(crate) fn options_with<const N: usize>(url: &str, keys: [(&str, Value); N]) -> Checked<ConnectOptions> {
    let keys = keys.into_iter().chain([("new_queue_wait", json!("0s"))]);
    Ok(ConnectOptions::new(BrokerUrl::parse(url)?).with_settings(Settings::new("the test", keys)))
}

/// Connects by the adapter.
pub(crate) async fn connect(options: ConnectOptions) -> messaging_core::Result<Arc<dyn Broker>> {
    Registry::new().with(adapter_rabbitmq::DRIVER)?.connect(options).await
}

/// A channel of the client itself; its connection lives as long as the first.
pub(crate) async fn raw(url: &str) -> Checked<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}
