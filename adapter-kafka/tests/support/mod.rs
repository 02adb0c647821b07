//! What the tests of the adapter's own share: a broker, names, and cases that end as ignored where there is no broker.

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use integration_tests::{Broker as Server, Kind};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use messaging_core::{Broker, BrokerUrl, ConnectOptions, Registry, Settings};

pub(crate) type Tested = Pin<Box<dyn Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send>>;

/// A case: its name, and what tries it.
pub(crate) type Case = (&'static str, fn() -> Tested);

/// Runs cases, each on a runtime of its own.
pub(crate) fn run(cases: &'static [Case]) -> ExitCode {
    let trials = cases.iter().map(|(name, case)| {
        Trial::ignorable_test(*name, move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            match runtime.block_on(case()) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => match error.downcast_ref::<integration_tests::Error>() {
                    Some(missing) if missing.may_be_ignored() => Ok(Completion::ignored_with(missing.to_string())),
                    _ => Err(Failed::from(error)),
                },
            }
        })
    });
    let trials = trials.collect();
    // One after the other: a case that counts threads counts those of its own.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The server that all cases of a program share.
pub(crate) async fn server() -> Result<Arc<dyn Server>, integration_tests::Error> {
    integration_tests::shared(Kind::Kafka).await
}

/// A name that nobody has used.
pub(crate) fn fresh(stem: &str) -> String {
    format!("{stem}-{}", uuid::Uuid::new_v4().simple())
}

/// Connects with settings.
pub(crate) async fn connect<const N: usize>(
    url: &str,
    settings: [(&str, &str); N],
) -> messaging_core::Result<Arc<dyn Broker>> {
    let options = ConnectOptions::new(BrokerUrl::parse(url)?).with_settings(Settings::new("the test", settings));
    Registry::new().with(adapter_kafka::DRIVER)?.connect(options).await
}
